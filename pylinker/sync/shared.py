"""LinkerShared: the locks, the flag and the buses of one dynamic-link universe."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, NoReturn, TypeGuard, TypeVar

from pylinker.errors import InternalError, RendezvousTimeout
from pylinker.native.core import ffi
from pylinker.native.enums import ACQUIRED, POISONED, TIMEOUT, Breach, Cause
from pylinker.native.recursive import RecursiveMutex
from pylinker.native.scopes import Scope, completed
from pylinker.native.shared import Shared
from pylinker.native.sync import (
    ReadGuard,
    SharedHandle,
    TopologyToken,
    WriteGuard,
    lead,
    new_reader,
    new_token,
    new_writer,
)
from pylinker.native.threads import NativeThread, take_exited
from pylinker.native.trace import Trace
from pylinker.native.waits import nanoseconds
from pylinker.sync.group_state import InstanceGroupState
from pylinker.sync.log import OperationLog
from pylinker.sync.outcome import aborted, check_result, give_up
from pylinker.sync.reentry import check_not_interrupting
from pylinker.sync.topology import TopologyCoordinator

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Exclusive", "LinkerShared", "Waits", "leave_both"]

logger = logging.getLogger("pylinker.sync")

S = TypeVar("S")
Op = TypeVar("Op")
R = TypeVar("R")

_BREACHES: Final[dict[int, str]] = {
    Breach.OPEN: "a barrier is open already",
    Breach.LOG: "operation {number} has another number in the log",
    Breach.PUBLISH: "try_broadcast of operation {number} failed: a group has not answered the one before",
    Breach.WITHDRAW: "operation {number} could not be withdrawn",
}
"""What is said where leading has found the protocol broken, by ``enum pl_breach``."""
_WAITS_FOR_ITSELF: Final = (
    "a thread waits for what it has: it holds the write lock of this linker's state"
)


class Waits(NamedTuple):
    """How often groups waited for each other: rendezvous that were ``led``, and ``followed``.

    ``nanoseconds`` is what leaders waited in all, ``longest`` the longest single wait; ``paused``
    the pauses of threads that found the token or the lock taken.
    """

    led: int
    followed: int
    nanoseconds: int
    longest: int
    paused: int


class LinkerShared(SharedHandle, Generic[S, Op]):
    """Shared linkage and synchronization for every handle of one program's linker.

    Guards a LinkerState of type ``S`` and carries operations of type ``Op`` to all groups.
    :meth:`clone` gives another handle of the same universe. All methods are safe to use from all
    threads; each says whether it blocks. Every wait ends with SynchronizationAborted when the
    linker is given up (:meth:`cancel`).
    """

    if TYPE_CHECKING:
        _native: Shared
        _linker_state: S

    topology_coordinator: TopologyCoordinator
    """Grants the topology token."""

    def __init__(self, linker_state: S, trace: Trace | None = None) -> None:
        native = Shared()
        if trace is not None:
            native.set_trace(trace)
        self.bind(native, linker_state)
        self._reasons: weakref.WeakSet[BaseException] = weakref.WeakSet()  # of stops
        self.topology_coordinator = TopologyCoordinator(native)
        self.log: OperationLog[Op] = OperationLog(native)

    @classmethod
    def new(cls, linker_state: S, trace: Trace | None = None) -> LinkerShared[S, Op]:
        """Wrap a freshly made LinkerState; there are no groups yet.

        What they will do is noted in ``trace``.
        """
        return cls(linker_state, trace)

    def __repr__(self) -> str:
        return f"<LinkerShared of {self.num_groups} groups{', cancelled' if self._native.cause else ''}>"

    def __eq__(self, other: object) -> bool:
        return self._native is other._native if isinstance(other, LinkerShared) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._native)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a LinkerShared is neither copied nor pickled: it is locks of this process; clone() gives another handle"
        )

    def clone(self) -> LinkerShared[S, Op]:
        """Return another handle of the same universe: same state, locks, flag and buses.

        It compares equal to this one.
        """
        other: LinkerShared[S, Op] = LinkerShared.__new__(LinkerShared)
        other.bind(self._native, self._linker_state)
        other.__dict__.update(self.__dict__)
        return other

    @property
    def num_groups(self) -> int:
        """How many groups have subscribed to the buses."""
        return self._native.num_groups

    def waits(self) -> Waits:
        """Return how often groups waited for each other so far. Never blocks."""
        waits = self._native.waits
        return Waits(
            int(waits.led),
            int(waits.followed),
            int(waits.nanoseconds),
            int(waits.longest),
            int(waits.paused),
        )

    @property
    def published(self) -> int:
        """How many operations several groups carried out together, withdrawn ones included."""
        return self._native.published

    # Groups

    def subscribe(
        self,
        guard: WriteGuard[S],
        replay: Callable[[int, Op], None],
        topology: TopologyToken | None = None,
    ) -> InstanceGroupState[Op]:
        """Make a group's part in the rendezvous: a receiver of both buses that has replayed everything so far.

        Needs the write lock, and for all but the first group the topology token.
        """
        group_state = self.new_member(replay)
        try:
            self.subscribe_member(guard, group_state, topology)
        except BaseException:
            completed(group_state.free)
            raise
        return group_state

    def new_member(self, replay: Callable[[int, Op], None]) -> InstanceGroupState[Op]:
        """Return a group's part in the rendezvous, of which the rendezvous knows nothing before :meth:`subscribe_member`."""
        if not callable(replay):
            raise TypeError(
                f"replay={replay!r}: give a function of an operation's number and the operation"
            )
        return InstanceGroupState(self._native, replay)

    def subscribe_member(
        self,
        guard: WriteGuard[S],
        group_state: InstanceGroupState[Op],
        topology: TopologyToken | None,
    ) -> None:
        """Do what :meth:`subscribe` does with a new member, for a caller that unsubscribes it whatever is raised."""
        self._check_guard(guard)
        self._check_group(group_state)
        first = topology is None and self.num_groups == 0
        if (
            not first
            and (topology is None or guard.topology is not topology)
            and not self._is_topology(topology)
        ):
            raise InternalError("a group subscribes without the topology token")
        group_state.join()
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("group %d joins, as one of %d", group_state.number, self.num_groups)

    def unsubscribe(self, guard: WriteGuard[S], group_state: InstanceGroupState[Op]) -> None:
        """Take a group out of both buses.

        Needs the write lock; no thread may use the group any more.
        """
        self._check_guard(guard)
        self._check_group(group_state)
        group_state.die()
        group_state.free()
        self._native.forget_replayed()  # a group that is alone leads nobody, and would keep it for ever
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("group %d leaves, %d are left", group_state.number, self.num_groups)

    def assert_exactly_one_dl_bus_subscriber(self) -> None:
        """InternalError unless both buses have exactly one receiver: only then the main group is alone. Needs the write lock."""
        barriers, operations = self._native.receivers
        if (barriers, operations) != (1, 1):
            raise InternalError(
                f"both buses must have one receiver, but they have {barriers} and {operations}"
            )

    def bootstrap_exclusive_write_then(self, function: Callable[[S], R]) -> R:
        """Change the LinkerState while the main group is still alone, and return what ``function`` returns.

        For the start of a program only: it waits for the lock blindly, which is safe as there is
        nobody to meet. InternalError if there is not exactly one group; that is looked at with the
        lock held.
        """
        with self._blocking_write(None) as guard:
            self.assert_exactly_one_dl_bus_subscriber()
            return function(guard.state)

    # Locks

    def write_linker_state_alone(self) -> WriteGuard[S]:
        """Take the lock for writing before there is any group.

        Never blocks; InternalError once somebody could have it.
        """
        guard = self.try_write_linker_state() if not self.num_groups else None
        if guard is None:
            raise InternalError("the linker's state is not only its maker's any more")
        return guard

    if TYPE_CHECKING:  # C's: csrc/python/shared.c

        def try_write_linker_state(self) -> WriteGuard[S] | None:
            """Return a write guard, or None while another guard holds the lock. Never blocks.

            SynchronizationAborted if it is poisoned.
            """

        def try_read_linker_state(self) -> ReadGuard[S] | None:
            """Return a read guard, or None while the lock is held for writing. Never blocks.

            SynchronizationAborted if it is poisoned.
            """

        def dl_operation_pending_load(self, ordering: int, /) -> bool:
            """Load the pending flag with an :class:`~pylinker.sync.Ordering`. Never blocks.

            ValueError for any other ordering.

            A relaxed load may miss a change that was just made: only for callers that look again
            soon. SEQ_CST where a thread was woken up because of the change.
            """

    def write_linker_state(self, group_state: InstanceGroupState[Op]) -> WriteGuard[S]:
        """Take the lock for writing, taking part in whatever is pending meanwhile; the group has then replayed everything.

        Blocks, cooperatively. This is the way for a group's thread: another may hold the lock while
        it waits for this one at a barrier.
        """
        return self.write_now(group_state) or self._write_as(group_state)

    def _write_as(self, group_state: InstanceGroupState[Op]) -> WriteGuard[S]:
        self._check_group(group_state)
        guard = new_writer(self._native, self._linker_state, None)
        try:
            self._take(guard, group_state)
            self._native.forget_replayed()
            guard.is_given = True
        except BaseException as error:
            completed(guard.leave, error)
            raise
        return guard

    def read_linker_state(self, group_state: InstanceGroupState[Op]) -> ReadGuard[S]:
        """Take the lock for reading; the group has then replayed everything.

        Blocks, cooperatively.
        """
        return self.read_now(group_state) or self._read_as(group_state)

    def _read_as(self, group_state: InstanceGroupState[Op]) -> ReadGuard[S]:
        guard = self.new_reader()
        try:
            self.take_for_reading(guard, group_state)
            guard.is_given = True
        except BaseException as error:
            completed(guard.leave, error)
            raise
        return guard

    def new_reader(self) -> ReadGuard[S]:
        """Return a guard that holds nothing yet, for :meth:`take_for_reading`."""
        return new_reader(self._native, self._linker_state, None)

    def take_for_reading(self, guard: ReadGuard[S], group_state: InstanceGroupState[Op]) -> None:
        """Take the lock for reading, as :meth:`read_linker_state` does, for a caller that releases the guard whatever is raised."""
        self._check_group(group_state)
        if not guard.take_now(group_state):
            self._take(guard, group_state)

    def acquire_topology_token(self, group_state: InstanceGroupState[Op]) -> TopologyToken:
        """Take the topology token, before the lock. Blocks, cooperatively."""
        return self.acquire_now(group_state) or self._acquire_as(group_state)

    def _acquire_as(self, group_state: InstanceGroupState[Op]) -> TopologyToken:
        self._check_group(group_state)
        topology = new_token(self._native)
        try:
            self._take(topology, group_state)
            topology.is_given = True
        except BaseException as error:
            completed(topology.leave, error)
            raise
        return topology

    def write_linker_state_blocking_holding_topology(
        self, topology: TopologyToken
    ) -> tuple[TopologyToken, WriteGuard[S]]:
        """Take the lock for writing, waiting for it blindly, for a caller that holds the token.

        For a thread that makes a new group: it is parked, or no group's, so nobody at a barrier
        waits for it. Returns token and guard; release the guard first. InternalError if the token
        is not out.
        """
        self._check_topology(topology)
        return topology, self._blocking_write(topology)

    def write_linker_state_with_topology(
        self, group_state: InstanceGroupState[Op]
    ) -> tuple[TopologyToken, WriteGuard[S]]:
        """Take the topology token, then the lock for writing. Blocks, cooperatively.

        Returns both; release the guard first.
        """
        topology, guard = self.new_exclusive()
        try:
            self.take_exclusive(topology, guard, group_state)
            topology.is_given = guard.is_given = True
        except BaseException as error:
            completed(leave_both, topology, guard, error)
            raise
        return topology, guard

    def new_exclusive(self) -> tuple[TopologyToken, WriteGuard[S]]:
        """Return a token and a guard that hold nothing yet, for :meth:`take_exclusive`."""
        topology = new_token(self._native)
        return topology, new_writer(self._native, self._linker_state, topology)

    def take_exclusive(
        self, topology: TopologyToken, guard: WriteGuard[S], group_state: InstanceGroupState[Op]
    ) -> None:
        """Take both, as :meth:`write_linker_state_with_topology` does, for a caller that releases them whatever is raised."""
        self._check_group(group_state)
        if not guard.take_both(group_state):
            self._take(topology, group_state)
            self._take(guard, group_state)
        self._native.forget_replayed()

    def prepare_topology(
        self, topology: TopologyToken, guard: WriteGuard[S], group_state: InstanceGroupState[Op]
    ) -> None:
        """Take the topology token, and with it the lock for writing if that is free.

        Blocks, cooperatively, for the token. Of :meth:`new_exclusive`, for a caller that releases
        them whatever is raised.
        """
        self._check_group(group_state)
        if not guard.take_both(group_state):
            self._take(topology, group_state)

    # The rendezvous

    def synchronize_link_operation(
        self,
        topology: TopologyToken,
        operation: Op,
        linker_state_write_lock: WriteGuard[S],
        group_state: InstanceGroupState[Op],
        *,
        commit: Callable[[], None] | None = None,
        timeout: float | None = None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        """Have every other group carry out an operation that this group has carried out already; returns when they have.

        Blocks until each group is at the barrier or parked, and until those at the barrier have
        replayed. Token and guard were taken before, in that order, and are released on every way
        out. With one group there is nothing to do but ``commit``.

        ``commit`` is called when all are there, with the lock still held for writing: the place for
        changes that must appear with the operation. ``wake`` is called once the barrier is up, to
        reach groups that make no call. After ``timeout`` seconds without all
        groups at the barrier, RendezvousTimeout: the operation was withdrawn, the caller undoes its
            own part. Any other failure while
        others wait gives up the linker for good: the leader gets it as it is, all others
            SynchronizationAborted.
        """
        guard = linker_state_write_lock
        try:
            self._check_topology(topology)
            self._check_guard(guard)
            if guard.topology is not topology:
                raise InternalError("the write lock was not taken under the topology token")
            self._check_group(group_state)
            if operation is None:
                raise TypeError(
                    "an operation is None, which the log has for those that were withdrawn"
                )
            limit = nanoseconds(timeout)  # refuse a bad one before anybody waits
            native = getattr(operation, "native", None)
            address = int(ffi.cast("uintptr_t", native.pointer)) if native is not None else 0
            if self.log.is_long():
                self.log.compact()
            if logger.isEnabledFor(logging.DEBUG):
                wake = self._told(wake, operation)
            # C holds both from here on, and gives them back.
            result, number, late, breach = lead(
                group_state, topology, guard, operation, address, wake, commit, limit
            )
        except BaseException:
            completed(self._give_back, topology, guard)
            raise
        if result == TIMEOUT:
            raise RendezvousTimeout(
                f"thread {late} did not come to a safepoint within {timeout} seconds", thread=late
            )
        if breach:
            broken = InternalError(_BREACHES[breach].format(number=number))
            give_up(self._native, Cause.BUS, broken)
            raise broken
        check_result(self._native, result, group_state)
        if number:  # else there was no other group
            logger.debug("operation %d is done in every running group", number)

    def _told(self, wake: Callable[[], None] | None, operation: Op) -> Callable[[], None]:
        def told() -> None:
            if wake is not None:
                wake()
            logger.debug("barrier %d is up: %r", self._native.published + 1, operation)

        return told

    def _give_back(self, topology: object, guard: object) -> None:
        """Release what is this linker's of a token and a guard."""
        if isinstance(guard, WriteGuard) and guard.guards(self._native):
            guard.leave(None)
        if self._is_topology(topology):
            topology.leave(None)

    def changed(self) -> None:
        """Note, with the write lock held or just before it is given up, that names may mean something else from now on."""
        self._native.changed()

    @property
    def changes(self) -> int:
        """How often that was."""
        return self._native.changes

    def do_pending_link_operations_internal(self, group_state: InstanceGroupState[Op]) -> None:
        """Follow: come to the barrier, wait for the operation, and replay all that is published, under a read lock.

        Blocks until the leader has published. SynchronizationAborted if the linker is given up,
        InternalError if the group has no receivers any more, is another linker's, or if the calling
        thread has the write lock: its leader would wait for itself.
        """
        self._check_group(group_state)
        group_state.follow()

    # The end

    @property
    def exited(self) -> int:
        """How many threads have ended by themselves, with their groups still there: see :meth:`take_exited`."""
        return self._native.exited

    def take_exited(self) -> NativeThread | None:
        """Take one of them, or return None; its ``left`` is to be called, by the caller who has the write lock. Never blocks."""
        return take_exited(self._native)

    def close_exited(self) -> None:
        """Have threads take their groups out themselves from now on."""
        self._native.close_exited()

    def notify_exited(self) -> None:
        """Wake who waits in :meth:`wait_exited`."""
        self._native.notify_exited()

    def wait_exited(self, timeout: float) -> None:
        """Wait for a thread to end by itself, for :meth:`notify_exited`, or a moment, ``timeout`` seconds at most. Blocks."""
        self._native.wait_exited(timeout)

    def cancel(self, cause: int, reason: BaseException | None = None) -> bool:
        """Give up the linker, for good: every waiter wakes, and every later call raises.

        True if this was the first cause. ``cause`` is a :class:`~pylinker.sync.Cause`; ValueError
        for any other number.
        """
        return give_up(self._native, Cause(cause), reason)

    def abandon(self) -> None:
        """Give up the linker in a child of the process, whose only thread calls."""
        self._native.abandon()

    @property
    def cause(self) -> int:
        """Why the linker was given up (a ``CAUSE_`` of :mod:`pylinker.native`), 0 if it was not."""
        return self._native.cause

    @property
    def reason(self) -> BaseException | None:
        """The exception that came with the first cause, or None."""
        return self._native.reason

    def stop_call(
        self, reason: BaseException, *, holds: tuple[RecursiveMutex, int] | None = None
    ) -> bool:
        """Have the call in progress raise ``reason``, for a linker whose calls are numbered; the linker goes on. False: there is none.

        With ``holds`` (a mutex and the identity of a thread) only if that thread makes the call. The
        call is stopped at its next look, for which the caller moves the epoch; if it ends before,
        nothing happens. Never blocks; any thread.
        """
        call = self._native.call
        if not call:
            return False
        if holds is not None:
            # The holder of the mutex does not change during a call: if the same call is still in
            # progress, it is this one's.
            mutex, identity = holds
            if mutex.holder != identity or self._native.call != call:
                return False
        self._reasons.add(reason)  # before the call can raise it
        self._native.stop(call, reason)
        return True

    def has_stopped(self, reason: BaseException) -> bool:
        """Whether a call of this linker was stopped for this exception.

        Never blocks; any thread.
        """
        return reason in self._reasons

    def wake(self, key: int) -> None:
        """Wake all groups that wait on a key of the host's (:meth:`pylinker.native.member.Member.wait`)."""
        self._native.wake(key)

    def aborted(self) -> BaseException:
        """Return the exception for a linker that was given up, or for the call in progress if that was stopped."""
        return aborted(self._native)

    # Helpers

    def _take(
        self,
        hold: ReadGuard[S] | WriteGuard[S] | TopologyToken,
        group_state: InstanceGroupState[Op],
    ) -> None:
        """Take it as a group's thread must, where that could not be done at once."""
        if self._native.cause:
            raise aborted(self._native)
        check_not_interrupting()  # else it would wait for itself
        if self._native.is_written_here:
            raise InternalError(_WAITS_FOR_ITSELF)
        result = hold.take_as(group_state)
        if result == POISONED:
            raise aborted(self._native)
        check_result(self._native, result, group_state)

    def _blocking_write(self, topology: TopologyToken | None) -> WriteGuard[S]:
        guard = new_writer(self._native, self._linker_state, topology)
        try:
            self.take_blindly(guard)
            guard.is_given = True
        except BaseException as error:
            completed(guard.leave, error)
            raise
        return guard

    def take_blindly(self, guard: WriteGuard[S]) -> None:
        """Take the lock for writing, waiting for it blindly, for a caller that releases the guard whatever is raised."""
        result = TIMEOUT
        while result == TIMEOUT:  # in slices, between which the interpreter handles signals
            if self._native.cause:
                raise aborted(self._native)
            if self._native.is_written_here:
                raise InternalError(_WAITS_FOR_ITSELF)
            result = guard.take_blindly()
        if result != ACQUIRED:
            raise aborted(self._native)

    def _is_topology(self, topology: object) -> TypeGuard[TopologyToken]:
        return isinstance(topology, TopologyToken) and topology.belongs_to(self._native)

    def _check_topology(self, topology: object) -> None:
        if not self._is_topology(topology):
            raise InternalError(f"{topology!r} is not the topology token of this linker")

    def _check_group(self, group_state: object) -> None:
        if (
            not isinstance(group_state, InstanceGroupState)
            or group_state.shared is not self._native
        ):
            raise InternalError(f"{group_state!r} is not a group of this linker")

    def _check_guard(self, guard: object) -> None:
        if not isinstance(guard, WriteGuard) or not guard.guards(self._native):
            raise InternalError("the write lock of this linker's state is not held")


def leave_both(topology: TopologyToken, guard: WriteGuard[S], error: BaseException | None) -> None:
    """Give back guard and token, those that are held; an InternalError poisons the lock."""
    guard.leave(error)
    topology.leave(error)


class Exclusive(Scope):
    """Topology token and write lock, from entering to leaving."""

    __slots__ = ("_group_state", "_shared", "guard", "topology")

    def __init__(
        self, shared: LinkerShared[Any, Any], group_state: InstanceGroupState[Any]
    ) -> None:
        self._shared = shared
        self._group_state = group_state
        self.topology, self.guard = shared.new_exclusive()

    def enter(self) -> Self:
        """Take both."""
        self._shared.take_exclusive(self.topology, self.guard, self._group_state)
        return self

    def leave(self, error: BaseException | None) -> None:
        """Release both, those that are held; an InternalError poisons the lock."""
        leave_both(self.topology, self.guard, error)
