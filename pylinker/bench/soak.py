"""Everything at once, for as long as you like, with faults: loads, calls, threads, waits, closures, failing loads, interrupts, early ends.

A soak is made of rounds, each with a program of its own whose threads do things at random. At the
end of a round all tables must be the same, and everything given back; at the end of the soak memory
must not have grown. A seed repeats it as far as scheduling allows: each thread draws from a
generator made of the seed, the round and its own number.
"""

from __future__ import annotations

import gc
import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import wasmtime

import pylinker
from pylinker.bench.invariants import broken_invariants, held, table_of
from pylinker.bench.leaks import resident, settle
from pylinker.bench.location import guests
from pylinker.linker.groups.group import InstanceGroup
from pylinker.linker.plan.plan import LoadPlan
from pylinker.runtime.code import CodeCache
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.api.library import Library

__all__ = ["ALLOWED", "Progress", "Report", "Soak"]

ALLOWED = 16 << 20
"""Bytes by which resident memory may grow after the first fifth of a soak: rounds differ in how many threads and libraries they have."""

_LIBRARIES = {"libsoak.so": 6, "libsoaktls.so": 3, "libcallee.so": 0, "libsmall.so": 0}
"""What the rounds open, and under how many more names."""

_ROUND = 1.0  # seconds of doing things at random
_MEETING = 60.0  # seconds for all to come to the end of a round
_JOIN = 20.0  # seconds for a program's threads to end
_ONE_INT = FuncType(("i32",), ("i32",))
_IMPORTS = '(import "env" "memory" (memory 1 1024 shared))'
_FAILING = {
    "libundefined.so": f'{_IMPORTS} (import "GOT.mem" "nowhere" (global (mut i32)))',
    "libtrap.so": f'{_IMPORTS} (func (export "__wasm_call_ctors") unreachable)',
    "libhuge.so": f'{_IMPORTS} (import "env" "__memory_base" (global i32))',
    "libunshared.so": '(import "env" "memory" (memory 1))',
}


class InjectedError(Exception):
    """A fault that the soak has made."""


class ViolationError(AssertionError):
    """What must be true is not."""


_EXPECTED = (InjectedError, pylinker.LinkError, MemoryError, wasmtime.Trap)
"""What an injected fault, a failing load or a limit may come to."""


class Progress(Protocol):
    """Hears how far a soak is."""

    def start(self, count: int) -> None:
        """``count`` seconds will follow."""

    def begin(self, name: str) -> None:
        """A round of this kind begins."""

    def advance(self, parts: float) -> None:
        """So many seconds are over."""


@dataclass
class Report:
    """What a soak has found: ``failures`` are texts, ``done`` counts what was done, ``resident`` is in bytes, after each round."""

    seed: int
    seconds: float = 0.0
    rounds: int = 0
    done: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    resident: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def growth(self) -> int:
        """Bytes of resident memory from the first fifth of the rounds to the end; 0 for a soak too short to tell."""
        warm = max(5, len(self.resident) // 5)
        return self.resident[-1] - max(self.resident[:warm]) if len(self.resident) > warm else 0


class Soak:
    """Soaks for ``seconds`` with ``seed``, ``rounds`` at least.

    For the process's main thread: it is the one that can be interrupted.
    """

    def __init__(self, seconds: float, seed: int, progress: Progress, rounds: int = 1) -> None:
        self.report = Report(seed)
        self._seconds = seconds
        self._rounds = rounds
        self._progress = progress

    def run(self) -> Report:
        """Do rounds until the time is over and there were enough of them, or one has failed.

        Blocks. Returns the report.
        """
        report, began = self.report, time.monotonic()
        self._progress.start(int(self._seconds))
        settle()
        with TemporaryDirectory() as directory:
            fill(Path(directory))
            with _faults(report.faults):
                while not report.failures and (
                    report.rounds < self._rounds or time.monotonic() - began < self._seconds
                ):
                    before = time.monotonic()
                    self._round(Path(directory))
                    self._progress.advance(time.monotonic() - before)
        report.seconds = time.monotonic() - began
        if report.growth > ALLOWED:
            report.failures.append(f"resident memory has grown by {report.growth} bytes")
        return report

    def _round(self, directory: Path) -> None:
        report = self.report
        kind = _KINDS[report.rounds % len(_KINDS)]
        self._progress.begin(kind.__name__.strip("_").lower())
        each = kind(directory, f"{report.seed} {report.rounds}", report.done)
        try:
            each.run()
        except BaseException as error:  # noqa: BLE001 - a report of the round is what is wanted
            each.failures.append(error)
        report.failures += [
            f"round {report.rounds}, {each!r}: {''.join(traceback.format_exception(error))}"
            for error in each.failures
        ]
        report.rounds += 1
        report.done[kind.__name__] += 1
        del each
        settle()
        report.resident.append(resident())


def fill(directory: Path) -> None:
    """Write the libraries that are opened: the shipped ones under several names, and those that cannot be loaded."""
    guest = guests()
    for name, more in _LIBRARIES.items():
        for number in range(more + 1):
            (directory / (name.replace(".so", f"{number}.so") if number else name)).write_bytes(
                (guest / name).read_bytes()
            )
    for name, body in _FAILING.items():
        size = 1 << 30 if name == "libhuge.so" else 64
        (directory / name).write_bytes(
            wasmtime.wat2wasm(f"(module (@dylink.0 (mem-info (memory {size} 4))) {body})")
        )
    (directory / "libbroken.so").write_bytes(b"\0asm\1\0\0\0no section")


# Faults


class _Local(threading.local):
    choice: random.Random | None = None
    rate = 0.0


_LOCAL = _Local()


def _maybe_fail(counter: Counter[str], where: str, error: type[BaseException]) -> None:
    choice = _LOCAL.choice
    if choice is not None and choice.random() < _LOCAL.rate:
        counter[where] += 1
        raise error(where)


@contextmanager
def _faults(counter: Counter[str]) -> Iterator[None]:
    """Let steps of a load fail now and then, in threads that want it: before and after what they do."""
    places: list[tuple[type, str]] = [
        (LoadPlan, "discover"),
        (LoadPlan, "place"),
        (LoadPlan, "resolve"),
        (CodeCache, "load"),
        (InstanceGroup, "relocate"),
        (InstanceGroup, "construct"),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name in places]

    def faulty(step: Callable[..., Any], where: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            _maybe_fail(counter, f"before {where}", MemoryError)
            result = step(*arguments, **keywords)
            _maybe_fail(counter, f"after {where}", InjectedError)
            return result

        return call

    for owner, name, step in originals:
        setattr(owner, name, faulty(step, f"{owner.__name__}.{name}"))
    try:
        yield
    finally:
        for owner, name, step in originals:
            setattr(owner, name, step)


# Rounds


class _Round:
    """A program whose threads do things at random, then meet, compare and give everything back."""

    rate: ClassVar = 0.01  # of faults
    workers: ClassVar = 3

    def __init__(self, directory: Path, seed: str, done: Counter[str]) -> None:
        self.directory = directory
        self.seed = seed
        self.done = done
        self.choice = random.Random(seed)  # noqa: S311 - dice
        self.failures: list[BaseException] = []
        self.preempt = self.choice.random() < 0.5
        self.timeout = None if self.choice.random() < 0.5 else 0.02
        self.bind_now = self.choice.random() < 0.3
        self.tables: dict[int, list[str | None]] = {}
        self.until = 0.0
        self.stop = threading.Event()
        self.meeting = threading.Barrier(self.workers + 1)
        self.program: pylinker.Program

    def __repr__(self) -> str:
        return f"{type(self).__name__} preempt={self.preempt} timeout={self.timeout} bind_now={self.bind_now}"

    def new_program(self) -> pylinker.Program:
        """Make the program."""
        imports: dict[str, Callable[..., Any]] = {
            "soak_host": self.host,
            "soak_constructing": self.constructing,
        }
        return pylinker.Program(
            preload=["libcallee.so"],
            library_path=[self.directory],
            threads=True,
            preempt=self.preempt,
            rendezvous_timeout=self.timeout,
            bind_now=self.bind_now,
            stack_size=1 << 16,
            limits=pylinker.Limits(memory=32 << 20, modules=12, threads=self.workers + 3),
            imports=imports,
        )

    # What guests call

    @staticmethod
    def host(x: int) -> int:
        """Answer, or fail, or be interrupted."""
        if x < 0:
            raise KeyboardInterrupt if x == -2 else InjectedError("host")
        return x + 1

    @staticmethod
    def constructing() -> None:
        """Let a constructor fail now and then."""
        if _LOCAL.choice is not None and _LOCAL.choice.random() < 5 * _LOCAL.rate:
            raise InjectedError("constructor")

    # A round

    def run(self) -> None:
        """Do all of it. What went wrong is raised, or in ``failures``."""
        with self.new_program() as self.program:
            before = held(self.program._linker)
            self.until = time.monotonic() + _ROUND
            threads = [self.program.spawn(self.work, number) for number in range(self.workers)]
            self.lead()
            for thread in threads:
                thread.join(_JOIN)
            self.check(
                "all tables the same", len({tuple(table) for table in self.tables.values()}) <= 1
            )
            for table in self.tables.values():
                self.check(
                    f"slots are right: {table}",
                    not [each for each in table if str(each).startswith("not ")],
                )
            for what in broken_invariants(self.program._linker, before):
                self.check(what, truth=False)

    def check(self, what: str, truth: bool) -> None:  # noqa: FBT001 - the thing itself
        """Note a violation."""
        if not truth:
            self.failures.append(ViolationError(what))

    def lead(self) -> None:
        """What the process's main thread does while the others work: the same, on the main group."""
        self.act(_Worker(self, -1))

    def work(self, number: int) -> None:
        """What each of the program's threads does."""
        self.act(_Worker(self, number))

    def act(self, worker: _Worker) -> None:
        """Do things at random, meet, compare, give back."""
        try:
            _LOCAL.choice, _LOCAL.rate = worker.faults, self.rate
            try:
                worker.until(self.until)
            finally:
                _LOCAL.choice = None
            self.meeting.wait(_MEETING)
            self.tables[worker.number] = worker.table()
            self.meeting.wait(_MEETING)
            worker.give_back()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the others must not wait for it
            self.meeting.abort()
            if not isinstance(error, threading.BrokenBarrierError):
                self.failures.append(error)


class _Ended(_Round):
    """The program ends in the middle: it is closed, or a thread of it traps."""

    def lead(self) -> None:
        time.sleep(self.choice.random() * _ROUND)
        if self.choice.random() < 0.5:
            self.program.close()
        else:
            self.program.spawn(
                lambda: self.program.dlopen("libsoak.so", pylinker.RTLD_NODELETE).soak_trap()
            ).stopped(_JOIN)
            self.check(
                "a trap ends the program",
                self.program._linker is None or bool(self.program._linker.context.shared.cause),
            )

    def act(self, worker: _Worker) -> None:
        try:
            worker.until(self.until)
        except (pylinker.SynchronizationAborted, pylinker.ClosedError):
            self.done["ended"] += 1

    def run(self) -> None:
        with self.new_program() as self.program:
            linker = self.program._linker
            self.until = time.monotonic() + _ROUND + _JOIN
            threads = [self.program.spawn(self.work, number) for number in range(self.workers)]
            self.lead()
            for thread in threads:
                self.check("a thread ends with its program", thread.stopped(_JOIN))
            self.check(
                "nobody is left",
                linker is not None and (linker.threads is None or len(linker.threads) == 0),
            )


class _Interrupted(_Round):
    """Ctrl-C, again and again, while the main thread waits in the guest.

    One that comes just when that thread follows an operation gives the linker up: that is no
        failure.
    """

    def run(self) -> None:
        try:
            super().run()
        except pylinker.SynchronizationAborted as error:
            self.failures.append(error)
        if any(
            isinstance(each, pylinker.SynchronizationAborted)
            and isinstance(each.__cause__, KeyboardInterrupt)
            for each in self.failures
        ):
            self.done["given up by an interrupt"] += (
                1  # others then find it given up, or closed already
            )
            self.failures = [
                each
                for each in self.failures
                if not isinstance(each, (pylinker.SynchronizationAborted, pylinker.ClosedError))
            ]

    def lead(self) -> None:
        def interrupt(_number: int, _frame: object) -> None:
            raise KeyboardInterrupt

        previous = signal.signal(signal.SIGALRM, interrupt)
        try:
            while time.monotonic() < self.until:
                worker = _Worker(self, -1)
                library = worker.patiently(lambda: self.program.dlopen("libsoak.so"))
                wait = library["soak_wait"]
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.001 + self.choice.random() / 100)
                    wait(60_000_000_000)
                except KeyboardInterrupt:
                    self.done["interrupts"] += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                worker.patiently(library.close)
        finally:
            signal.signal(signal.SIGALRM, previous)
        super().lead()


class _Short(_Round):
    """Many programs that live for a moment, some closed and some dropped."""

    def run(self) -> None:
        until = time.monotonic() + _ROUND
        while time.monotonic() < until:
            program = self.new_program()
            library = program.dlopen(self.choice.choice(["libsoak.so", "libsoaktls.so"]))
            self.check("a call is right", program.spawn(library.soak_lazy, 5).join(_JOIN) == 6)
            self.done["programs"] += 1
            if self.choice.random() < 0.5:
                program.close()
            del program, library
        gc.collect()


class _Worker:
    """One thread of a round and what it has open."""

    def __init__(self, round_: _Round, number: int) -> None:
        self.round = round_
        self.number = number
        self.program = round_.program
        self.choice = random.Random(f"{round_.seed} {number}")  # noqa: S311 - dice
        self.faults = random.Random(f"{round_.seed} {number} faults")  # noqa: S311 - dice
        self.opened: list[Library] = []
        self.closures: list[int] = []
        self.names = [f"libsoak{n or ''}.so" for n in range(7)] + [
            f"libsoaktls{n or ''}.so" for n in range(4)
        ]

    def check(self, what: str, truth: bool) -> None:  # noqa: FBT001 - the thing itself
        """Raise if something is not as it must be."""
        if not truth:
            raise ViolationError(what)

    def until(self, end: float) -> None:
        """Do things at random until ``end``.

        What a fault may come to is no failure; that the program has ended is raised.
        """
        steps = [
            self.open,
            self.open,
            self.close,
            self.call,
            self.call,
            self.lookup,
            self.fail,
            self.spawn,
            self.wait,
            self.ask,
        ]
        steps += [self.prepare, self.forget, self.spin]
        while time.monotonic() < end:
            step = self.choice.choice(steps)
            try:
                step()
                self.round.done[step.__name__] += 1
            except (pylinker.SynchronizationAborted, pylinker.ClosedError):
                raise
            except KeyboardInterrupt:
                self.round.done["interrupted host call"] += 1
            except _EXPECTED as error:
                if isinstance(error, pylinker.InternalError):
                    raise
                self.round.done[type(error).__name__] += 1

    def patiently(self, step: Callable[[], Any]) -> Any:
        """Do a step that must be done in the end, whoever is late for it."""
        for _ in range(1000):
            with suppress(pylinker.RendezvousTimeout):
                return step()
        raise ViolationError("a rendezvous never came about")

    # Steps

    def open(self) -> None:
        """Open a library; its data is fresh if it was not open."""
        mode = self.choice.choice([0, 0, pylinker.RTLD_NOW, pylinker.RTLD_GLOBAL])
        library = self.program.dlopen(self.choice.choice(self.names), mode)
        self.opened.append(library)
        self.check(f"data of {library.name} is fresh", library.soak_is_fresh() == 1)

    def close(self) -> None:
        """Close a library."""
        if self.opened:
            library = self.opened.pop(self.choice.randrange(len(self.opened)))
            library.close()

    def call(self) -> None:
        """Call functions: through a trampoline, through a pointer, of thread-local data."""
        if self.opened:
            library, x = self.choice.choice(self.opened), self.choice.randrange(1000)
            self.check("a call is right", library.soak_lazy(x) == x + 1)
            self.check(
                "a pointer is right", library.soak_through(library.soak_pointer(), x) == x + 1
            )
            if "tls" in library.name:
                self.check("thread-local data is right", library.soak_mine() == 7)

    def lookup(self) -> None:
        """Look a function up; to take its pointer in C gives the same, unless another library comes first."""
        if self.opened:
            library = self.choice.choice(self.opened)
            slot = library.address_of("soak_lazy")
            self.check("the pointer of dlsym is right", library.soak_through(slot, 1) == 2)

    def fail(self) -> None:
        """Open what cannot be opened."""
        name = self.choice.choice(["libnowhere.so", "libbroken.so", *_FAILING])
        self.program.dlopen(name)
        raise ViolationError(f"{name} was loaded")

    def spawn(self) -> None:
        """Start a thread and wait for it."""
        x = self.choice.randrange(1000)
        self.check(
            "a thread's result is right", self.program.spawn("callee", x).join(_JOIN) == x + 1
        )

    def wait(self) -> None:
        """Wait in the guest for a moment."""
        if self.opened:
            self.check(
                "a wait times out",
                self.choice.choice(self.opened).soak_wait(self.choice.randrange(3_000_000)) == 2,
            )

    def ask(self) -> None:
        """Have the guest call Python, which may fail."""
        if self.opened:
            x = self.choice.randrange(-2, 1000)
            self.check(
                "Python's answer is right", self.choice.choice(self.opened).soak_ask(x) == x + 1
            )

    def spin(self) -> None:
        """Compute for some milliseconds, without a call."""
        if self.opened:
            self.choice.choice(self.opened).soak_spin(self.choice.randrange(10_000_000))

    def prepare(self) -> None:
        """Make a closure, or make one anew."""
        closures = self._closures()
        if len(self.closures) < 8:
            self.closures.append(closures.allocate())
        closures.prepare(
            self.choice.choice(self.closures), _ONE_INT, self.program.main.address_of("callee"), 0
        )

    def forget(self) -> None:
        """Give a closure's slot back."""
        if self.closures:
            self._closures().free(self.closures.pop())

    def _closures(self) -> Any:
        linker = self.program._linker
        if linker is None:
            raise pylinker.ClosedError("the program is closed")
        return linker.closures

    # The end

    def table(self) -> list[str | None]:
        """What the thread's table has, when it has caught up."""
        linker = self.program._linker
        assert linker is not None
        if self.number < 0:
            with self.program._session.turn.taken():
                linker.catch_up()
                return table_of(linker, linker.group)
        linker.catch_up()
        return table_of(linker, linker.group)

    def give_back(self) -> None:
        """Close everything."""
        while self.opened:
            self.patiently(self.opened.pop().close)
        for slot in self.closures:
            self._closures().free(slot)


_KINDS: tuple[type[_Round], ...] = (_Round, _Ended, _Interrupted, _Round, _Short)
