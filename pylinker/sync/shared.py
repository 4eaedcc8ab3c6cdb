"""LinkerShared: the locks, the flag and the buses of one dynamic-link universe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from pylinker import _native
from pylinker.errors import InternalError, LinkError, RendezvousTimeout, SynchronizationAborted
from pylinker.sync.backoff import LinkerStateWriteBackoff
from pylinker.sync.group_state import InstanceGroupState
from pylinker.sync.guards import ReadGuard, WriteGuard
from pylinker.sync.log import OperationLog
from pylinker.sync.topology import TopologyCoordinator, TopologyToken

__all__ = ["LinkerShared", "Waits"]

logger = logging.getLogger("pylinker.sync")

_SLICE: Final = 0.05
"""Seconds between two looks of a thread that waits blindly whether there is a signal to handle."""

S = TypeVar("S")
Op = TypeVar("Op")
R = TypeVar("R")

_CAUSES = {
    _native.CAUSE_CLOSED: "the program has ended",
    _native.CAUSE_LEADER: "a thread failed while the others waited for its operation",
    _native.CAUSE_REPLAY: "a thread could not carry out an operation of another",
    _native.CAUSE_BUS: "the synchronization protocol was broken",
    _native.CAUSE_INTERRUPTED: "a waiting thread was interrupted",
    _native.CAUSE_FORKED: _native.FORKED,
}


class Waits(NamedTuple):
    """How often groups waited for each other: rendezvous that were ``led``, and ``followed``.

    ``nanoseconds`` is what leaders waited in all, ``longest`` the longest single wait.
    """

    led: int
    followed: int
    nanoseconds: int
    longest: int


class LinkerShared(Generic[S, Op]):
    """Shared linkage and synchronization for every handle of one program's linker.

    Guards a LinkerState of type ``S`` and carries operations of type ``Op`` to all groups. :meth:`clone` gives another handle of the same
    universe. All methods are safe to use from all threads; each says whether it blocks. Every wait ends with SynchronizationAborted when
    the linker is given up (:meth:`cancel`).
    """

    def __init__(self, linker_state: S, trace: _native.Trace | None = None) -> None:
        self._linker_state = linker_state
        self._native = _native.Shared()
        if trace is not None:
            self._native.set_trace(trace)
        self.topology_coordinator = TopologyCoordinator(self._native)
        self.log: OperationLog[Op] = OperationLog()

    @classmethod
    def new(cls, linker_state: S, trace: _native.Trace | None = None) -> LinkerShared[S, Op]:
        """Wrap a freshly made LinkerState; there are no groups yet. What they will do is noted in ``trace``."""
        return cls(linker_state, trace)

    def __repr__(self) -> str:
        return f"<LinkerShared of {self.num_groups} groups{', cancelled' if self._native.cause else ''}>"

    def clone(self) -> LinkerShared[S, Op]:
        """Return another handle of the same universe: same state, locks, flag and buses."""
        other: LinkerShared[S, Op] = LinkerShared.__new__(LinkerShared)
        other.__dict__.update(self.__dict__)
        return other

    @property
    def num_groups(self) -> int:
        """How many groups have subscribed to the buses."""
        return self._native.num_groups

    def waits(self) -> Waits:
        """Return how often groups waited for each other so far. Never blocks."""
        waits = self._native.waits
        return Waits(int(waits.led), int(waits.followed), int(waits.nanoseconds), int(waits.longest))

    @property
    def published(self) -> int:
        """How many operations several groups carried out together, withdrawn ones included."""
        return self._native.published

    # Groups

    def subscribe(
        self, guard: WriteGuard[S], replay: Callable[[int, Op], None], topology: TopologyToken | None = None
    ) -> InstanceGroupState[Op]:
        """Make a group's part in the rendezvous: a receiver of both buses that has replayed everything so far.

        Needs the write lock, and for all but the first group the topology token.
        """
        self._check_guard(guard)
        if (
            (topology is None or guard.topology is not topology)
            and self.num_groups
            and not (topology and topology.belongs_to(self._native))
        ):
            raise InternalError("a group subscribes without the topology token")
        group_state = InstanceGroupState(self._native, self.log, replay)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("group %d joins, as one of %d", group_state.number, self.num_groups)
        return group_state

    def unsubscribe(self, guard: WriteGuard[S], group_state: InstanceGroupState[Op]) -> None:
        """Take a group out of both buses. Needs the write lock; no thread may use the group any more."""
        self._check_guard(guard)
        group_state.member.die()
        group_state.member.free()
        self.log.forget(self._native.applied_by_all)  # a group that is alone leads nobody, and would keep it for ever
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("group %d leaves, %d are left", group_state.number, self.num_groups)

    def assert_exactly_one_dl_bus_subscriber(self) -> None:
        """InternalError unless both buses have exactly one receiver: only then the main group is alone. Needs the write lock."""
        barriers, operations = self._native.receivers
        if (barriers, operations) != (1, 1):
            raise InternalError(f"both buses must have one receiver, but they have {barriers} and {operations}")

    def bootstrap_exclusive_write_then(self, function: Callable[[S], R]) -> R:
        """Change the LinkerState while the main group is still alone, and return what ``function`` returns.

        For the start of a program only: it waits for the lock blindly, which is safe as there is nobody to meet. InternalError if there is
        not exactly one group; that is looked at with the lock held.
        """
        with self._blocking_write(None) as guard:
            self.assert_exactly_one_dl_bus_subscriber()
            return function(guard.state)

    # Locks

    def write_linker_state_alone(self) -> WriteGuard[S]:
        """Take the lock for writing before there is any group. Never blocks; InternalError once somebody could have it."""
        guard = self.try_write_linker_state() if not self.num_groups else None
        if guard is None:
            raise InternalError("the linker's state is not only its maker's any more")
        return guard

    def try_write_linker_state(self) -> WriteGuard[S] | None:
        """Return a write guard, or None if somebody has the lock. Never blocks. SynchronizationAborted if it is poisoned."""
        return WriteGuard(self._native, self._linker_state) if self._acquired(self._native.try_write()) else None

    def try_read_linker_state(self) -> ReadGuard[S] | None:
        """Return a read guard, or None if somebody writes. Never blocks. SynchronizationAborted if the lock is poisoned."""
        guard = ReadGuard(self._native, self._linker_state)
        return guard if self._acquired(guard.take()) else None

    def write_linker_state(self, group_state: InstanceGroupState[Op]) -> WriteGuard[S]:
        """Take the lock for writing, taking part in whatever is pending meanwhile; the group has then replayed everything.

        Blocks, cooperatively. This is the way for a group's thread: another may hold the lock while it waits for this one at a barrier.
        """
        guard = self._cooperatively(group_state, self.try_write_linker_state)
        self._catch_up(guard, group_state)
        return guard

    def read_linker_state(self, group_state: InstanceGroupState[Op]) -> ReadGuard[S]:
        """Take the lock for reading; the group has then replayed everything. Blocks, cooperatively."""
        guard = ReadGuard(self._native, self._linker_state)
        try:
            self._cooperatively(group_state, lambda: self._acquired(guard.take()) or None)
            if not group_state.member.catch_up():
                self._check_result(_native.CANCELLED, group_state)
        except BaseException:  # an interrupt, too: its traceback would keep the guard
            if guard.held:
                guard.release()
            raise
        return guard

    def acquire_topology_token(self, group_state: InstanceGroupState[Op]) -> TopologyToken:
        """Take the topology token, before the lock. Blocks, cooperatively."""
        return self._cooperatively(group_state, self.topology_coordinator.try_acquire)

    def write_linker_state_blocking_holding_topology(self, topology: TopologyToken) -> tuple[TopologyToken, WriteGuard[S]]:
        """Take the lock for writing, waiting for it blindly, for a caller that holds the token.

        For a thread that makes a new group: it is parked, or no group's, so nobody at a barrier waits for it. Returns token and guard;
        release the guard first. InternalError if the token is not out.
        """
        self._check_topology(topology)
        return topology, self._blocking_write(topology)

    def write_linker_state_with_topology(self, group_state: InstanceGroupState[Op]) -> tuple[TopologyToken, WriteGuard[S]]:
        """Take the topology token, then the lock for writing. Blocks, cooperatively. Returns both; release the guard first."""
        topology, guard = self._at_once(group_state)
        if topology is not None and guard is not None:
            return topology, guard
        topology = self.acquire_topology_token(group_state)
        try:
            guard = self._cooperatively(group_state, self.try_write_linker_state)
            guard.take_under(topology)
            self._catch_up(guard, group_state)
        except BaseException:
            topology.release()
            raise
        return topology, guard

    def prepare_topology(self, group_state: InstanceGroupState[Op]) -> tuple[TopologyToken, WriteGuard[S] | None]:
        """Take the topology token, and with it the lock for writing if nobody is in the way. Blocks, cooperatively, for the token."""
        topology, guard = self._at_once(group_state)
        return (topology, guard) if topology is not None else (self.acquire_topology_token(group_state), None)

    def _at_once(self, group_state: InstanceGroupState[Op]) -> tuple[TopologyToken, WriteGuard[S]] | tuple[None, None]:
        """Take token and lock if nobody is in the way of either."""
        member = group_state.member
        try:
            number = member.try_exclusive()
            if not number:
                return None, None
            topology = TopologyToken(self._native, number)
            return topology, WriteGuard(self._native, self._linker_state, topology)
        except BaseException:  # an interrupt
            member.abandon_exclusive()
            raise

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

        Blocks until each group is at the barrier or parked, and until those at the barrier have replayed. Token and guard were taken
        before, in that order, and are released on every way out. With one group there is nothing to do but ``commit``.

        ``commit`` is called when all are there, with the lock still held for writing: the place for changes that must appear with the
        operation. ``wake`` is called once the barrier is up, to reach groups that make no call. After ``timeout`` seconds without all
        groups at the barrier, RendezvousTimeout: the operation was withdrawn, the caller undoes its own part. Any other failure while
        others wait gives up the linker for good: the leader gets it as it is, all others SynchronizationAborted.
        """
        guard = linker_state_write_lock
        if guard.topology is topology and guard.guards(self._native) and self._native.is_alone:
            try:
                if timeout is not None:
                    _native.nanoseconds(timeout)  # refuse a bad one, whoever is there
                if commit is not None:
                    commit()
            except InternalError:
                guard.poison()
                topology.release()
                raise
            except BaseException:
                guard.release_with(topology)
                raise
            guard.release_with(topology)
            return
        try:
            self._check_topology(topology)
            self._check_guard(guard)
            if guard.topology is not topology:
                raise InternalError("the write lock was not taken under the topology token")
            with guard:
                _native.nanoseconds(timeout)  # refuse a bad one before anybody waits
                if self._native.cause:
                    raise self.aborted()
                with self._fatal(guard):
                    late = self._lead(operation, guard, group_state, commit, timeout, wake)
        finally:
            if guard.guards(self._native):
                guard.release()
            if topology.belongs_to(self._native):
                topology.release()
        if late is not None:
            raise RendezvousTimeout(f"thread {late} did not come to a safepoint within {timeout} seconds", thread=late)

    def _lead(
        self,
        operation: Op,
        guard: WriteGuard[S],
        group_state: InstanceGroupState[Op],
        commit: Callable[[], None] | None,
        timeout: float | None,
        wake: Callable[[], None] | None,
    ) -> int | None:
        """Lead; returns None, or the number of a group that was late, in which case the operation was withdrawn."""
        member = group_state.member
        number = member.open()
        if not number:
            raise InternalError("a barrier is open already")
        if wake is not None:
            wake()
        logger.debug("barrier %d is up: %r", number, operation)
        result, late = member.meet(timeout)
        if result == _native.TIMEOUT:
            self.log.append(None)
            if not member.withdraw():
                raise InternalError("an operation could not be withdrawn")
            return late
        self._check_result(result, group_state)
        if commit is not None:
            commit()
        # While nobody reads the log: followers do as soon as the operation is published.
        self.log.forget(self._native.applied_by_all)
        if self.log.append(operation) != number:
            raise InternalError(f"operation {number} has another number in the log")
        if self.log.is_long():
            self.log.compact(self._native.applied)
        if member.publish() != number:
            raise InternalError(f"try_broadcast of operation {number} failed: a group has not answered the one before")
        guard.published()
        self._check_result(member.finish(), group_state)
        logger.debug("operation %d is done in every running group", number)
        return None

    def changed(self) -> None:
        """Note, with the write lock held or just before it is given up, that names may mean something else from now on."""
        self._native.changed()

    @property
    def changes(self) -> int:
        """How often that was."""
        return self._native.changes

    def dl_operation_pending_load(self, ordering: int) -> bool:
        """Load the pending flag with an ordering: ``RELAXED``, ``ACQUIRE`` or ``SEQ_CST`` of :mod:`pylinker._native`. Never blocks.

        A relaxed load may miss a change that was just made: only for callers that look again soon. SEQ_CST where a thread was woken up
        because of the change.
        """
        return self._native.pending(ordering)

    def do_pending_link_operations_internal(self, group_state: InstanceGroupState[Op]) -> None:
        """Follow: come to the barrier, wait for the operation, and replay all that is published, under a read lock.

        Blocks until the leader has published. SynchronizationAborted if the linker is given up, InternalError if the group has no
        receivers any more.
        """
        self._check_result(group_state.member.follow(), group_state)

    # The end

    @property
    def ended(self) -> int:
        """How many threads have ended by themselves, with their groups still there: see :meth:`next_ended`."""
        return self._native.ended

    def next_ended(self) -> _native.NativeThread | None:
        """Take one of them, or return None; its ``left`` is to be called, by the caller who has the write lock. Never blocks."""
        return self._native.next_ended()

    def close_ended(self) -> None:
        """Have threads take their groups out themselves from now on."""
        self._native.close_ended()

    def tell_ended(self) -> None:
        """Wake who waits in :meth:`await_ended`."""
        self._native.tell_ended()

    def await_ended(self, timeout: float) -> None:
        """Wait for a thread to end by itself, for :meth:`tell_ended`, or a moment, ``timeout`` seconds at most. Blocks."""
        self._native.await_ended(timeout)

    def cancel(self, cause: int, reason: BaseException | None = None) -> bool:
        """Give up the linker, for good: every waiter wakes, and every later call raises. True if this was the first cause."""
        if reason is not None and self._native.reason is None and self._native.cause in (0, cause, _native.CAUSE_STOPPED):
            self._native.reason = reason
        return self._native.cancel(cause)

    def abandon(self) -> None:
        """Give up the linker in a child of the process, whose only thread calls."""
        self._native.abandon()

    @property
    def cause(self) -> int:
        """Why the linker was given up (a ``CAUSE_`` of :mod:`pylinker._native`), 0 if it was not."""
        return self._native.cause

    @property
    def reason(self) -> BaseException | None:
        """The exception that came with the first cause, or None."""
        return self._native.reason

    def stop_call(self, reason: BaseException, *, holds: tuple[_native.Turn, int] | None = None) -> bool:
        """Have the call in progress raise ``reason``, for a linker whose calls are numbered; the linker goes on. False: there is none.

        With ``holds`` (a turn and the identity of a thread) only if that thread makes the call. The call is stopped at its next look, for
        which the caller moves the epoch; if it ends before, nothing happens. Never blocks; any thread.
        """
        call = self._native.call
        if not call:
            return False
        if holds is not None:
            # The holder of the turn does not change during a call: if the same call is still in progress, it is this one's.
            turn, identity = holds
            if turn.holder != identity or self._native.call != call:
                return False
        self._native.stop(call, reason)
        return True

    def wake(self, key: int) -> None:
        """Wake all groups that wait on a key of the host's (:meth:`pylinker._native.Member.wait`)."""
        self._native.wake(key)

    def aborted(self) -> BaseException:
        """Return the exception for a linker that was given up, or for the call in progress if that was stopped."""
        if self._native.cause == _native.CAUSE_STOPPED and (reason := self._native.stopped()) is not None:
            return reason
        error = SynchronizationAborted(f"the linker was given up: {_CAUSES.get(self._native.cause, 'for another reason')}")
        error.__cause__ = self.reason
        return error

    # Helpers

    def _acquired(self, result: int) -> bool:
        if result == _native.POISONED:
            raise self.aborted()
        return result == _native.ACQUIRED

    def _cooperatively(self, group_state: InstanceGroupState[Op], attempt: Callable[[], R | None]) -> R:
        backoff: LinkerStateWriteBackoff | None = None
        while True:
            if self._native.cause:
                raise self.aborted()
            result = attempt()
            if result is not None:
                return result
            if backoff is None:  # most often the first attempt is the last
                backoff = LinkerStateWriteBackoff()
            if self._native.pending(_native.SEQ_CST):
                self.do_pending_link_operations_internal(group_state)
            backoff.pause()

    def _catch_up(self, guard: WriteGuard[S], group_state: InstanceGroupState[Op]) -> None:
        if not group_state.member.catch_up():
            guard.poison()
            self._check_result(_native.CANCELLED, group_state)
        self.log.forget(self._native.applied_by_all)

    def _blocking_write(self, topology: TopologyToken | None) -> WriteGuard[S]:
        guards = topology.guards if topology is not None else 0
        try:
            result = _native.TIMEOUT
            while result == _native.TIMEOUT:  # in slices, between which the interpreter handles signals
                if self._native.cause:
                    raise self.aborted()
                result = self._native.write(_SLICE)
            if not self._acquired(result):
                raise self.aborted()
            return WriteGuard(self._native, self._linker_state, topology)
        except LinkError:
            raise
        except BaseException:
            # An interrupt, before or after the lock was taken; nobody takes it for writing without the token, and that is here.
            if topology is not None and self._native.readers == -1:
                topology.guards = guards
                self._native.release_write()
            raise

    def _check_topology(self, topology: TopologyToken) -> None:
        if not topology.belongs_to(self._native):
            raise InternalError(f"{topology!r} is not the topology token of this linker")

    def _check_guard(self, guard: object) -> None:
        if not isinstance(guard, WriteGuard) or not guard.guards(self._native):
            raise InternalError("the write lock of this linker's state is not held")

    def _check_result(self, result: int, group_state: InstanceGroupState[Op]) -> None:
        if result == _native.ACQUIRED:
            return
        failure, group_state.member.failure = group_state.member.failure, None
        if failure is not None:
            self.cancel(_native.CAUSE_REPLAY, failure)
            raise failure
        raise self.aborted()

    def _fatal(self, guard: WriteGuard[S]) -> _Fatal:
        return _Fatal(self, guard)


class _Fatal:
    """Around the part of a rendezvous in which others wait: whatever goes wrong there, they must not wait for ever."""

    def __init__(self, shared: LinkerShared[S, Op], guard: WriteGuard[S]) -> None:
        self._shared = shared
        self._guard = guard

    def __enter__(self) -> None:
        """Nothing to do on the way in."""

    def __exit__(self, kind: object, value: BaseException | None, traceback: object) -> None:
        if value is None:
            return
        cause = _native.CAUSE_BUS if isinstance(value, InternalError) else _native.CAUSE_LEADER
        self._shared.cancel(cause, value)
        if self._guard.held:
            self._guard.poison()
