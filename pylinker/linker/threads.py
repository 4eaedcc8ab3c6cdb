"""The threads of a program: their numbers, their beginning and their end, and the end of the program with all of them."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import wasmtime

from pylinker import _native
from pylinker.errors import InternalError, LimitError, SynchronizationAborted
from pylinker.runtime.engine import bump_epoch
from pylinker.runtime.failures import has_trapped

if TYPE_CHECKING:
    from pylinker.linker.group import InstanceGroup
    from pylinker.linker.linker import Linker

__all__ = ["GuestThread", "ThreadTable"]

logger = logging.getLogger("pylinker.threads")

_LAST_TID = (1 << 29) - 1
"""wasi-threads: thread numbers are from 1 to 2**29 - 1."""

_PATIENCE = 5.0
"""Seconds to wait for a thread that the guest has put where nothing reaches it (``memory.atomic.wait32``)."""


class GuestThread:
    """A thread of the guest, in an instance group and on an OS thread of its own.

    ``tid`` is its number in the guest, positive and unique in the program.
    """

    def __init__(self, table: ThreadTable, tid: int, body: Callable[[InstanceGroup], Any], name: str) -> None:
        self._table = table
        self._body = body
        self._result: Any = None
        self._failure: BaseException | None = None
        self._done = threading.Event()
        self._group: InstanceGroup | None = None
        self.tid = tid
        self.thread = threading.Thread(target=self._run, name=f"{name}-{tid}", daemon=True)

    def __repr__(self) -> str:
        state = "running" if not self._done.is_set() else "failed" if self._failure else "finished"
        return f"<GuestThread {self.tid} {state}>"

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return not self._done.is_set()

    def join(self, timeout: float | None = None) -> Any:
        """Wait for the thread to end and return what its function returned.

        Raises TimeoutError after ``timeout`` seconds, and what ended the thread: the trap of its guest, SynchronizationAborted if the
        program ended first.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"thread {self.tid} has not ended after {timeout} seconds")
        self.thread.join()
        if self._failure is not None:
            raise self._failure
        return self._result

    def stopped(self, timeout: float) -> bool:
        """Wait for the thread to end, whatever its result; False after ``timeout`` seconds."""
        if not self._done.wait(timeout):
            return False
        if self.thread.ident is not None:
            self.thread.join()
        return True

    def abandon(self) -> None:
        """Note that the thread will not run: it could not be started."""
        self._end()

    def begin(self, group: InstanceGroup) -> None:
        """Start the OS thread, in this group. RuntimeError if there can be no more threads."""
        group.native.set_thread(self.tid)
        self._group = group
        self._table.linker.context.tids[group.state.number] = self.tid
        try:
            self.thread.start()
        except BaseException:
            self._leave(group)
            raise

    def _leave(self, group: InstanceGroup) -> None:
        self._group = None
        self._table.linker.context.tids.pop(group.state.number, None)
        self._table.linker.shutdown_instance_group(group)

    def _run(self) -> None:
        linker = self._table.linker
        group = self._group
        assert group is not None
        try:
            with linker.context.own_group(group):
                self._result = self._body(group)
        except wasmtime.ExitTrap as exit_:
            self._failure = SynchronizationAborted("the program has ended")
            self._table.end(status=exit_.code)
        except BaseException as error:  # noqa: BLE001 - comes out of join
            self._failure = error
            if _is_guests(error):
                self._table.end(failure=error)
        finally:
            self._leave(group)
            del group
            self._end()

    def _end(self) -> None:
        self._table.forget(self)
        self._done.set()


def _is_guests(error: BaseException) -> bool:
    """Whether the guest has crashed: its memory may be in any state, so the program ends, as a process does.

    A Python function that was spawned may fail for reasons of its own.
    """
    if isinstance(error, SynchronizationAborted):
        return False
    return isinstance(error, (wasmtime.Trap, wasmtime.WasmtimeError, InternalError)) or has_trapped(error)


class ThreadTable:
    """The threads of one program, apart from the one that runs main.

    ``ended`` tells whether the program has ended; then ``status`` is its exit status, or ``failure`` what ended it. Safe to use from all
    threads.
    """

    def __init__(self, linker: Linker, *, limit: int, name: str) -> None:
        self.linker = linker
        self.status: int | None = None
        self.failure: BaseException | None = None
        self.ended = False
        self._limit = limit
        self._name = name
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._alive: dict[int, GuestThread] = {}

    def __len__(self) -> int:
        return len(self._alive)

    def start(
        self, body: Callable[[InstanceGroup], Any], *, wants_stack: bool, on_number: Callable[[int], None] | None = None
    ) -> GuestThread:
        """Start a thread: create a group, and run ``body`` in it on a thread of its own.

        ``on_number`` is told the thread's number before it runs. Blocks, cooperatively, for the linker. Raises LimitError, or what kept
        the group from being created; nothing is left then.
        """
        with self._lock:
            if len(self._alive) >= self._limit:
                raise LimitError(f"{self._name}: the limit of {self._limit} threads is reached")
            tid = next(self._numbers)
            if tid > _LAST_TID:
                raise LimitError(f"{self._name}: all {_LAST_TID} thread numbers were used")
            thread = GuestThread(self, tid, body, self._name)
            self._alive[tid] = thread
        try:
            if on_number is not None:
                on_number(tid)
            prepared = self.linker.prepare_for_instance_group(wants_stack=wants_stack)
            try:
                group = self.linker.create_instance_group(prepared)
            finally:
                prepared.abandon()  # unless it was taken, and then released
            thread.begin(group)
        except BaseException:
            thread.abandon()
            raise
        return thread

    def forget(self, thread: GuestThread) -> None:
        """Take a thread out of the table."""
        with self._lock:
            self._alive.pop(thread.tid, None)

    def end(self, *, status: int | None = None, failure: BaseException | None = None) -> None:
        """End the program: the first status or failure counts, and every thread stops at its next step. Does not wait."""
        with self._lock:
            if not self.ended:
                self.ended = True
                self.status, self.failure = status, failure
        self.linker.context.shared.cancel(_native.CAUSE_CLOSED, failure)
        bump_epoch()

    def outcome(self) -> int:
        """Return the exit status of the program that has ended, or raise what ended it."""
        if self.failure is not None:
            raise self.failure
        return self.status or 0

    def join_all(self) -> None:
        """Wait until all threads have stopped. One that the guest blocks where nothing reaches it is given up with a warning."""
        deadline = time.monotonic() + _PATIENCE
        while others := [thread for thread in list(self._alive.values()) if thread.thread is not threading.current_thread()]:
            for thread in others:  # and those that they have started meanwhile
                if not thread.stopped(max(0.0, deadline - time.monotonic())):
                    logger.warning("%r does not stop: it waits in guest code; it is left behind", thread)
                    self.forget(thread)
