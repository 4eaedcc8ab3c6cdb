"""The threads of a program: their numbers, creation and exit, and the end of the program."""

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

    from pylinker.linker.groups.group import InstanceGroup
    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.linker.groups.prepared import PreparedInstanceGroup
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.state import LinkerState
    from pylinker.sync import WriteGuard

__all__ = ["GuestThread", "ThreadTable"]

logger = logging.getLogger("pylinker.threads")

_LAST_TID = (1 << 29) - 1
"""wasi-threads: thread numbers are from 1 to 2**29 - 1."""

_EXIT_KEYS = 1 << 63
"""The base of the wait keys for the exit of a thread, to which its number is added.

It is not an address of any guest.
"""

_POLL_INTERVAL = 0.05
"""Seconds between two checks for the exit of a thread, in case no wake arrives."""

_JOIN_TIMEOUT = 5.0
"""Seconds to wait for a thread that the guest blocks in ``memory.atomic.wait32``.

Nothing interrupts such a thread.
"""


class GuestThread(OfOneProcess):
    """A thread of the guest, in an instance group and on an OS thread of its own."""

    tid: int
    """The number in the guest, positive and unique in the program."""
    thread: threading.Thread | None
    """Python's thread. None for a thread that the guest started: the C core creates it, and it
    needs no Python unless the guest calls functions in Python.

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
        self._reaped = False  # whether its group is removed
        self._group: InstanceGroup | None = None
        self._exited_cell = new_cell()
        self._native: NativeThread | None = None
        # Whether the thread has taken its group and removes it itself. Guarded by the table's lock.
        self._has_group = False
        self._may_not_begin = False  # guarded by the table's lock
        self.tid = tid
        self.thread = None
        self._running: threading.Lock | None = None  # held until a thread of Python exits
        self._is_let_go = False  # whether _running is released
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
        """Whether the thread has not exited yet."""
        return not self._exited_cell[0]

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
        """Wait until the thread has exited, and return the result of its function.

        Blocks: until then.

        Args:
            timeout: The maximum of seconds, None for no limit.

        Returns:
            The result of the function.

        Raises:
            TimeoutError: The thread has not exited in time.
            SynchronizationAborted: The program ended first.
            BaseException: The error that ended the thread, such as the trap of its guest.
        """
        if not self._wait(timeout):
            raise TimeoutError(f"thread {self.tid} has not ended after {timeout} seconds")
        if self.thread is not None:
            self.thread.join()
        if self._failure is not None:
            raise self._failure
        return self._result

    def stopped(self, timeout: float) -> bool:
        """Wait until the thread has exited, with any result; False after ``timeout`` seconds."""
        if not self._wait(timeout):
            return False
        if self.thread is not None and self.thread.ident is not None:
            self.thread.join()
        return True

    def _wait(self, timeout: float | None) -> bool:
        """Wait until the thread has exited; False after ``timeout`` seconds."""
        if self._reaped:
            return True
        if self._running is None:
            return self._table.await_end_of(self, timeout)
        if not self._running.acquire(
            timeout=-1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX))
        ):
            return False
        self._running.release()  # for other waiters
        return True

    @property
    def is_reaped(self) -> bool:
        """Whether the thread has exited and its group is removed from the program."""
        return self._reaped

    def begin(self, group: InstanceGroup) -> None:
        """Start the OS thread, in this group.

        Raises:
            LimitError: There can be no more threads.
            RuntimeError: Likewise.
            MemoryError: Likewise.
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
            self._on_exit,
            self._on_reap,
            done=self._exited_cell,
            key=_EXIT_KEYS + self.tid,
        )
        self._native.start(module.native, self._body.export)

    def withdraw(self, group: InstanceGroup | None) -> None:
        """Clean up after a failed or interrupted start; the thread may run all the same.

        If it does not run and will not, its group is removed, too.
        """
        with self._table.lock:
            self._may_not_begin = True
            runs = (
                self._reaped
                or self._has_group
                or (self._native is not None and self._native.started)
            )
        if not runs:
            if group is not None:
                self._leave(group)
            self._end()

    def _leave(self, group: InstanceGroup) -> None:
        self._table.detach(self)
        self._table.linker.shutdown_instance_group(group)

    def _run(self, body: Callable[[InstanceGroup], Any]) -> None:
        """Run the body on Python's thread."""
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
                with contextlib.suppress(ThreadExit):  # exits the thread alone
                    result = body(group)
                linker.end_thread()
                return result

        self._finish(call, group)

    def _on_exit(self, failure: Failure | None) -> None:
        """Process the result of the guest function, on the thread of the core."""
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

    def _on_reap(self, guard: WriteGuard[LinkerState] | None) -> None:
        """Remove the dead group of a thread that exited.

        ``guard`` holds the write lock; it is None after the end of the program.
        """
        group = self._group
        assert group is not None
        try:
            self._table.detach(self)
            self._table.linker.take_group_out(group, guard)
        finally:
            self._end()

    def _finish(self, call: Callable[[], Any], group: InstanceGroup) -> None:
        """Store the result of ``call``, end the program if necessary, and remove the group."""
        try:
            self._result = call()
        except wasmtime.ExitTrap as exit_:
            self._failure = SynchronizationAborted("the program has ended")
            self._table.end(status=exit_.code)
        except ClosedError as error:
            self._failure = error
            if self._table.ended:  # the program ended before the thread could be interrupted
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
        self._reaped = True
        self._native = None  # breaks a reference cycle
        if self._running is not None and not self._is_let_go:
            self._is_let_go = True
            self._running.release()
        if not self._exited_cell[0]:
            self._exited_cell[0] = 1
            shared.wake(_EXIT_KEYS + self.tid)
        shared.notify_exited()

    def leave_behind(self, failure: BaseException) -> None:
        """Record, in a child of fork(), that the thread is in the parent.

        Joining it raises ``failure``.
        """
        self._failure = failure
        self._reaped = True
        self.thread = None
        self._exited_cell[0] = 1

    def await_end(self, group: InstanceGroup) -> None:
        """Wait until the thread has exited, with any result, as the parked ``group``.

        Signals for the guest are delivered meanwhile.

        Raises:
            SynchronizationAborted: The program ended first.
        """
        member = group.state
        while not self._exited_cell[0]:
            result = member.wait(_EXIT_KEYS + self.tid, self._exited_cell, 0)
            if result in (Waited.CANCELLED, Waited.INTERRUPTED):
                raise self._table.linker.context.shared.aborted()


class GuestEntry(NamedTuple):
    """The entry point of a thread that the guest starts."""

    module: LoadedModule
    """The module."""
    export: int
    """The number of the export."""
    arguments: Callable[[int], tuple[int, ...]]
    """Returns the arguments of the export, given the number of the thread."""


def _is_guests(error: BaseException) -> bool:
    """Whether the guest has crashed.

    Its memory may be inconsistent then, so the program ends like a process.

    A Python function in a thread of its own may fail for other reasons.
    """
    if isinstance(error, SynchronizationAborted):
        return False
    return isinstance(error, (wasmtime.Trap, wasmtime.WasmtimeError, InternalError)) or has_trapped(
        error
    )


class ThreadHost(Protocol):
    """The linker, as the threads of its program use it."""

    context: ThreadLinkState

    @property
    def main(self) -> LoadedModule | None:
        """The main module."""

    def room_for_thread(self, *, needs_stack: bool) -> AbstractContextManager[None]:
        """Reserve memory for a new thread, as a context manager."""

    def prepare_for_instance_group(
        self, *, needs_stack: bool, stack_top: int
    ) -> PreparedInstanceGroup:
        """Prepare a new group."""

    def create_instance_group(self, prepared: PreparedInstanceGroup) -> InstanceGroup:
        """Create the prepared group."""

    def shutdown_instance_group(self, group: InstanceGroup) -> None:
        """Remove a group from the program, on its own thread."""

    def take_group_out(self, group: InstanceGroup, guard: WriteGuard[LinkerState] | None) -> None:
        """Remove a dead group from the program."""

    def note_thread(self, group: InstanceGroup, tid: int) -> None:
        """Record the guest's number of the thread of a group."""

    def end_thread(self, *, own_stack: bool = False) -> None:
        """Run the destructors of the calling thread."""


class ThreadTable:
    """The threads of one program, without the one that runs main.

    Threads: safe to use from all threads.
    """

    linker: ThreadHost
    """The linker of the program."""
    status: int | None
    """The exit status of the program, once it has ended."""
    failure: BaseException | None
    """The error that ended the program."""
    ended: bool
    """Whether the program has ended."""
    lock: threading.RLock
    """Guards the table. Recursive, since a signal handler may end the program while its thread
    holds the lock.

    """

    def __init__(self, linker: ThreadHost, *, limit: int, name: str) -> None:
        self.linker = linker
        self.status = None
        self.failure = None
        self.ended = False
        self._limit = limit
        self._name = name
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._alive: dict[int, GuestThread] = {}

    def __len__(self) -> int:
        return sum(thread.is_alive for thread in list(self._alive.values()))

    def reserve(self, last: int) -> None:
        """Do not use thread numbers up to ``last``."""
        self._numbers = itertools.count(last + 1)

    def get(self, tid: int) -> GuestThread | None:
        """Return a thread that has not exited, by its number."""
        return self._alive.get(tid)

    def start(
        self,
        body: Callable[[InstanceGroup], Any] | GuestEntry,
        *,
        needs_stack: bool,
        stack_top: int = 0,
    ) -> GuestThread:
        """Start a thread: create a group, and run ``body`` in it on a thread of its own.

        Nothing is left of a thread that could not be started.

        Blocks: cooperatively, for the linker.

        Args:
            body: A function, or an entry point in the guest.
            needs_stack: As in PreparedInstanceGroup.
            stack_top: As in PreparedInstanceGroup.

        Raises:
            LimitError: There can be no more threads.
            UnsupportedError: The main module has thread-local data that cannot be initialised.
            LinkError: One of its subclasses: the group could not be created.
        """
        main = self.linker.main
        # The guest itself provides the thread-local data of a thread that it starts.
        if needs_stack and main is not None:
            main.check_thread_locals()
        if len(self._alive) >= self._limit:
            self.reap()
        thread, prepared = None, None
        try:
            with self.lock:
                if len(self._alive) >= self._limit:
                    raise LimitError(
                        f"{self._name}: the limit of {self._limit} threads is reached: raise "
                        "Limits(threads=...)"
                    )
                tid = next(self._numbers)
                if tid > _LAST_TID:
                    raise LimitError(f"{self._name}: all {_LAST_TID} thread numbers were used")
                thread = GuestThread(self, tid, body, self._name)
                self._alive[tid] = thread
            # The default for a thread of Python, since threading.stack_size() would set the size.
            if not has_room_for_thread(STACK_THREAD if isinstance(body, GuestEntry) else 0):
                raise LimitError(f"{self._name}: there is no memory for another thread")
            with self.linker.room_for_thread(needs_stack=needs_stack):
                prepared = self.linker.prepare_for_instance_group(
                    needs_stack=needs_stack, stack_top=stack_top
                )
                with prepared:  # releases it if it is not used
                    group = self.linker.create_instance_group(prepared)
            thread.begin(group)
        except BaseException:
            if thread is not None:
                completed(thread.withdraw, None if prepared is None else prepared.group)
            raise
        return thread

    def reap(self) -> None:
        """Remove the groups of threads that exited.

        Blocks: cooperatively, for the linker if there are any.
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
        """Remove them; ``guard`` holds the write lock, and is None after the end of the program."""
        while (exited := self.linker.context.shared.take_exited()) is not None:
            exited.on_reaped(guard)

    def abandon(self) -> None:
        """Stop queueing exited threads.

        The program was garbage collected, and only its threads use it.

        Never blocks.
        """
        shared = self.linker.context.shared
        shared.close_exited()
        while shared.take_exited() is not None:
            pass

    def await_end_of(self, thread: GuestThread, timeout: float | None) -> bool:
        """Wait until a thread of the core has been removed; False after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self.reap()
            # Within a load no group is removed.
            if thread.is_reaped or not (thread.is_alive or self.linker.context.may_call_linker):
                return True
            left = _POLL_INTERVAL if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            self.linker.context.shared.wait_exited(left)

    @property
    def has_threads(self) -> bool:
        """Whether there is a thread that has not exited, or is just exiting."""
        return len(self._alive) > self.linker.context.shared.exited

    def leave_behind(self) -> None:
        """Record, in a child of fork(), that all threads are in the parent.

        No lock that one of them may hold is taken.
        """
        self.lock = threading.RLock()
        self.ended = True
        self.failure = self.linker.context.shared.aborted()
        for thread in self._alive.values():
            thread.leave_behind(self.failure)
        self._alive = {}

    def forget(self, thread: GuestThread) -> None:
        """Remove a thread from the table."""
        with self.lock:
            self._alive.pop(thread.tid, None)

    def detach(self, thread: GuestThread) -> None:
        """Detach a thread from its group: no other thread can reach it from now on."""
        with self.lock:
            thread._group = None

    def post(self, tid: int, signal: int) -> None:
        """Post a signal to the thread with this number, if there is one."""
        with self.lock:  # keeps the group alive
            thread = self._alive.get(tid)
            group = thread._group if thread is not None else None
            if group is not None and group.signals is not None:
                group.signals.post(signal)

    def end(self, *, status: int | None = None, failure: BaseException | None = None) -> None:
        """End the program; every thread stops at its next step. Does not wait.

        The first status or failure counts.
        """
        with self.lock:
            if not self.ended:
                self.ended = True
                self.status, self.failure = status, failure
        self.linker.context.shared.cancel(Cause.CLOSED, failure)
        bump_epoch()

    def outcome(self) -> int:
        """Return the exit status of the ended program, or raise the error that ended it."""
        if self.failure is not None:
            raise self.failure
        return self.status or 0

    def join_all(self) -> None:
        """Wait until all threads have stopped.

        A thread that the guest blocks where nothing interrupts it is abandoned with a warning.
        """
        deadline = time.monotonic() + _JOIN_TIMEOUT
        while others := [thread for thread in list(self._alive.values()) if not thread.is_current]:
            for thread in others:  # they may start more threads meanwhile
                if not thread.stopped(max(0.0, deadline - time.monotonic())):
                    logger.warning(
                        "%r does not stop: it waits in guest code; it is left behind", thread
                    )
                    self.forget(thread)
        self.abandon()  # abandoned threads may exit later
