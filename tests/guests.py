"""Tools for threaded programs under test (tests/scenarios/threads), and rules for their tests."""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pylinker
from pylinker import SynchronizationAborted

if TYPE_CHECKING:
    from typing import Self

RETURN, YIELD, NAP, SLEEP, COMPUTE, TRAP, EXIT, READ, SERVE, WAIT = range(10)  # enum kind of main.c
DEADLINE = 60

# A main module with addresses and slots of its own choice: the linker has no slots for its
# functions before the first lookup.
ORDINARY = r"""(module
  (import "env" "memory" (memory 1 1024 shared))
  (table (export "__indirect_function_table") 1 funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (type $plain (func (result i32)))
  (func (export "compute")
    (i32.atomic.store (i32.const 1028) (i32.const 1))
    (loop $again (br_if $again (i32.eqz (i32.atomic.load (i32.const 1024))))))
  (func (export "answer") (result i32) (i32.const 42))
  (func (export "call") (param i32) (result i32) (call_indirect (type $plain) (local.get 0)))
  (func (export "_start")))"""

uncaptured = 2
"""Descriptor for stacks; conftest.py gives the one that pytest does not capture."""


class DeadlineError(AssertionError):
    """A test has exceeded its time limit: a thread hangs."""


_end = float("inf")  # when this process is to be ended, in seconds of time.monotonic


def end_process_in(seconds: float) -> float:
    """End this process with all stacks after ``seconds`` (infinity: never).

    Returns what was left of the limit before. faulthandler's thread needs neither the GIL nor a
    main thread that hears signals. A process has one such timer.
    """
    global _end
    now = time.monotonic()
    left, _end = _end - now, now + seconds
    if seconds == float("inf"):
        faulthandler.cancel_dump_traceback_later()
    else:
        faulthandler.dump_traceback_later(max(seconds, 1), exit=True, file=uncaptured)
    return left


@contextmanager
def deadline(seconds: float = DEADLINE) -> Iterator[None]:
    """Limit the duration: first DeadlineError in the main thread, then all stacks and an exit.

    Deadlines nest: the limits outside, of pytest-timeout among them, hold again afterwards.
    """

    def late(_signum: int, _frame: object) -> None:
        faulthandler.dump_traceback(file=uncaptured)
        raise DeadlineError(f"not done after {seconds} seconds")

    start = time.monotonic()
    previous = signal.signal(signal.SIGALRM, late)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    left = end_process_in(seconds + 30)
    try:
        yield
    finally:
        passed = time.monotonic() - start
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - passed, 0.001))
        end_process_in(left - passed)


@contextmanager
def off_the_clock(limit: float) -> Iterator[None]:
    """Suspend the time limit of the test, and apply ``limit``: a build with cold caches is slow."""
    outer, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    left = end_process_in(limit)
    try:
        yield
    finally:
        end_process_in(left)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, outer)


@contextmanager
def orderly(seconds: float = DEADLINE) -> Iterator[None]:
    """Around a test: it has a deadline, and no thread outlives it."""
    before = set(threading.enumerate())
    with deadline(seconds):
        yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert not [thread for thread in threading.enumerate() if thread not in before]


class Guest:
    """A program of the toolbox, with its counters by name.

    Keywords are those of ``pylinker.Program``; ``with`` closes it.
    """

    def __init__(self, directory: Path, *args: str, threads: bool = True, **keywords: Any) -> None:
        keywords.setdefault("library_path", [directory])
        self.directory = directory
        self.program = pylinker.Program(
            directory / "main.wasm", args=args, threads=threads, **keywords
        )
        self.main = self.program.main
        self.memory = self.program.memory
        self._addresses: dict[str, int] = {}
        for name in (
            "running",
            "done",
            "stop",
            "constructions",
            "in_constructor",
            "leave_constructor",
            "trap_in_constructor",
            "nested",
        ):
            self.address(
                name
            )  # now: while a thread of Python runs guest code, others wait for their turn
        for name in (
            "progress",
            "answers",
            "mail",
            "letters",
            "tids",
            "told",
            "stack_of",
            "tls_of",
            "tls_at",
            "symbol_at",
            "message",
        ):
            self.address(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.program.close()

    def address(self, name: str) -> int:
        """The address of a variable of main."""
        if name not in self._addresses:
            self._addresses[name] = self.main.address_of(name)
        return self._addresses[name]

    def __getitem__(self, name: str) -> int:
        return self.array(name, 1)[0]

    def __setitem__(self, name: str, value: int) -> None:
        self.store(name, 0, value)

    def array(self, name: str, count: int) -> list[int]:
        """The first ``count`` elements of an array of int."""
        data = self.memory.read(self.address(name), 4 * count)
        return [
            int.from_bytes(data[at : at + 4], "little", signed=True)
            for at in range(0, 4 * count, 4)
        ]

    def store(self, name: str, index: int, value: int) -> None:
        """Set one element of an array of int."""
        self.memory.write(self.address(name) + 4 * index, value.to_bytes(4, "little", signed=True))

    def until(self, name: str, value: int, index: int = 0) -> None:
        """Wait until a counter has reached a value."""
        while self.array(name, index + 1)[index] < value:
            time.sleep(0.001)

    def start(self, *kinds: int) -> list[pylinker.GuestThread]:
        """Spawn works of these kinds, with the indices from 0, and wait until all have begun."""
        already = self["running"]
        threads = [self.program.spawn("work", kind, index) for index, kind in enumerate(kinds)]
        self.until("running", already + len(kinds))
        return threads

    def join(self, threads: list[pylinker.GuestThread]) -> list[Any]:
        """Have the works end, and return what they returned."""
        self["stop"] = 1
        return [thread.join(DEADLINE) for thread in threads]

    def still_works(self) -> None:
        """Check that a program works: threads, libraries, new pointers, in old and new groups."""
        before = self.program.statistics().modules
        with self.program.dlopen("libplain3.so") as library:
            slot = library["id"].slot
            assert self.main.call(slot, 7) == 3007
            assert self.program.spawn("call", slot, 8).join(DEADLINE) == 3008
        assert self.program.statistics().modules == before

    def libraries(self) -> list[str]:
        """Names of what is loaded."""
        return [each.name for each in self.program.libraries]

    def number(self, thread: pylinker.GuestThread | None = None) -> int:
        """The number of a thread's group, or of main's."""
        context = self.program._linker.context
        if thread is None:
            return context.main_group.state.number
        return next(number for number, tid in context.tids.items() if tid == thread.tid)


def all_aborted(guest: Guest, threads: list[pylinker.GuestThread]) -> None:
    """No thread waits, and each call raises an error with the reason."""
    for thread in threads:
        with pytest.raises(SynchronizationAborted):
            thread.join(DEADLINE)
    for attempt in (
        guest.main.nothing,
        lambda: guest.program.spawn("nothing"),
        lambda: guest.program.dlopen("libtwice.so"),
    ):
        with pytest.raises(SynchronizationAborted):
            attempt()
