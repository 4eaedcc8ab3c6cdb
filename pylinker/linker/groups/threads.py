"""The threads of a program: their numbers, their beginning and their end, and the end of the program with all of them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import wasmtime

from pylinker._pickling import OfOneProcess
from pylinker.errors import ClosedError, InternalError, LimitError, SynchronizationAborted
from pylinker.native.enums import STACK_THREAD, Cause, Waited
from pylinker.native.failures import Failure
from pylinker.native.member import current_member, enter_thread
from pylinker.native.scopes import completed
from pylinker.native.threads import NativeThread, has_room_for_thread
from pylinker.native.waits import new_cell
from pylinker.runtime.engine import bump_epoch
from pylinker.runtime.failures import ThreadExit, has_trapped
from pylinker.sync.shared import Exclusive

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pylinker.linker.groups.context import LinkContext
    from pylinker.linker.groups.group import InstanceGroup
    from pylinker.linker.groups.prepared import PreparedInstanceGroup
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.state import LinkerState
    from pylinker.sync import WriteGuard

__all__ = ["GuestThread", "ThreadTable"]

logger = logging.getLogger("pylinker.threads")

_LAST_TID = (1 << 29) - 1
"""wasi-threads: thread numbers are from 1 to 2**29 - 1."""

_KEYS = 1 << 63
"""What a group that waits for the end of a thread waits on is this and the thread's number: no guest's address."""

_SLICE = 0.05
"""Seconds between two looks whether a thread has ended, should nobody tell."""

_PATIENCE = 5.0
"""Seconds to wait for a thread that the guest has put where nothing reaches it (``memory.atomic.wait32``)."""


class GuestThread(OfOneProcess):
    """A thread of the guest, in an instance group and on an OS thread of its own.

    ``tid`` is its number in the guest, positive and unique in the program. ``thread`` is Python's
    thread, or None for one the guest has started: it is made by the C core, and has nothing to do
    with Python while the guest calls nothing of it.
    """

    def __init__(
        self,
        table: ThreadTable,
        tid: int,
        body: Callable[[InstanceGroup], Any] | GuestEntry,
        name: str,
    ) -> None:
        self._table = table
        self._body = body
        self._result: Any = None
        self._failure: BaseException | None = None
        self._gone = False  # nothing is left of it: its group is taken out
        self._group: InstanceGroup | None = None
        self._ended_cell = new_cell()
        self._native: NativeThread | None = None
        self._has_group = (
            False  # the thread has taken it, and gives it up itself; under the table's lock
        )
        self._may_not_begin = False  # under the table's lock
        self.tid = tid
        self.thread: threading.Thread | None = None
        self._running: threading.Lock | None = None  # of a thread of Python's, until it has ended
        self._is_let_go = False  # that lock
        if not isinstance(body, GuestEntry):
            self._running = threading.Lock()
            self._running.acquire()
            self.thread = threading.Thread(
                target=self._run, args=(body,), name=f"{name}-{tid}", daemon=True
            )

    def __repr__(self) -> str:
        state = "running" if self.is_alive else "failed" if self._failure else "finished"
        return f"<GuestThread {self.tid} {state}>"

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return not self._ended_cell[0]

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is this one."""
        group = self._group
        return (
            self.thread is threading.current_thread()
            if self.thread
            else group is not None and group.state.number == current_member()
        )

    def join(self, timeout: float | None = None) -> Any:
        """Wait for the thread to end and return what its function returned.

        Raises TimeoutError after ``timeout`` seconds, and what ended the thread: the trap of its
        guest, SynchronizationAborted if the program ended first.
        """
        if not self._wait(timeout):
            raise TimeoutError(f"thread {self.tid} has not ended after {timeout} seconds")
        if self.thread is not None:
            self.thread.join()
        if self._failure is not None:
            raise self._failure
        return self._result

    def stopped(self, timeout: float) -> bool:
        """Wait for the thread to end, whatever its result; False after ``timeout`` seconds."""
        if not self._wait(timeout):
            return False
        if self.thread is not None and self.thread.ident is not None:
            self.thread.join()
        return True

    def _wait(self, timeout: float | None) -> bool:
        """Wait until the thread has ended; False after ``timeout`` seconds."""
        if self._gone:
            return True
        if self._running is None:
            return self._table.await_end_of(self, timeout)
        if not self._running.acquire(
            timeout=-1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX))
        ):
            return False
        self._running.release()  # for others who wait
        return True

    @property
    def is_gone(self) -> bool:
        """Whether nothing is left of the thread: its group is taken out of the program."""
        return self._gone

    def begin(self, group: InstanceGroup) -> None:
        """Start the OS thread, in this group.

        LimitError, RuntimeError or MemoryError if there can be no more threads.
        """
        group.native.set_thread(self.tid)
        self._group = group
        self._table.linker.note_thread(group, self.tid)
        if self.thread is not None:
            try:
                self.thread.start()
            except RuntimeError as error:
                raise LimitError(f"there can be no more threads: {error}") from error
            return
        assert isinstance(self._body, GuestEntry)
        module = self._body.module
        arguments = self._body.arguments(self.tid)
        self._native = NativeThread(
            group.native,
            arguments,
            self._ended,
            self._left,
            done=self._ended_cell,
            key=_KEYS + self.tid,
        )
        self._native.start(module.native, self._body.export)

    def withdraw(self, group: InstanceGroup | None) -> None:
        """Note that the thread could not be started, or that who started it was interrupted: then it may run all the same.

        If it does not and will not, its group goes, too.
        """
        with self._table.lock:
            self._may_not_begin = True
            runs = (
                self._gone or self._has_group or (self._native is not None and self._native.started)
            )
        if not runs:
            if group is not None:
                self._leave(group)
            self._end()

    def _leave(self, group: InstanceGroup) -> None:
        self._table.detach(self)
        self._table.linker.shutdown_instance_group(group)

    def _run(self, body: Callable[[InstanceGroup], Any]) -> None:
        """What Python's thread does."""
        with self._table.lock:
            if self._may_not_begin:
                return
            self._has_group = True
        group = self._group
        assert group is not None

        def call() -> Any:
            linker = self._table.linker
            with linker.context.own_group(group):
                result = None
                with contextlib.suppress(ThreadExit):  # the thread alone
                    result = body(group)
                linker.end_thread()
                return result

        self._finish(call, group)

    def _ended(self, failure: Failure | None) -> None:
        """Hear, on the thread that the core has made, what came of it."""
        group = self._group
        assert group is not None

        def call() -> None:
            try:
                with contextlib.suppress(ThreadExit):
                    if failure is not None:
                        group.store.raise_failure(failure)
                self._table.linker.end_thread(own_stack=True)
            finally:
                enter_thread(None)

        self._finish(call, group)

    def _left(self, guard: WriteGuard[LinkerState] | None) -> None:
        """Hear, under the write lock or when the program has ended (None), that the thread's function has returned. Its group is dead."""
        group = self._group
        assert group is not None
        try:
            self._table.detach(self)
            self._table.linker.take_group_out(group, guard)
        finally:
            self._end()

    def _finish(self, call: Callable[[], Any], group: InstanceGroup) -> None:
        """Note what ``call`` comes to, end the program if that is its end, and leave it."""
        try:
            self._result = call()
        except wasmtime.ExitTrap as exit_:
            self._failure = SynchronizationAborted("the program has ended")
            self._table.end(status=exit_.code)
        except ClosedError as error:
            self._failure = error
            if self._table.ended:  # it came too late to be told otherwise
                self._failure = SynchronizationAborted("the program has ended")
                self._failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - comes out of join
            self._failure = error
            if _is_guests(error):
                self._table.end(failure=error)
        finally:
            self._leave(group)
            del group, call
            self._end()

    def _end(self) -> None:
        shared = self._table.linker.context.shared
        self._table.forget(self)
        self._gone = True
        self._native = None  # which leads back here
        if self._running is not None and not self._is_let_go:
            self._is_let_go = True
            self._running.release()
        if not self._ended_cell[0]:
            self._ended_cell[0] = 1
            shared.wake(_KEYS + self.tid)
        shared.notify_exited()

    def leave_behind(self, failure: BaseException) -> None:
        """Note, in a child of fork(), that the thread is in the parent: joining it raises ``failure``."""
        self._failure = failure
        self._gone = True
        self.thread = None
        self._ended_cell[0] = 1

    def await_end(self, group: InstanceGroup) -> None:
        """Wait for the thread to end, whatever its result, as ``group``, which is parked; signals of the guest's reach it.

        Raises SynchronizationAborted if the program ends first.
        """
        member = group.state
        while not self._ended_cell[0]:
            result = member.wait(_KEYS + self.tid, self._ended_cell, 0)
            if result in (Waited.CANCELLED, Waited.INTERRUPTED):
                raise self._table.linker.context.shared.aborted()


class GuestEntry(NamedTuple):
    """Where a thread begins that the guest has started: the number of an export, and its arguments, given the thread's number."""

    module: LoadedModule
    export: int
    arguments: Callable[[int], tuple[int, ...]]


def _is_guests(error: BaseException) -> bool:
    """Whether the guest has crashed: its memory may be in any state, so the program ends, as a process does.

    A Python function that was spawned may fail for reasons of its own.
    """
    if isinstance(error, SynchronizationAborted):
        return False
    return isinstance(error, (wasmtime.Trap, wasmtime.WasmtimeError, InternalError)) or has_trapped(
        error
    )


class ThreadHost(Protocol):
    """The linker, as the threads of its program need it."""

    context: LinkContext

    @property
    def main(self) -> LoadedModule | None:
        """The main module."""

    def room_for_thread(self, *, wants_stack: bool) -> AbstractContextManager[None]:
        """Have room for a thread that begins."""

    def prepare_for_instance_group(
        self, *, wants_stack: bool, stack_top: int
    ) -> PreparedInstanceGroup:
        """Prepare a new group."""

    def create_instance_group(self, prepared: PreparedInstanceGroup) -> InstanceGroup:
        """Create the group that was prepared."""

    def shutdown_instance_group(self, group: InstanceGroup) -> None:
        """Take a group out of the program, on its own thread."""

    def take_group_out(self, group: InstanceGroup, guard: WriteGuard[LinkerState] | None) -> None:
        """Take a dead group out of the program."""

    def note_thread(self, group: InstanceGroup, tid: int) -> None:
        """Note the number that the guest has for a group's thread."""

    def end_thread(self, *, own_stack: bool = False) -> None:
        """Run the destructors of the calling thread."""


class ThreadTable:
    """The threads of one program, apart from the one that runs main.

    ``ended`` tells whether the program has ended; then ``status`` is its exit status, or
    ``failure`` what ended it. Safe to use from all threads.
    """

    def __init__(self, linker: ThreadHost, *, limit: int, name: str) -> None:
        self.linker = linker
        self.status: int | None = None
        self.failure: BaseException | None = None
        self.ended = False
        self._limit = limit
        self._name = name
        self.lock = (
            threading.RLock()
        )  # a signal handler may end the program while its thread has the lock
        self._numbers = itertools.count(1)
        self._alive: dict[int, GuestThread] = {}

    def __len__(self) -> int:
        return sum(thread.is_alive for thread in list(self._alive.values()))

    def reserve(self, last: int) -> None:
        """Give no thread a number up to ``last``."""
        self._numbers = itertools.count(last + 1)

    def get(self, tid: int) -> GuestThread | None:
        """Return a thread that has not ended, by its number."""
        return self._alive.get(tid)

    def start(
        self,
        body: Callable[[InstanceGroup], Any] | GuestEntry,
        *,
        wants_stack: bool,
        stack_top: int = 0,
    ) -> GuestThread:
        """Start a thread: create a group, and run ``body`` in it on a thread of its own.

        ``wants_stack`` and ``stack_top`` are those of PreparedInstanceGroup. Blocks, cooperatively,
        for the linker. Raises LimitError, UnsupportedError if nobody can initialise the main
        module's thread-local data for it, or what kept the group from being created; nothing is
        left then.
        """
        main = self.linker.main
        if (
            wants_stack and main is not None
        ):  # a thread that the guest starts has its data from the guest
            main.check_thread_locals()
        if len(self._alive) >= self._limit:
            self.reap()
        thread, prepared = None, None
        try:
            with self.lock:
                if len(self._alive) >= self._limit:
                    raise LimitError(
                        f"{self._name}: the limit of {self._limit} threads is reached: raise Limits(threads=...)"
                    )
                tid = next(self._numbers)
                if tid > _LAST_TID:
                    raise LimitError(f"{self._name}: all {_LAST_TID} thread numbers were used")
                thread = GuestThread(self, tid, body, self._name)
                self._alive[tid] = thread
            # Of a thread of Python's the default: to ask threading.stack_size is to set it.
            if not has_room_for_thread(STACK_THREAD if isinstance(body, GuestEntry) else 0):
                raise LimitError(f"{self._name}: there is no memory for another thread")
            with self.linker.room_for_thread(wants_stack=wants_stack):
                prepared = self.linker.prepare_for_instance_group(
                    wants_stack=wants_stack, stack_top=stack_top
                )
                with prepared:  # released, if it is not taken
                    group = self.linker.create_instance_group(prepared)
            thread.begin(group)
        except BaseException:
            if thread is not None:
                completed(thread.withdraw, None if prepared is None else prepared.group)
            raise
        return thread

    def reap(self) -> None:
        """Take out the groups of threads that have ended by themselves.

        Blocks, cooperatively, for the linker if there are any.
        """
        context, shared = self.linker.context, self.linker.context.shared
        if not shared.exited or not context.may_call_linker:
            return
        if not shared.cause:
            with contextlib.suppress(SynchronizationAborted):  # the program ends
                with Exclusive(shared, context.group.state) as exclusive:
                    self.reap_under(exclusive.guard)
                return
        self.reap_under(None)

    def reap_under(self, guard: WriteGuard[LinkerState] | None) -> None:
        """Do the same for a caller that has the write lock, or for whom the program has ended (None)."""
        while (ended := self.linker.context.shared.take_exited()) is not None:
            ended.on_reaped(guard)

    def orphan(self) -> None:
        """Note that nobody has the program any more: what keeps it alive are threads, until they end. Never blocks."""
        shared = self.linker.context.shared
        shared.close_exited()
        while shared.take_exited() is not None:
            pass

    def await_end_of(self, thread: GuestThread, timeout: float | None) -> bool:
        """Wait until nothing is left of a thread of the core's; False after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self.reap()
            if thread.is_gone or not (
                thread.is_alive or self.linker.context.may_call_linker
            ):  # within a load nothing is taken out
                return True
            left = _SLICE if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            self.linker.context.shared.wait_exited(left)

    @property
    def has_threads(self) -> bool:
        """Whether there is a thread that has not ended, or is just ending."""
        return len(self._alive) > self.linker.context.shared.exited

    def leave_behind(self) -> None:
        """Note, in a child of fork(), that all threads are in the parent; no lock that one of them may have is taken."""
        self.lock = threading.RLock()
        self.ended = True
        self.failure = self.linker.context.shared.aborted()
        for thread in self._alive.values():
            thread.leave_behind(self.failure)
        self._alive = {}

    def forget(self, thread: GuestThread) -> None:
        """Take a thread out of the table."""
        with self.lock:
            self._alive.pop(thread.tid, None)

    def detach(self, thread: GuestThread) -> None:
        """Let a thread have no group any more: nobody can reach it from now on."""
        with self.lock:
            thread._group = None

    def post(self, tid: int, signal: int) -> None:
        """Post a signal to a thread, if there is one of that number."""
        with self.lock:  # so that its group stays
            thread = self._alive.get(tid)
            group = thread._group if thread is not None else None
            if group is not None and group.signals is not None:
                group.signals.post(signal)

    def end(self, *, status: int | None = None, failure: BaseException | None = None) -> None:
        """End the program: the first status or failure counts, and every thread stops at its next step. Does not wait."""
        with self.lock:
            if not self.ended:
                self.ended = True
                self.status, self.failure = status, failure
        self.linker.context.shared.cancel(Cause.CLOSED, failure)
        bump_epoch()

    def outcome(self) -> int:
        """Return the exit status of the program that has ended, or raise what ended it."""
        if self.failure is not None:
            raise self.failure
        return self.status or 0

    def join_all(self) -> None:
        """Wait until all threads have stopped.

        One that the guest blocks where nothing reaches it is given up with a warning.
        """
        deadline = time.monotonic() + _PATIENCE
        while others := [thread for thread in list(self._alive.values()) if not thread.is_current]:
            for thread in others:  # and those that they have started meanwhile
                if not thread.stopped(max(0.0, deadline - time.monotonic())):
                    logger.warning(
                        "%r does not stop: it waits in guest code; it is left behind", thread
                    )
                    self.forget(thread)
        self.orphan()  # whoever was left behind and ends after all
