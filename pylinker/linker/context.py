"""Where a thread stands in a program's linker: its group, and the two ways to the LinkerState."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING

from pylinker import _native
from pylinker.errors import InternalError, LinkError, RendezvousTimeout
from pylinker.runtime.engine import bump_epoch
from pylinker.runtime.failures import STOPS
from pylinker.sync import LinkerShared, ReadGuard, TopologyToken, WriteGuard

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from pylinker.linker.group import InstanceGroup
    from pylinker.linker.operation import DlOperation
    from pylinker.linker.state import LinkerState
    from pylinker.sync import InstanceGroupState

__all__ = ["Change", "LinkContext"]


class Change:
    """The right to change the LinkerState, and to have all groups carry an operation out: topology token and write lock.

    A context manager that has them from entering to leaving, or to :meth:`publish`.
    """

    __slots__ = ("_context", "_group_state", "guard", "published", "topology")

    guard: WriteGuard[LinkerState]
    topology: TopologyToken

    def __init__(self, context: LinkContext, group_state: InstanceGroupState[DlOperation]) -> None:
        self._context = context
        self._group_state = group_state
        self.published = False

    def __enter__(self) -> Self:
        context = self._context
        topology, guard = context.shared.write_linker_state_with_topology(self._group_state)
        try:
            self.topology, self.guard = topology, guard
            context.changer = get_ident()
            context.reap_ended(guard)
        except BaseException as error:  # an interrupt, most likely
            context.changer = None
            guard.__exit__(type(error), error, None)
            topology.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        context = self._context
        if kind is None and self.published:  # token and lock were given up there
            context.shared.changed()
            return
        guard, topology = self.guard, self.topology
        try:
            context.shared.changed()
        finally:
            try:
                if kind is None:
                    guard.release_with(topology)
                else:
                    guard.__exit__(kind, value, traceback)
            finally:
                if context.changer == get_ident():
                    context.changer = None
                if topology.is_held:
                    topology.release()

    def publish(self, operation: DlOperation, commit: Callable[[], None] | None = None) -> None:
        """Have every other group carry out what this one has; ``commit`` then changes the state, before anybody goes on.

        Token and lock are given up on every way out. Raises RendezvousTimeout, with ``commit`` not called; the caller undoes the rest under
        a new Change.
        """
        context = self._context
        context.changer = None
        self.published = True
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

    @contextmanager
    def undoing(self) -> Iterator[None]:
        """Hold the write lock for undoing what failed: still, or again if :meth:`publish` has given it up."""
        if self.guard.held:
            yield
            return
        with self._context.exclusive():
            yield


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
            raise RendezvousTimeout(f"another thread has been loading or closing libraries for {self._timeout} seconds")


class _Loading(_native.ExitsInC):
    """The load lock, from entering to leaving."""

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self.close = context.load_lock.close

    def __enter__(self) -> InstanceGroup:  # type: ignore[override]
        context = self._context
        group = context.check_not_instantiating()
        context.load_lock.take(context.check_going_on if context.timeout is None else _Patience(context, context.timeout))
        return group

    def __exit__(self, kind: object, value: BaseException | None, traceback: object) -> None:
        # A call that is stopped in here can neither finish what it began nor undo it.
        if isinstance(value, STOPS) and not self._context.state.threaded:
            self._context.shared.cancel(_native.CAUSE_CLOSED, value)
        self._context.load_lock.close()


class _Reading:
    """The read lock, from entering to leaving.

    A class and not a generator: an interrupt right after a generator has taken the lock would leave it suspended, with the lock, for as
    long as the interrupt's traceback lives.
    """

    __slots__ = ("_context", "_guard")

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._guard: ReadGuard[LinkerState] | None = None

    def __enter__(self) -> None:
        context = self._context
        if context.changer != get_ident():
            self._guard = context.shared.read_linker_state(context.group.state)

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        if self._guard is not None:
            self._guard.release()


class LinkContext:
    """One program's LinkerShared, LinkerState and groups, as the calling thread sees them.

    ``turn`` is taken by threads that have no group of their own. ``timeout`` (seconds, None: none) bounds a rendezvous; ``preempt`` says
    that running groups are reached through the epoch; ``tids`` has the guest's thread numbers by group, ``groups`` those with a thread of
    their own, by number; ``load_lock`` is :meth:`loading`'s; ``expired`` has, by thread, the errors of its time
    limits that are over; ``reap`` answers what takes out the groups of threads that have ended by themselves, under the write lock.
    """

    def __init__(self, shared: LinkerShared[LinkerState, DlOperation], state: LinkerState, *, preempt: bool, timeout: float | None) -> None:
        self.shared = shared
        self.state = state
        self.preempt = preempt
        self.timeout = timeout
        self.changer: int | None = None  # the thread that has a Change
        self.tids: dict[int, int] = {}
        self.turn = _native.Turn()
        self.load_lock = _native.Turn()
        self._main_group: InstanceGroup | None = None
        self.expired: dict[int, list[BaseException]] = {}
        self.reap: Callable[[], Callable[[WriteGuard[LinkerState] | None], None] | None] = lambda: None
        self.groups: dict[int, InstanceGroup] = {}

    @property
    def group(self) -> InstanceGroup:
        """The group of the calling thread: its own, or for a thread that is none of the guest's, the main group."""
        group = self.groups.get(_native.current_member(), self._main_group)
        if group is None:
            raise InternalError("a program without groups")
        return group

    @property
    def is_guest_thread(self) -> bool:
        """Whether the calling thread has a group of its own."""
        return _native.current_member() in self.groups

    @property
    def main_group(self) -> InstanceGroup:
        """The group that runs main."""
        assert self._main_group is not None
        return self._main_group

    def set_main_group(self, group: InstanceGroup) -> None:
        """Say which group threads use that have none of their own; they take turns."""
        self._main_group = group

    @contextmanager
    def own_group(self, group: InstanceGroup) -> Iterator[None]:
        """Make ``group`` the calling thread's own."""
        _native.enter_thread(group.state.member)
        try:
            yield
        finally:
            _native.enter_thread(None)

    @property
    def may_call_linker(self) -> bool:
        """Whether the calling thread is not in the middle of a load, where its guest must not come to the linker."""
        return self.changer != get_ident() and not self.group.state.member.is_replaying

    def check_not_instantiating(self) -> InstanceGroup:
        """Return the calling thread's group.

        Refuses a guest that calls the linker from a start function or a relocation, with a LinkError: its thread holds the lock already.
        """
        group = self.groups.get(_native.current_member(), self._main_group) or self.group
        if self.changer == get_ident() or group.state.member.is_replaying:
            raise LinkError("the linker was called by a module that is just being loaded (from its start function or relocations)")
        return group

    def reap_ended(self, guard: WriteGuard[LinkerState]) -> None:
        """Take out the groups of threads that have ended by themselves: whoever gets the lock for a change does so first."""
        if self.shared.ended and (reap := self.reap()) is not None:
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

    def stop_call(self, reason: BaseException, *, caller: int | None = None) -> bool:
        """Have the call in progress raise ``reason``; with ``caller`` only one that this thread makes. False: there is none.

        For a program of one thread, whose calls are numbered. Never blocks; any thread.
        """
        if not self.shared.stop_call(reason, holds=None if caller is None else (self.turn, caller)):
            return False
        bump_epoch()
        return True

    def exclusive(self, group: InstanceGroup | None = None) -> Change:
        """Take topology token and write lock for the calling thread, as a context manager. Blocks, cooperatively.

        LinkError if this thread has them already: a guest called the linker from a start function or a relocation. That is not looked at
        if the caller gives its ``group``, as :meth:`loading` has just answered it.
        """
        return Change(self, (group or self.check_not_instantiating()).state)

    def reading(self) -> _Reading:
        """Take the read lock for the calling thread, unless it has the write lock; its group is up to date then. Blocks, cooperatively.

        A context manager.
        """
        return _Reading(self)

    def loading(self) -> _Loading:
        """Hold the load lock, which comes before the topology token: one thread at a time loads, constructs, destructs and unloads.

        So nobody gets a library before its constructors are done. Recursive, as constructors may load. A thread that waits for it is
        parked; it gets SynchronizationAborted if the linker is given up, TimeoutExpired if a time limit of it is over, RendezvousTimeout
        after ``timeout`` seconds, and signals are handled. A context manager that yields the calling thread's group.
        """
        return _Loading(self)
