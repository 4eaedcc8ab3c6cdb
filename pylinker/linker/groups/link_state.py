"""Per-thread view of the linker: the calling thread's group, and the locks of LinkerState."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING

from pylinker.errors import InternalError, LinkError, RendezvousTimeout
from pylinker.native.enums import Cause
from pylinker.native.member import Member, current_member, enter_thread
from pylinker.native.recursive import RecursiveMutex
from pylinker.native.scopes import Scope, completed
from pylinker.runtime.engine import bump_epoch
from pylinker.runtime.failures import STOPS
from pylinker.sync.reentry import (
    begin_operation,
    check_not_interrupting,
    end_operation,
    interrupting,
)
from pylinker.sync.shared import LinkerShared, leave_both

if TYPE_CHECKING:
    from typing import Self

    from pylinker.linker.groups.group import InstanceGroup
    from pylinker.linker.plan.operation import DlOperation
    from pylinker.linker.plan.state import LinkerState
    from pylinker.sync import InstanceGroupState, ReadGuard, TopologyToken, WriteGuard

logger = logging.getLogger("pylinker.linker")

__all__ = ["LinkTransaction", "ThreadLinkState"]


class LinkTransaction(Scope):
    """The exclusive right to change the LinkerState: topology token and write lock.

    A context manager that holds both until it is left, or until :meth:`publish`.
    """

    topology: TopologyToken
    """The topology token."""
    guard: WriteGuard[LinkerState]
    """The write lock."""

    __slots__ = ("_begun", "_context", "_group_state", "guard", "topology")

    def __init__(
        self, context: ThreadLinkState, group_state: InstanceGroupState[DlOperation]
    ) -> None:
        self._context = context
        self._group_state = group_state
        self._begun = False
        self.topology, self.guard = context.shared.new_exclusive()

    def enter(self) -> Self:
        """Take both."""
        context = self._context
        self._begun = begin_operation(check=False)
        context.shared.take_exclusive(self.topology, self.guard, self._group_state)
        context.changer = get_ident()
        context.reap_exited(self.guard)
        return self

    def leave(self, error: BaseException | None) -> None:
        """Release those that are held."""
        context = self._context
        context.shared.changed()
        if context.changer == get_ident():
            context.changer = None
        leave_both(self.topology, self.guard, error)
        end_operation(self._begun)

    def publish(self, operation: DlOperation, commit: Callable[[], None] | None = None) -> None:
        """Meet all other groups, commit, and wait until they have replayed the operation.

        Token and lock are released on every way out.

        Args:
            operation: The operation. The calling group has carried it out already, or does so in
                ``commit``.
            commit: Changes the state, when all groups have arrived and before any replays.

        Raises:
            RendezvousTimeout: Another group did not take part in time. ``commit`` was not called;
                the caller rolls back the rest in a new transaction.
        """
        context = self._context
        # Cached results must not be used from here on, nor, once the state has changed under the
        # write lock, those that were cached meanwhile.
        context.shared.changed()

        def committed() -> None:
            if commit is not None:
                commit()
            context.shared.changed()

        try:
            context.shared.synchronize_link_operation(
                self.topology,
                operation,
                self.guard,
                self._group_state,
                commit=committed,
                timeout=context.timeout,
                wake=bump_epoch if context.preempt else None,
            )
        except RendezvousTimeout as error:
            tid = context.tids.get(error.thread or 0, 0)
            raise RendezvousTimeout(
                f"{f'thread {tid}' if tid else 'the main thread'} did not come to a safepoint "
                f"within {context.timeout} seconds; "
                "preempt=True interrupts a thread that only computes",
                thread=tid,
            ) from None
        finally:
            if context.changer == get_ident():
                context.changer = None


class _LoadLockCheck:
    """The checks of a thread that waits for the load lock: cancellation, and the timeout."""

    __slots__ = ("_context", "_deadline", "_timeout")

    def __init__(self, context: ThreadLinkState, timeout: float) -> None:
        self._context = context
        self._timeout = timeout
        self._deadline = monotonic() + timeout

    def __call__(self) -> None:
        self._context.check_not_stopped()
        if monotonic() >= self._deadline:
            raise RendezvousTimeout(
                f"another thread has been loading or closing libraries for {self._timeout} seconds"
            )


class _Loading(Scope):
    """The load lock, from entering to leaving."""

    __slots__ = ("_context", "_depth")

    def __init__(self, context: ThreadLinkState) -> None:
        self._context = context
        self._depth = context.load_lock.depth

    def enter(self) -> InstanceGroup:
        """Take it."""
        context = self._context
        group = context.check_not_instantiating()
        context.load_lock.take(
            context.check_not_stopped
            if context.timeout is None
            else _LoadLockCheck(context, context.timeout)
        )
        return group

    def leave(self, error: BaseException | None) -> None:
        """Release it."""
        context = self._context
        # A call that is stopped in here can neither finish its operation nor roll it back.
        if (
            error is not None
            and not context.state.threaded
            and context.load_lock.depth > self._depth
            and context.stops(error)
        ):
            context.shared.cancel(Cause.CLOSED, error)
        context.load_lock.restore(self._depth)


class _Reading(Scope):
    """The read lock, from entering to leaving."""

    __slots__ = ("_begun", "_context", "_guard")

    def __init__(self, context: ThreadLinkState) -> None:
        self._context = context
        self._begun = False
        self._guard: ReadGuard[LinkerState] | None = None

    def enter(self) -> None:
        """Take it, unless the thread holds the write lock."""
        context = self._context
        if context.changer != get_ident():
            self._begun = begin_operation(check=False)
            self._guard = context.shared.new_reader()
            context.shared.take_for_reading(self._guard, context.group.state)

    def leave(self, error: BaseException | None) -> None:
        """Release it."""
        if self._guard is not None:
            self._guard.leave(error)
        end_operation(self._begun)


class _OwnGroup(Scope):
    """A group of the thread's own, from entering to leaving."""

    __slots__ = ("_member",)

    def __init__(self, member: Member) -> None:
        self._member = member

    def enter(self) -> None:
        enter_thread(self._member)

    def leave(self, _error: BaseException | None) -> None:
        enter_thread(None)


class ThreadLinkState:
    """The LinkerShared, LinkerState and groups of one program, as seen by the calling thread."""

    shared: LinkerShared[LinkerState, DlOperation]
    """The locks and the rendezvous."""
    state: LinkerState
    """The state of the program."""
    preempt: bool
    """Whether running groups are interrupted through the epoch."""
    timeout: float | None
    """The timeout of a rendezvous in seconds, None for none."""
    changer: int | None
    """The thread that holds token and write lock."""
    tids: dict[int, int]
    """The guest's thread numbers, by group."""
    main_lock: RecursiveMutex
    """The mutex of threads without a group of their own, which share the main group."""
    load_lock: RecursiveMutex
    """The lock of :meth:`loading`."""
    expired: dict[int, list[BaseException]]
    """The errors of expired time limits, by thread."""
    reap: Callable[[], Callable[[WriteGuard[LinkerState] | None], None] | None]
    """Returns the function that removes the groups of exited threads under the write lock."""
    groups: dict[int, InstanceGroup]
    """The groups with a thread of their own, by number."""

    def __init__(
        self,
        shared: LinkerShared[LinkerState, DlOperation],
        state: LinkerState,
        *,
        preempt: bool,
        timeout: float | None,
    ) -> None:
        self.shared = shared
        self.state = state
        self.preempt = preempt
        self.timeout = timeout
        self.changer = None
        self.tids = {}
        self.main_lock = RecursiveMutex()
        self.load_lock = RecursiveMutex()
        self._main_group: InstanceGroup | None = None
        self.expired = {}
        self.reap = lambda: None
        self.groups = {}

    @property
    def group(self) -> InstanceGroup:
        """The group of the calling thread: its own, or the main group for a thread of the host."""
        group = self.groups.get(current_member(), self._main_group)
        if group is None:
            raise InternalError("a program without groups")
        return group

    @property
    def is_guest_thread(self) -> bool:
        """Whether the calling thread has a group of its own."""
        return current_member() in self.groups

    @property
    def main_group(self) -> InstanceGroup:
        """The group that runs main."""
        assert self._main_group is not None
        return self._main_group

    def set_main_group(self, group: InstanceGroup) -> None:
        """Set the group that threads without a group of their own share."""
        self._main_group = group

    def own_group(self, group: InstanceGroup) -> Scope:
        """Make ``group`` the calling thread's own, as a context manager."""
        return _OwnGroup(group.state)

    @property
    def may_call_linker(self) -> bool:
        """Whether the calling thread's guest may call the linker: it is not in a load."""
        return self.changer != get_ident() and not self.group.state.is_replaying

    def check_not_instantiating(self) -> InstanceGroup:
        """Return the calling thread's group, if it may call the linker.

        Raises:
            LinkError: The guest calls the linker from a start function or a relocation, while its
                thread holds the lock already; or a signal handler interrupted the group while it
                waited for a leader.
        """
        group = self.groups.get(current_member(), self._main_group) or self.group
        if self.changer == get_ident() or group.state.is_replaying:
            check_not_interrupting()
            raise LinkError(
                "the linker was called by a module that is just being loaded (from its start "
                "function or relocations)"
            )
        if group.state.is_following:
            raise interrupting()
        return group

    def reap_exited(self, guard: WriteGuard[LinkerState]) -> None:
        """Remove the groups of threads that exited.

        Each thread does so first when it has taken the lock for a change.
        """
        if self.shared.exited and (reap := self.reap()) is not None:
            reap(guard)

    def check_not_cancelled(self) -> None:
        """Raise SynchronizationAborted if the linker was cancelled."""
        if self.shared.cause:
            raise self.shared.aborted()

    def check_in_time(self) -> None:
        """Raise TimeoutExpired if a time limit of the calling thread has expired.

        This is for a thread that waits before it is in a call.
        """
        if errors := self.expired.get(get_ident()):
            raise errors[0]

    def check_not_stopped(self) -> None:
        """Raise the error that ends the work of the calling thread, if there is one.

        This is for loops of the linker whose length the guest chooses.
        """
        self.check_not_cancelled()
        self.check_in_time()

    def stops(self, error: BaseException) -> bool:
        """Whether an error stops the guest of the calling thread.

        It must be an error of this program, not of another that the guest has called.
        """
        if not isinstance(error, STOPS):
            return False
        expired = self.expired.get(get_ident(), ())
        return (
            bool(self.shared.cause)
            or self.shared.has_stopped(error)
            or any(each is error for each in expired)
        )

    def stop_call(self, reason: BaseException, *, caller: int | None = None) -> bool:
        """Make the call in progress raise ``reason``; False if there is none.

        This is for a program of one thread, whose calls are numbered.

        Blocks: never. Threads: any.

        Args:
            reason: The error.
            caller: Stop only a call of this thread; None for any.

        Returns:
            Whether there is such a call.
        """
        if not self.shared.stop_call(
            reason, holds=None if caller is None else (self.main_lock, caller)
        ):
            return False
        bump_epoch()
        return True

    def exclusive(self, group: InstanceGroup | None = None) -> LinkTransaction:
        """Take topology token and write lock for the calling thread, as a context manager.

        Blocks: cooperatively.

        Args:
            group: The group of the calling thread, if :meth:`loading` has just returned it; then
                the check below is skipped.

        Returns:
            The context manager.

        Raises:
            LinkError: This thread holds them already: a guest called the linker from a start
                function or a relocation.
        """
        return LinkTransaction(self, (group or self.check_not_instantiating()).state)

    def undo(self, step: Callable[[], None]) -> None:
        """Roll back a failure under the write lock, even if that is interrupted.

        ``step`` rolls back what remains. If the linker was cancelled meanwhile, nothing is rolled
        back. The calling thread holds neither token nor lock.
        """
        pending = [step]
        try:
            completed(self._undo, pending)
        except LinkError as error:
            logger.warning("undoing what failed: %s", error)

    def _undo(self, pending: list[Callable[[], None]]) -> None:
        if pending:
            with self.exclusive():
                completed(pending[-1])
                del pending[-1]

    def reading(self) -> _Reading:
        """Take the read lock for the calling thread, unless it holds the write lock.

        A context manager. The group of the thread is up to date inside.

        Blocks: cooperatively.
        """
        return _Reading(self)

    def loading(self) -> _Loading:
        """Take the load lock, which comes before the topology token.

        One thread at a time loads, constructs, destructs and unloads, so no thread gets a library
        before its constructors have run. Recursive, as constructors may load. A context manager
        that yields the group of the calling thread.

        Blocks: the thread is parked meanwhile, and signals are handled.

        Raises:
            SynchronizationAborted: The linker was cancelled.
            TimeoutExpired: A time limit of the thread has expired.
            RendezvousTimeout: ``timeout`` seconds have passed.
        """
        return _Loading(self)
