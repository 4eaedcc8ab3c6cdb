"""The soak: all operations at the same time, with faults, for any duration.

It has loads, calls, threads, waits, closures, failing loads, interrupts and early ends. A soak
consists of rounds, each with a program of its own whose threads do random operations. At the end of
a round all tables must be equal, and all resources released; at the end of the soak memory must not
have grown. A seed repeats a soak as far as scheduling allows: each thread draws from a generator
made of the seed, the round and its own number.
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
"""Allowed growth of resident memory in bytes after the first fifth of a soak.

Rounds differ in their numbers of threads and libraries.
"""

_LIBRARIES = {"libsoak.so": 6, "libsoaktls.so": 3, "libcallee.so": 0, "libsmall.so": 0}
"""The libraries of the rounds, and the number of additional names of each."""

_ROUND = 1.0  # seconds of random operations
_MEETING = 60.0  # seconds within which all threads reach the end of a round
_JOIN = 20.0  # seconds within which a program's threads exit
_ONE_INT = FuncType(("i32",), ("i32",))
_IMPORTS = '(import "env" "memory" (memory 1 1024 shared))'
_FAILING = {
    "libundefined.so": f'{_IMPORTS} (import "GOT.mem" "nowhere" (global (mut i32)))',
    "libtrap.so": f'{_IMPORTS} (func (export "__wasm_call_ctors") unreachable)',
    "libhuge.so": f'{_IMPORTS} (import "env" "__memory_base" (global i32))',
    "libunshared.so": '(import "env" "memory" (memory 1))',
}


class InjectedError(Exception):
    """A fault that the soak injected."""


class ViolationError(AssertionError):
    """A broken invariant."""


_EXPECTED = (InjectedError, pylinker.LinkError, MemoryError, wasmtime.Trap)
"""Allowed results of an injected fault, a failing load or a limit."""


class Progress(Protocol):
    """Observer of the progress of a soak."""

    def start(self, count: int) -> None:
        """``count`` seconds will follow."""

    def begin(self, name: str) -> None:
        """A round of this kind starts."""

    def advance(self, parts: float) -> None:
        """So many seconds have passed."""


@dataclass
class Report:
    """The result of a soak.

    ``failures`` are texts, ``done`` counts operations, ``resident`` is in bytes, after each round.
    """

    seed: int
    seconds: float = 0.0
    rounds: int = 0
    done: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    resident: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def growth(self) -> int:
        """Growth of resident memory in bytes after the first fifth of the rounds; 0 if short."""
        warm = max(5, len(self.resident) // 5)
        return self.resident[-1] - max(self.resident[:warm]) if len(self.resident) > warm else 0


class Soak:
    """A soak of ``seconds`` with ``seed``, at least ``rounds`` rounds.

    To be run on the process's main thread: that is the one that can be interrupted.
    """

    def __init__(self, seconds: float, seed: int, progress: Progress, rounds: int = 1) -> None:
        self.report = Report(seed)
        self._seconds = seconds
        self._rounds = rounds
        self._progress = progress

    def run(self) -> Report:
        """Do rounds until the time has passed and there were enough of them, or one has failed.

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
        except BaseException as error:  # noqa: BLE001 - for the report of the round
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
    """Write the libraries: the shipped ones under several names, and invalid ones."""
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
    """Inject faults into steps of a load, before and after them, in threads that enabled faults."""
    places: list[tuple[type, str]] = [
        (LoadPlan, "discover"),
        (LoadPlan, "allocate"),
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
    """A program whose threads do random operations, then meet, compare and release everything."""

    rate: ClassVar = 0.01  # of faults
    workers: ClassVar = 3

    def __init__(self, directory: Path, seed: str, done: Counter[str]) -> None:
        self.directory = directory
        self.seed = seed
        self.done = done
        self.choice = random.Random(seed)  # noqa: S311 - no cryptography
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
        name = type(self).__name__
        return f"{name} preempt={self.preempt} timeout={self.timeout} bind_now={self.bind_now}"

    def new_program(self) -> pylinker.Program:
        """Create the program."""
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

    # Functions for guests

    @staticmethod
    def host(x: int) -> int:
        """Return, or fail, or be interrupted."""
        if x < 0:
            raise KeyboardInterrupt if x == -2 else InjectedError("host")
        return x + 1

    @staticmethod
    def constructing() -> None:
        """Make some constructors fail."""
        if _LOCAL.choice is not None and _LOCAL.choice.random() < 5 * _LOCAL.rate:
            raise InjectedError("constructor")

    # A round

    def run(self) -> None:
        """Do the whole round. Errors are raised, or appended to ``failures``."""
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

    def check(self, what: str, truth: bool) -> None:  # noqa: FBT001 - the condition itself
        """Record a violation."""
        if not truth:
            self.failures.append(ViolationError(what))

    def lead(self) -> None:
        """Do the work of the process's main thread: the same as the others, on the main group."""
        self.act(_Worker(self, -1))

    def work(self, number: int) -> None:
        """Do the work of one of the program's threads."""
        self.act(_Worker(self, number))

    def act(self, worker: _Worker) -> None:
        """Do random operations, meet, compare, release."""
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
        except BaseException as error:  # noqa: BLE001 - the others must not wait for this thread
            self.meeting.abort()
            if not isinstance(error, threading.BrokenBarrierError):
                self.failures.append(error)


class _Ended(_Round):
    """The program ends early: it is closed, or a thread of it traps."""

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
                "no thread is left",
                linker is not None and (linker.threads is None or len(linker.threads) == 0),
            )


class _Interrupted(_Round):
    """Ctrl-C, repeatedly, while the main thread waits in the guest.

    An interrupt during the replay of an operation cancels the linker: that is no failure.
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
            self.done["cancelled by an interrupt"] += 1
            # Other threads then find it cancelled, or closed already.
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
    """Many short-lived programs, some closed and some dropped."""

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
    """One thread of a round and its open libraries."""

    def __init__(self, round_: _Round, number: int) -> None:
        self.round = round_
        self.number = number
        self.program = round_.program
        self.choice = random.Random(f"{round_.seed} {number}")  # noqa: S311 - no cryptography
        self.faults = random.Random(f"{round_.seed} {number} faults")  # noqa: S311 - no cryptography
        self.opened: list[Library] = []
        self.closures: list[int] = []
        self.names = [f"libsoak{n or ''}.so" for n in range(7)] + [
            f"libsoaktls{n or ''}.so" for n in range(4)
        ]

    def check(self, what: str, truth: bool) -> None:  # noqa: FBT001 - the condition itself
        """Raise ViolationError if a condition is false."""
        if not truth:
            raise ViolationError(what)

    def until(self, end: float) -> None:
        """Do random operations until ``end``.

        An allowed result of a fault is no failure; the end of the program is raised.
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
        """Repeat a step until it succeeds, after timeouts of a rendezvous."""
        for _ in range(1000):
            with suppress(pylinker.RendezvousTimeout):
                return step()
        raise ViolationError("no rendezvous succeeded")

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
        """Call functions: through a PLT entry, through a pointer, of thread-local data."""
        if self.opened:
            library, x = self.choice.choice(self.opened), self.choice.randrange(1000)
            self.check("a call is right", library.soak_lazy(x) == x + 1)
            self.check(
                "a pointer is right", library.soak_through(library.soak_pointer(), x) == x + 1
            )
            if "tls" in library.name:
                self.check("thread-local data is right", library.soak_mine() == 7)

    def lookup(self) -> None:
        """Look a function up; its pointer in C is the same, unless another library interposes."""
        if self.opened:
            library = self.choice.choice(self.opened)
            slot = library.address_of("soak_lazy")
            self.check("the pointer of dlsym is right", library.soak_through(slot, 1) == 2)

    def fail(self) -> None:
        """Open an invalid library."""
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
        """Wait in the guest for a short time."""
        if self.opened:
            self.check(
                "a wait times out",
                self.choice.choice(self.opened).soak_wait(self.choice.randrange(3_000_000)) == 2,
            )

    def ask(self) -> None:
        """Make the guest call Python, which may fail."""
        if self.opened:
            x = self.choice.randrange(-2, 1000)
            self.check(
                "Python's result is right", self.choice.choice(self.opened).soak_ask(x) == x + 1
            )

    def spin(self) -> None:
        """Compute for some milliseconds, without a call."""
        if self.opened:
            self.choice.choice(self.opened).soak_spin(self.choice.randrange(10_000_000))

    def prepare(self) -> None:
        """Make a closure, or prepare one again."""
        closures = self._closures()
        if len(self.closures) < 8:
            self.closures.append(closures.allocate())
        closures.prepare(
            self.choice.choice(self.closures), _ONE_INT, self.program.main.address_of("callee"), 0
        )

    def forget(self) -> None:
        """Release a closure's slot."""
        if self.closures:
            self._closures().free(self.closures.pop())

    def _closures(self) -> Any:
        linker = self.program._linker
        if linker is None:
            raise pylinker.ClosedError("the program is closed")
        return linker.closures

    # The end

    def table(self) -> list[str | None]:
        """Return the contents of the thread's table, after it has replayed all operations."""
        linker = self.program._linker
        assert linker is not None
        if self.number < 0:
            with self.program._session.main_lock.taken():
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
