"""LinkerShared: the locks, the flag and the buses of one program's linker."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, NoReturn, TypeGuard, TypeVar

from pylinker.errors import InternalError, RendezvousTimeout
from pylinker.native.core import ffi
from pylinker.native.enums import ACQUIRED, POISONED, TIMEOUT, Breach, Cause
from pylinker.native.scopes import Scope, completed
from pylinker.native.shared import Shared
from pylinker.native.sync import (
    ReadGuard,
    TopologyToken,
    WriteGuard,
    lead,
    new_reader,
    new_token,
    new_writer,
)
from pylinker.native.trace import Trace
from pylinker.native.waits import nanoseconds
from pylinker.sync.group_state import InstanceGroupState
from pylinker.sync.lifecycle import Lifecycle
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
    Breach.PUBLISH: (
        "try_broadcast of operation {number} failed: a group has not acknowledged the one before"
    ),
    Breach.WITHDRAW: "operation {number} could not be withdrawn",
}
"""Messages for breaches of the protocol that the leader detects, by ``enum pl_breach``."""
_WAITS_FOR_ITSELF: Final = (
    "a thread waits for itself: it holds the write lock of this linker's state"
)


class Waits(NamedTuple):
    """Statistics of the waits of groups for each other."""

    led: int
    """Rendezvous led."""
    followed: int
    """Rendezvous followed."""
    nanoseconds: int
    """Sum of the waits of leaders."""
    longest: int
    """The longest single wait, in nanoseconds."""
    paused: int
    """Pauses of threads that found the token or the lock held."""


class LinkerShared(Lifecycle, Generic[S, Op]):
    """Shared linkage and synchronization for every handle of one program's linker.

    Guards a LinkerState of type ``S`` and carries operations of type ``Op`` to all groups.
    :meth:`clone` returns another handle of the same linker. All methods are safe to use from all
    threads; each says whether it blocks. Every wait ends with SynchronizationAborted when the
    linker is cancelled (:meth:`cancel`).
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
        """Wrap a new LinkerState; there are no groups yet.

        Args:
            linker_state: The state that the lock guards.
            trace: Records the rendezvous of the groups.
        """
        return cls(linker_state, trace)

    def __repr__(self) -> str:
        cancelled = ", cancelled" if self._native.cause else ""
        return f"<LinkerShared of {self.num_groups} groups{cancelled}>"

    def __eq__(self, other: object) -> bool:
        return self._native is other._native if isinstance(other, LinkerShared) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._native)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a LinkerShared is neither copied nor pickled: it owns locks of this process; "
            "clone() returns another handle"
        )

    def clone(self) -> LinkerShared[S, Op]:
        """Return another handle of the same linker: same state, locks, flag and buses.

        It compares equal to this one.
        """
        other: LinkerShared[S, Op] = LinkerShared.__new__(LinkerShared)
        other.bind(self._native, self._linker_state)
        other.__dict__.update(self.__dict__)
        return other

    @property
    def num_groups(self) -> int:
        """Number of groups that are subscribed to the buses."""
        return self._native.num_groups

    def waits(self) -> Waits:
        """Return the statistics of waits so far. Never blocks."""
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
        """Number of operations that several groups carried out, withdrawn ones included."""
        return self._native.published

    # Groups

    def subscribe(
        self,
        guard: WriteGuard[S],
        replay: Callable[[int, Op], None],
        topology: TopologyToken | None = None,
    ) -> InstanceGroupState[Op]:
        """Add a group: a receiver of both buses, up to date with all operations so far.

        Args:
            guard: The write lock.
            replay: Carries out an operation in the group's replica; gets its number and the
                operation.
            topology: The topology token, required for all but the first group.

        Returns:
            The part of the group in the rendezvous, PARKED.

        Raises:
            InternalError: The lock or the token is not held, or belongs to another linker.
            TypeError: ``replay`` is not callable.
        """
        group_state = self.new_member(replay)
        try:
            self.subscribe_member(guard, group_state, topology)
        except BaseException:
            completed(group_state.free)
            raise
        return group_state

    def new_member(self, replay: Callable[[int, Op], None]) -> InstanceGroupState[Op]:
        """Return a member that is unknown to the rendezvous until :meth:`subscribe_member`."""
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
        """Subscribe a new member, for a caller that unsubscribes it whatever is raised.

        As :meth:`subscribe` otherwise.
        """
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
        """Remove a group from both buses.

        Args:
            guard: The write lock.
            group_state: The group, which no thread may use any more.

        Raises:
            InternalError: The lock is not held, or it or the group belongs to another linker.
        """
        self._check_guard(guard)
        self._check_group(group_state)
        group_state.die()
        group_state.free()
        # A group that is alone leads no rendezvous, so nothing else would truncate the log.
        self._native.forget_replayed()
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("group %d leaves, %d are left", group_state.number, self.num_groups)

    def assert_exactly_one_dl_bus_subscriber(self) -> None:
        """Check that the main group is alone: both buses have exactly one receiver.

        Requires the write lock.

        Raises:
            InternalError: They have another number of receivers.
        """
        barriers, operations = self._native.receivers
        if (barriers, operations) != (1, 1):
            raise InternalError(
                f"both buses must have one receiver, but they have {barriers} and {operations}"
            )

    def bootstrap_exclusive_write_then(self, function: Callable[[S], R]) -> R:
        """Change the LinkerState while the main group is still alone.

        For the start of a program only: it waits for the lock without taking part in operations,
        which is safe as there is no other group to meet.

        Args:
            function: Gets the state, with the write lock held.

        Returns:
            The result of ``function``.

        Raises:
            InternalError: There is not exactly one group (checked with the lock held).
        """
        with self._blocking_write(None) as guard:
            self.assert_exactly_one_dl_bus_subscriber()
            return function(guard.state)

    # Locks

    def write_linker_state_alone(self) -> WriteGuard[S]:
        """Take the lock for writing before there is any group. Never blocks.

        Raises:
            InternalError: There is a group, or another thread holds the lock.
        """
        guard = self.try_write_linker_state() if not self.num_groups else None
        if guard is None:
            raise InternalError("the linker's state is not only its maker's any more")
        return guard

    if TYPE_CHECKING:  # C's: csrc/python/shared.c

        def try_write_linker_state(self) -> WriteGuard[S] | None:
            """Return a write guard, or None while another guard holds the lock. Never blocks.

            Raises:
                SynchronizationAborted: The lock is poisoned.
            """

        def try_read_linker_state(self) -> ReadGuard[S] | None:
            """Return a read guard, or None while the lock is held for writing. Never blocks.

            Raises:
                SynchronizationAborted: The lock is poisoned.
            """

        def dl_operation_pending_load(self, ordering: int, /) -> bool:
            """Return the pending flag. Never blocks.

            Args:
                ordering: An :class:`~pylinker.sync.Ordering`. A relaxed load may miss a change that
                    was just made: only for callers that poll. SEQ_CST is for a thread that was
                    woken because of the change.

            Raises:
                ValueError: Any other ordering.
            """

    def write_linker_state(self, group_state: InstanceGroupState[Op]) -> WriteGuard[S]:
        """Take the lock for writing; the group has then replayed all operations.

        Blocks, and takes part in pending operations meanwhile. A group's thread must use this
        method: another thread may hold the lock while it waits for this one at a barrier.

        Raises:
            SynchronizationAborted: The linker is cancelled, or the lock poisoned.
            InternalError: The group belongs to another linker, or the thread holds the lock.
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
        """Take the lock for reading; the group has then replayed all operations.

        Blocks, and takes part in pending operations meanwhile.

        Raises:
            SynchronizationAborted: The linker is cancelled, or the lock poisoned.
            InternalError: The group belongs to another linker, or the thread holds the write lock.
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
        """Return a guard that is not held yet, for :meth:`take_for_reading`."""
        return new_reader(self._native, self._linker_state, None)

    def take_for_reading(self, guard: ReadGuard[S], group_state: InstanceGroupState[Op]) -> None:
        """Take the lock for reading, for a caller that releases the guard whatever is raised.

        As :meth:`read_linker_state` otherwise.
        """
        self._check_group(group_state)
        if not guard.take_now(group_state):
            self._take(guard, group_state)

    def acquire_topology_token(self, group_state: InstanceGroupState[Op]) -> TopologyToken:
        """Take the topology token; requires that the lock is not held.

        Blocks, and takes part in pending operations meanwhile.

        Raises:
            SynchronizationAborted: The linker is cancelled.
            InternalError: The group belongs to another linker, or the thread holds the write lock.
        """
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
        """Take the lock for writing without taking part in operations, for a holder of the token.

        For a thread that makes a new group: its group is parked, or it has none, so no leader waits
        for it at a barrier. Blocks.

        Args:
            topology: The topology token.

        Returns:
            The token and the guard; release the guard first.

        Raises:
            InternalError: The token is not held, or belongs to another linker.
            SynchronizationAborted: The linker is cancelled, or the lock poisoned.
        """
        self._check_topology(topology)
        return topology, self._blocking_write(topology)

    def write_linker_state_with_topology(
        self, group_state: InstanceGroupState[Op]
    ) -> tuple[TopologyToken, WriteGuard[S]]:
        """Take the topology token, then the lock for writing.

        Blocks, and takes part in pending operations meanwhile.

        Returns:
            The token and the guard; release the guard first.

        Raises:
            SynchronizationAborted: The linker is cancelled, or the lock poisoned.
            InternalError: The group belongs to another linker, or the thread holds the lock.
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
        """Return a token and a guard that are not held yet, for :meth:`take_exclusive`."""
        topology = new_token(self._native)
        return topology, new_writer(self._native, self._linker_state, topology)

    def take_exclusive(
        self, topology: TopologyToken, guard: WriteGuard[S], group_state: InstanceGroupState[Op]
    ) -> None:
        """Take token and lock, for a caller that releases them whatever is raised.

        As :meth:`write_linker_state_with_topology` otherwise.
        """
        self._check_group(group_state)
        if not guard.take_both(group_state):
            self._take(topology, group_state)
            self._take(guard, group_state)
        self._native.forget_replayed()

    def prepare_topology(
        self, topology: TopologyToken, guard: WriteGuard[S], group_state: InstanceGroupState[Op]
    ) -> None:
        """Take the topology token, and with it the lock for writing if that is free.

        Both are from :meth:`new_exclusive`, and the caller releases them whatever is raised. Blocks
        for the token, and takes part in pending operations meanwhile.
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
        """Make every other group replay an operation that this group has carried out already.

        Blocks until each group is at the barrier or parked, and until those at the barrier have
        replayed. Token and guard are released on every way out. With one group, only ``commit`` is
        called.

        Args:
            topology: The topology token, taken before the lock.
            operation: The operation; anything but None.
            linker_state_write_lock: The write lock, taken under the token.
            group_state: The group of the calling thread.
            commit: Called when all groups are at the barrier, with the lock still held for writing,
                for changes that must become visible together with the operation.
            timeout: Seconds within which all groups must be at the barrier; None for no limit.
            wake: Called once the barrier is raised, to reach groups that make no call.

        Raises:
            RendezvousTimeout: A group was late. The operation is withdrawn; the caller must roll
                back its own part.
            SynchronizationAborted: The linker is cancelled. Any failure while others wait cancels
                the linker: the leader gets the failure itself, all others SynchronizationAborted.
            InternalError: Token, lock or group are not held or belong to another linker.
        """
        guard = linker_state_write_lock
        try:
            self._check_lead(topology, operation, guard, group_state)
            limit = nanoseconds(timeout)  # a bad value is refused before any group waits
            native = getattr(operation, "native", None)
            address = int(ffi.cast("uintptr_t", native.pointer)) if native is not None else 0
            if self.log.is_long():
                self.log.compact()
            if logger.isEnabledFor(logging.DEBUG):
                wake = self._logged(wake, operation)
            # C owns both from here on, and releases them.
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
            self._break(breach, number)
        check_result(self._native, result, group_state)
        if number:  # else there was no other group
            logger.debug("operation %d is done in every running group", number)

    def _break(self, breach: int, number: int) -> NoReturn:
        """Cancel the linker for a breach of the protocol."""
        broken = InternalError(_BREACHES[breach].format(number=number))
        give_up(self._native, Cause.BUS, broken)
        raise broken

    def _check_lead(
        self,
        topology: TopologyToken,
        operation: Op,
        guard: WriteGuard[S],
        group_state: InstanceGroupState[Op],
    ) -> None:
        """Check the arguments of a leader."""
        self._check_topology(topology)
        self._check_guard(guard)
        if guard.topology is not topology:
            raise InternalError("the write lock was not taken under the topology token")
        self._check_group(group_state)
        if operation is None:
            raise TypeError("an operation is None, which stands for a withdrawn one in the log")

    def _logged(self, wake: Callable[[], None] | None, operation: Op) -> Callable[[], None]:
        def logged() -> None:
            if wake is not None:
                wake()
            logger.debug("barrier %d is up: %r", self._native.published + 1, operation)

        return logged

    def _give_back(self, topology: object, guard: object) -> None:
        """Release a token and a guard, as far as they belong to this linker."""
        if isinstance(guard, WriteGuard) and guard.guards(self._native):
            guard.leave(None)
        if self._is_topology(topology):
            topology.leave(None)

    def changed(self) -> None:
        """Start a new generation: cached bindings of names are stale from now on.

        Requires the write lock, or that it is just being released.
        """
        self._native.changed()

    @property
    def changes(self) -> int:
        """The generation: the number of :meth:`changed` calls so far."""
        return self._native.changes

    def do_pending_link_operations_internal(self, group_state: InstanceGroupState[Op]) -> None:
        """Follow: reach the barrier, wait for the operation, and replay all that is published.

        Replays under a read lock. Blocks until the leader has published.

        Raises:
            SynchronizationAborted: The linker is cancelled.
            InternalError: The group is unsubscribed or belongs to another linker, or the calling
                thread holds the write lock: its leader would wait for itself.
        """
        self._check_group(group_state)
        group_state.follow()

    # Helpers

    def _take(
        self,
        hold: ReadGuard[S] | WriteGuard[S] | TopologyToken,
        group_state: InstanceGroupState[Op],
    ) -> None:
        """Take a lock or token as a group's thread must, after it could not be taken at once."""
        if self._native.cause:
            raise aborted(self._native)
        check_not_interrupting()  # else the thread would wait for itself
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
        """Take the lock for writing without taking part in operations.

        For a caller that releases the guard whatever is raised. Blocks.
        """
        result = TIMEOUT
        while result == TIMEOUT:  # in slices, so that the interpreter handles signals
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
    """Release guard and token if they are held; an InternalError poisons the lock."""
    guard.leave(error)
    topology.leave(error)


class Exclusive(Scope):
    """Context manager that holds the topology token and the write lock."""

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
        """Release both if they are held; an InternalError poisons the lock."""
        leave_both(self.topology, self.guard, error)
