"""Calls of the linker from a signal handler that interrupts it: a LinkError.

The interrupted operation completes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import types
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pylinker
from fields import MEMORY, SHARED, wasm
from guests import DEADLINE
from pylinker import LinkError
from pylinker.sync.reentry import begin_operation, check_not_interrupting, end_operation

pytestmark = pytest.mark.usefixtures("in_time")

MIDDLE = "while the same thread was in a linker operation"
FOLDER = os.path.dirname(pylinker.__file__)


@pytest.fixture
def folder(tmp_path: Path, threads: bool) -> Path:
    memory = SHARED if threads else MEMORY
    for name in ("main", "used", "opened", "other", "more"):
        functions = [
            f'(func (export "{name}{number}") (result i32) (i32.const {number}))'
            for number in (1, 2)
        ]
        wasm(tmp_path / f"{name}.so", memory, *functions, '(func (export "__wasm_call_ctors"))')
    calls = (
        '(import "env" "back" (func $back (result i32)))',
        '(func (export "go") (result i32) (call $back))',
    )
    wasm(
        tmp_path / "calls.so",
        memory,
        *calls,
        '(func (export "__wasm_call_ctors") (drop (call $back)))',
    )
    opens = (
        '(import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))',
        '(import "env" "dlerror" (func $dlerror (result i32)))',
        (
            '(func (export "open") (param i32) (result i32) '
            "(call $dlopen (local.get 0) (i32.const 2)))"
        ),
        '(func (export "error") (result i32) (call $dlerror))',
    )
    wasm(tmp_path / "opens.so", memory, *opens)
    return tmp_path


class World:
    """A program with a library that is used.

    With threads, one of them calls the guest all the time, and loads if it is told to.
    """

    def __init__(self, folder: Path, *, threads: bool, **keywords: Any) -> None:
        self.folder = folder
        self.threads = threads
        self.library = pylinker.CDLL(
            folder / "main.so", library_path=[folder], threads=threads, cache=False, **keywords
        )
        self.program = self.library.program
        self.used = self.program.dlopen("used.so")
        self.handle = self.program.dlopen("used.so")
        self.opens = self.program.dlopen("opens.so")
        self.opened: list[pylinker.Library] = []
        self.stop, self.load, self.loaded = threading.Event(), threading.Event(), threading.Event()
        self.thread = self.program.spawn(self._call) if threads else None

    def _call(self) -> None:
        used = self.program.dlopen("used.so")
        while not self.stop.is_set():
            used.used1()
            if self.load.is_set():
                self.load.clear()
                self.program.dlopen("opens.so").close()
                self.program.dlopen("more.so").close()
                self.loaded.set()

    def fall_behind(self) -> None:
        """Have the main group something to replay."""
        if self.threads:
            self.load.set()
            assert self.loaded.wait(DEADLINE)
            self.loaded.clear()
            assert self.program._linker.context.main_group.state.is_behind

    def close(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(DEADLINE)
        self.program.close()

    def is_well(self) -> None:
        with self.program.dlopen("other.so") as other:
            assert other.other2() == 2
        assert self.used.used2() == 2

    def by_guest(self) -> None:
        address = self.program.memory.size - 64
        self.program.memory.write(address, b"other.so\0")
        if self.opens.open(address) == 0:
            raise LinkError(self.program.memory.cstring(self.opens.error()).decode())


@contextmanager
def world(folder: Path, threads: bool, **keywords: Any) -> Iterator[World]:
    world = World(folder, threads=threads, **keywords)
    try:
        yield world
    finally:
        world.close()


UNDER: dict[str, Callable[[World], object]] = {
    "dlopen": lambda world: world.opened.append(world.program.dlopen("opened.so")),
    "dlclose": lambda world: world.opened.pop().close() if world.opened else world.handle.close(),
    "dlsym": lambda world: world.used.address_of("used2"),
    "spawn": lambda world: world.program.spawn(lambda: None).join(DEADLINE),
    "statistics": lambda world: world.program.statistics(),
    "program": lambda world: pylinker.CDLL(
        world.folder / "other.so", threads=world.threads, cache=False
    ).close(),
}
DONE: dict[str, Callable[[World], object]] = {
    "dlopen": lambda world: world.program.dlopen("other.so").close(),
    "dlclose": lambda world: world.handle.close(),
    "dlsym": lambda world: (world.used._functions.clear(), world.used["used1"]),
    "program": UNDER["program"],
    "call": lambda world: world.used.used1(),
    "guest's dlopen": World.by_guest,
}


def interrupted(work: Callable[[], object], number: int, act: Callable[[], object]) -> str | None:
    """Do ``work`` with ``act`` before line ``number`` of pylinker; return its place, or None."""
    left, where = number, None

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal left, where
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                act()
                return None
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return where


def try_all(folder: Path, threads: bool, under: str, done: str, step: int) -> Counter[str]:
    """Interrupt at every ``step``-th line."""
    outcomes: Counter[str] = Counter()

    def act(world: World) -> None:
        outcomes[outcome(world)] += 1
        outcomes[outcome(world)] += 1

    def outcome(world: World) -> str:
        try:
            DONE[done](world)
        except pylinker.ClosedError:
            return "closed"  # by what was interrupted
        except LinkError as error:
            if MIDDLE in str(error):
                return "refused"
            raise
        return "done"

    with world(folder, threads) as here:
        for number in range(1, 10_000, step):
            if under == "dlclose":
                UNDER["dlopen"](here)
            if not here.handle._handle.open:
                here.handle = here.program.dlopen("used.so")
            here.fall_behind()
            where = interrupted(lambda: UNDER[under](here), number, lambda: act(here))
            while here.opened:
                assert here.opened[-1].opened1() == 1
                here.opened.pop().close()
            here.is_well()
            if where is None:
                return outcomes
    return outcomes


WITH_THREADS = [
    (False, "dlopen"),
    (False, "dlclose"),
    (True, "dlopen"),
    (True, "dlclose"),
    (True, "spawn"),
    (False, "statistics"),
]


@pytest.mark.parametrize("done", ["dlopen", "dlclose", "program", "guest's dlopen"])
@pytest.mark.parametrize(("threads", "under"), WITH_THREADS, indirect=["threads"])
def test_at_some_lines(folder: Path, threads: bool, under: str, done: str) -> None:
    outcomes = try_all(folder, threads, under, done, 47)
    assert outcomes["refused"]


@pytest.mark.parametrize(("threads", "under"), WITH_THREADS, indirect=["threads"])
def test_a_handler_may_call_the_guest_at_any_time(folder: Path, threads: bool, under: str) -> None:
    outcomes = try_all(folder, threads, under, "call", 5)
    assert outcomes["done"]
    assert not outcomes["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("done", DONE)
@pytest.mark.parametrize(
    ("threads", "under"),
    [*WITH_THREADS, (True, "dlsym"), (True, "program"), (False, "statistics")],
    indirect=["threads"],
)
def test_at_many_lines(folder: Path, threads: bool, under: str, done: str) -> None:
    try_all(folder, threads, under, done, 5)


class TestWhereItIsRight:
    def test_a_constructor_whose_host_function_opens_a_library(
        self, folder: Path, threads: bool
    ) -> None:
        with world(
            folder, threads, imports={"back": lambda: here.program.dlopen("other.so").other2()}
        ) as here:
            assert here.program.dlopen("calls.so").go() == 2
            here.is_well()

    def test_a_signal_handler_within_a_host_function(self, folder: Path, threads: bool) -> None:
        """The guest of a constructor or a call calls it: a handler may do the same as a guest."""
        heard: list[int] = []

        def back() -> int:
            signal.raise_signal(signal.SIGUSR1)
            return 5

        before = signal.signal(
            signal.SIGUSR1, lambda *_: heard.append(here.program.dlopen("other.so").other2())
        )
        try:
            with world(folder, threads, imports={"back": back}) as here:
                calls = here.program.dlopen("calls.so")
                assert heard == [2]
                assert calls.go() == 5
                assert heard == [2, 2]
                here.is_well()
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_a_signal_handler_while_a_guest_computes_for_a_constructor_or_a_call(
        self, tmp_path: Path
    ) -> None:
        loop = (
            '(import "env" "__memory_base" (global $base i32))',
            (
                '(func $loop (export "loop") (loop $again '
                "(br_if $again (i32.eqz (i32.load (global.get $base))))))"
            ),
            '(func (export "again") (i32.store (global.get $base) (i32.const 0)) (call $loop))',
            '(func (export "__wasm_call_ctors") (call $loop))',
        )
        wasm(tmp_path / "other.so", MEMORY, '(func (export "other") (result i32) (i32.const 2))')
        wasm(tmp_path / "loop.so", MEMORY, *loop)
        heard: list[int] = []

        def handle(*_: object) -> None:
            heard.append(program.dlopen("other.so").other())
            base = next(each for each in program.libraries if each.name == "loop.so").memory_base
            program.memory.write(base, b"\1")

        before = signal.signal(signal.SIGALRM, handle)
        try:
            with pylinker.Program(library_path=[tmp_path], cache=False) as program:
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                library = program.dlopen("loop.so")
                assert heard == [2]
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                library.again()
                assert heard == [2, 2]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def test_a_module_that_is_just_being_loaded_is_told_so(self, tmp_path: Path) -> None:
        wasm(tmp_path / "other.so", MEMORY)
        start = '(import "env" "back" (func $back))', "(start $back)"
        wasm(tmp_path / "start.so", MEMORY, *start)
        with pylinker.Program(
            library_path=[tmp_path],
            imports={"back": lambda: program.dlopen("other.so")},
            cache=False,
        ) as program:
            for _ in range(2):
                with pytest.raises(LinkError, match="a module that is just being loaded"):
                    program.dlopen("start.so")
            program.dlopen("other.so")

    @pytest.mark.parametrize("threads", [False], ids=[""], indirect=True)
    def test_an_observer_of_a_load(self, folder: Path) -> None:
        """It is called in the middle, too."""
        raised: list[LinkError] = []

        def observe(_: pylinker.Compiling) -> None:
            try:
                program.dlopen("other.so")
            except LinkError as error:
                raised.append(error)

        with pylinker.Program(library_path=[folder], cache=False, progress=observe) as program:
            (folder / "new.so").write_bytes((folder / "opened.so").read_bytes() + b"\0\4\3new")
            program.dlopen("new.so")
            assert raised
            assert all(MIDDLE in str(error) for error in raised)


@pytest.mark.parametrize("threads", [False], ids=[""], indirect=True)
@pytest.mark.parametrize("how", ["finalize", "stack", "del"])
def test_a_finalizer_that_is_a_method_of_pylinkers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """No frame of the user lies between it and the interrupted operation: the observer is in C."""
    told: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: told.append(each.exc_value))
    held: deque[object] = deque(maxlen=1)  # what is appended drops what was there
    with pylinker.Program(library_path=[folder], cache=False, progress=held.append) as program:
        other = program.dlopen("other.so")
        if how == "del":
            dropped = type("Dropped", (), {"__del__": staticmethod(other.close)})()
        else:
            dropped = type("Dropped", (), {})()
            stack = contextlib.ExitStack()
            stack.callback(other.close)
            weakref.finalize(dropped, other.close if how == "finalize" else stack.close)
        held.append(dropped)
        del dropped
        (folder / "new.so").write_bytes(
            (folder / "opened.so").read_bytes() + bytes((0, 1 + len(how), len(how), *how.encode()))
        )
        opened = program.dlopen("new.so")  # is compiled: no other has these bytes
        assert len(told) == 1
        assert MIDDLE in str(told[0])
        assert opened.opened2() == other.other2() == 2
        other.close()
        assert [each.name for each in program.libraries] == ["new.so"]


STORM = """
import signal, sys, threading, time
from collections import Counter
import pylinker
folder, threads = sys.argv[1], sys.argv[2] == "threads"
library = pylinker.CDLL(f"{folder}/main.so", library_path=[folder], threads=threads, cache=False)
program = library.program
used = program.dlopen("used.so")
outcomes = Counter()
turn = 0
def handle(*_):
    global turn
    turn += 1
    try:
        if turn % 4 == 0:
            assert used.used1() == 1
        elif turn % 4 == 1:
            used._functions.clear()
            used["used2"]
        else:
            with program.dlopen("other.so") as other:
                other.other1()
        outcomes["done"] += 1
    except pylinker.LinkError as error:
        assert "in a linker operation" in str(error), (error, error.__cause__)
        outcomes["refused"] += 1
    again()
def again():
    # one at a time: on a loaded machine they would interrupt one another without end
    if not stop.is_set():
        signal.setitimer(signal.ITIMER_REAL, 0.0007)
stop = threading.Event()
def work():
    while not stop.is_set():
        with program.dlopen("opens.so"):
            pass
thread = program.spawn(work) if threads else None
signal.signal(signal.SIGALRM, handle)
again()
rounds = 0
while rounds < 200 or not (outcomes["done"] and outcomes["refused"]):
    rounds += 1
    with program.dlopen("opened.so") as opened:
        assert opened.opened2() == 2
    assert used.used2() == 2
stop.set()
signal.setitimer(signal.ITIMER_REAL, 0)
if thread is not None:
    thread.join()
assert [each.name for each in program.libraries] == ["main.so", "used.so"], program.libraries
print("well")
"""


def test_a_storm_of_signals(folder: Path, threads: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", STORM, str(folder), "threads" if threads else ""]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=DEADLINE, check=False
    )
    assert done.stdout == "well\n", done.stderr


def in_linker(call: Callable[[], None]) -> None:
    """Call a function from a frame of the linker's."""

    def frame(function: Callable[[], None]) -> None:
        function()

    types.FunctionType(frame.__code__, {"__name__": "pylinker.linker.linker"})(call)


class TestRecord:
    """An operation is not refused for the operation that it interrupted, which had not begun."""

    def handle(self) -> None:
        begun = begin_operation()
        assert begun
        try:
            check_not_interrupting()  # as a wait for a lock does
            in_linker(check_not_interrupting)
        finally:
            end_operation(begun)

    def test_a_handler_that_comes_before_an_operation_is_noted(self) -> None:
        in_linker(self.handle)
        in_linker(self.handle)

    def operate(self) -> None:
        begun = begin_operation()
        try:
            for _ in range(2):
                with pytest.raises(LinkError, match=MIDDLE):
                    in_linker(self.handle)
        finally:
            end_operation(begun)

    def test_a_handler_that_comes_afterwards(self) -> None:
        in_linker(self.operate)
        self.handle()

    def test_what_an_interrupt_has_left_in_the_record(self) -> None:
        def interrupted() -> None:
            assert begin_operation()

        interrupted()
        for _ in range(2):
            self.operate()
        end_operation(begun=True)
        self.handle()
