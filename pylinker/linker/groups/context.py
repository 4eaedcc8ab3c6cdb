"""Where a thread stands in a program's linker: its group, and the two ways to the LinkerState."""

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
    from pylinker.sync import InstanceGroupState, ReadGuard, WriteGuard

logger = logging.getLogger("pylinker.linker")

__all__ = ["Change", "LinkContext"]


class Change(Scope):
    """The right to change the LinkerState, and to have all groups carry an operation out: topology token and write lock.

    A context manager that has them from entering to leaving, or to :meth:`publish`.
    """

    __slots__ = ("_begun", "_context", "_group_state", "guard", "topology")

    def __init__(self, context: LinkContext, group_state: InstanceGroupState[DlOperation]) -> None:
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
        """Release both, those that are held."""
        context = self._context
        context.shared.changed()
        if context.changer == get_ident():
            context.changer = None
        leave_both(self.topology, self.guard, error)
        end_operation(self._begun)

    def publish(self, operation: DlOperation, commit: Callable[[], None] | None = None) -> None:
        """Have every other group carry out what this one has; ``commit`` then changes the state, before anybody goes on.

        Token and lock are given up on every way out. Raises RendezvousTimeout, with ``commit`` not
        called; the caller undoes the rest under a new Change.
        """
        context = self._context
        context.shared.changed()  # the lock is given up below, and then nobody may use what was remembered before
        try:
            context.shared.synchronize_link_operation(
                self.topology,
                operation,
                self.guard,
                self._group_state,
                commit=commit,
                timeout=context.timeout,
                wake=bump_epoch if context.preempt else None,
            )
        except RendezvousTimeout as error:
            tid = context.tids.get(error.thread or 0, 0)
            raise RendezvousTimeout(
                f"{f'thread {tid}' if tid else 'the main thread'} did not come to a safepoint within {context.timeout} seconds; "
                "preempt=True interrupts a thread that only computes",
                thread=tid,
            ) from None
        finally:
            if context.changer == get_ident():
                context.changer = None


class _Patience:
    """What a thread that waits for the load lock looks at now and then: the end, and how long it waits at most."""

    __slots__ = ("_context", "_deadline", "_timeout")

    def __init__(self, context: LinkContext, timeout: float) -> None:
        self._context = context
        self._timeout = timeout
        self._deadline = monotonic() + timeout

    def __call__(self) -> None:
        self._context.check_going_on()
        if monotonic() >= self._deadline:
            raise RendezvousTimeout(
                f"another thread has been loading or closing libraries for {self._timeout} seconds"
            )


class _Loading(Scope):
    """The load lock, from entering to leaving."""

    __slots__ = ("_context", "_depth")

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._depth = context.load_lock.depth

    def enter(self) -> InstanceGroup:
        """Take it."""
        context = self._context
        group = context.check_not_instantiating()
        context.load_lock.take(
            context.check_going_on
            if context.timeout is None
            else _Patience(context, context.timeout)
        )
        return group

    def leave(self, error: BaseException | None) -> None:
        """Give it back."""
        context = self._context
        # A call that is stopped in here can neither finish what it began nor undo it.
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

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._begun = False
        self._guard: ReadGuard[LinkerState] | None = None

    def enter(self) -> None:
        """Take it, unless the thread has it for writing."""
        context = self._context
        if context.changer != get_ident():
            self._begun = begin_operation(check=False)
            self._guard = context.shared.new_reader()
            context.shared.take_for_reading(self._guard, context.group.state)

    def leave(self, error: BaseException | None) -> None:
        """Give it back."""
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


class LinkContext:
    """One program's LinkerShared, LinkerState and groups, as the calling thread sees them.

    ``main_lock`` is taken by threads that have no group of their own. ``timeout`` (seconds, None: none)
    bounds a rendezvous; ``preempt`` says that running groups are reached through the epoch;
    ``tids`` has the guest's thread numbers by group, ``groups`` those with a thread of their own,
    by number; ``load_lock`` is :meth:`loading`'s; ``expired`` has, by thread, the errors of its
    time limits that are over; ``reap`` answers what takes out the groups of threads that have ended
    by themselves, under the write lock.
    """

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
        self.changer: int | None = None  # the thread that has a Change
        self.tids: dict[int, int] = {}
        self.main_lock = RecursiveMutex()
        self.load_lock = RecursiveMutex()
        self._main_group: InstanceGroup | None = None
        self.expired: dict[int, list[BaseException]] = {}
        self.reap: Callable[[], Callable[[WriteGuard[LinkerState] | None], None] | None] = lambda: (
            None
        )
        self.groups: dict[int, InstanceGroup] = {}

    @property
    def group(self) -> InstanceGroup:
        """The group of the calling thread: its own, or for a thread that is none of the guest's, the main group."""
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
        """Say which group threads use that have none of their own; they take turns."""
        self._main_group = group

    def own_group(self, group: InstanceGroup) -> Scope:
        """Make ``group`` the calling thread's own, as a context manager."""
        return _OwnGroup(group.state)

    @property
    def may_call_linker(self) -> bool:
        """Whether the calling thread is not in the middle of a load, where its guest must not come to the linker."""
        return self.changer != get_ident() and not self.group.state.is_replaying

    def check_not_instantiating(self) -> InstanceGroup:
        """Return the calling thread's group.

        Refuses a guest that calls the linker from a start function or a relocation, with a
        LinkError: its thread holds the lock already. Likewise a signal handler that came while the
        group waited for a leader.
        """
        group = self.groups.get(current_member(), self._main_group) or self.group
        if self.changer == get_ident() or group.state.is_replaying:
            check_not_interrupting()
            raise LinkError(
                "the linker was called by a module that is just being loaded (from its start function or relocations)"
            )
        if group.state.is_following:
            raise interrupting()
        return group

    def reap_exited(self, guard: WriteGuard[LinkerState]) -> None:
        """Take out the groups of threads that have ended by themselves: whoever gets the lock for a change does so first."""
        if self.shared.exited and (reap := self.reap()) is not None:
            reap(guard)

    def check_not_given_up(self) -> None:
        """Raise SynchronizationAborted if the linker was given up."""
        if self.shared.cause:
            raise self.shared.aborted()

    def check_in_time(self) -> None:
        """Raise TimeoutExpired if a time limit of the calling thread is over: for a thread that waits for others before it is in a call."""
        if errors := self.expired.get(get_ident()):
            raise errors[0]

    def check_going_on(self) -> None:
        """Raise what ends the calling thread's work, if something does: for loops of the linker whose length the guest chooses."""
        self.check_not_given_up()
        self.check_in_time()

    def stops(self, error: BaseException) -> bool:
        """Whether the calling thread's guest is to stop for an error: one of this program, and not of another that the guest has led to."""
        if not isinstance(error, STOPS):
            return False
        expired = self.expired.get(get_ident(), ())
        return (
            bool(self.shared.cause)
            or self.shared.has_stopped(error)
            or any(each is error for each in expired)
        )

    def stop_call(self, reason: BaseException, *, caller: int | None = None) -> bool:
        """Have the call in progress raise ``reason``; with ``caller`` only one that this thread makes. False: there is none.

        For a program of one thread, whose calls are numbered. Never blocks; any thread.
        """
        if not self.shared.stop_call(
            reason, holds=None if caller is None else (self.main_lock, caller)
        ):
            return False
        bump_epoch()
        return True

    def exclusive(self, group: InstanceGroup | None = None) -> Change:
        """Take topology token and write lock for the calling thread, as a context manager.

        Blocks, cooperatively.

        LinkError if this thread has them already: a guest called the linker from a start function
        or a relocation. That is not looked at if the caller gives its ``group``, as :meth:`loading`
        has just answered it.
        """
        return Change(self, (group or self.check_not_instantiating()).state)

    def undo(self, step: Callable[[], None]) -> None:
        """Undo, under the write lock, what has failed, whatever interrupts that.

        ``step`` undoes what remains. If the linker was given up meanwhile, nothing is undone. The
        calling thread has neither token nor lock.
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
        """Take the read lock for the calling thread, unless it has the write lock; its group is up to date then. Blocks, cooperatively.

        A context manager.
        """
        return _Reading(self)

    def loading(self) -> _Loading:
        """Hold the load lock, which comes before the topology token: one thread at a time loads, constructs, destructs and unloads.

        So nobody gets a library before its constructors are done. Recursive, as constructors may
        load. A thread that waits for it is parked; it gets SynchronizationAborted if the linker is
        given up, TimeoutExpired if a time limit of it is over, RendezvousTimeout after ``timeout``
        seconds, and signals are handled. A context manager that yields the calling thread's group.
        """
        return _Loading(self)
