"""What ``csrc/python/objects.h`` has as C types: universes, their handles, groups, tokens, guards and pauses.

They are C so that a call costs what a call of a builtin costs, and so that no signal is handled
between taking a lock and having the guard that gives it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from pylinker.native.scopes import python_types

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "GroupBase",
    "LinkerStateWriteBackoff",
    "ReadGuard",
    "SharedBase",
    "SharedHandle",
    "TopologyToken",
    "WriteGuard",
    "lead",
    "new_reader",
    "new_token",
    "new_writer",
]

S = TypeVar("S")

if TYPE_CHECKING:

    class SharedBase:
        """A universe of ``csrc/shared.h``, and the log of its operations.

        Attributes: ``address`` (of the ``pl_shared``), ``operations`` (those in the log, by number;
        to be looked at under a read lock), ``operation_count``.
        """

        address: int
        operations: dict[int, Any]
        operation_count: int

        def forget_replayed(self) -> None:
            """Drop from the log what every living group has replayed. Under the write lock."""

        def erase(self, numbers: Iterable[int], /) -> None:
            """Drop operations that come to nothing from the log, by their numbers: all or none.

            Under the write lock.
            """

        def operation(self, number: int, /) -> Any:
            """Return the operation with a number, or None if it does nothing; InternalError if it is not there. Under a read lock."""

    class SharedHandle:
        """A handle of a universe: what LinkerShared has in C."""

        _native: Any
        _linker_state: Any

        def bind(self, universe: SharedBase, state: object, /) -> None:
            """Become a handle of a universe, with the state that it guards. Once."""

        def dl_operation_pending_load(self, ordering: int, /) -> bool:
            """Load the pending flag."""

        def try_write_linker_state(self) -> WriteGuard[Any] | None:
            """Return a write guard, or None while another guard holds the lock."""

        def try_read_linker_state(self) -> ReadGuard[Any] | None:
            """Return a read guard, or None while the lock is held for writing."""

        def write_now(self, group: object, /) -> WriteGuard[Any] | None:
            """Return a write guard for a group that has nothing to replay, or None if that is not so simple. Never blocks."""

        def read_now(self, group: object, /) -> ReadGuard[Any] | None:
            """Return a read guard for a group that has nothing to replay, or None if that is not so simple. Never blocks."""

        def acquire_now(self, group: object, /) -> TopologyToken | None:
            """Return the topology token for a group, or None if that is not so simple.

            Never blocks.
            """

        def aborted(self) -> BaseException:
            """Return what is raised if the lock is poisoned."""

    class GroupBase:
        """A group's part in the rendezvous: ``address`` is that of its ``pl_group`` (0: none), ``place`` that of the pointer to it."""

        address: int
        place: int

        def follow_pending(self) -> int:
            """Take part in what is pending: an ``enum pl_acquire``. Blocks, without the GIL."""

        def follow(self) -> None:
            """Take part, and raise what that came to; for :meth:`safepoint`."""

        def safepoint(self) -> None:
            """Replay what others have published, if there is something. Blocks then."""

        def running(self) -> AbstractContextManager[Self]:
            """Return a context manager in which the group is RUNNING."""

        def parked(self) -> AbstractContextManager[Self]:
            """Return a context manager in which the group is PARKED."""

    class TopologyToken:
        """The right to change the topology; there is at most one at a time.

        It belongs to the owner of the object, and may be handed to another thread. It is released
        exactly once, after the guards that were taken under it. As a context manager it releases
        itself, and when it is dropped, with a ResourceWarning. Got from
        :meth:`LinkerShared.acquire_topology_token` or :meth:`TopologyCoordinator.try_acquire`.

        Attributes: ``number`` (it only goes up; 0 before it is taken), ``is_held`` (whether the
        token is still out), ``guards`` (how many guards that were taken under it are held).
        """

        number: int
        is_held: bool
        guards: int
        is_given: bool

        def belongs_to(self, universe: SharedBase, /) -> bool:
            """Whether this is a token of that universe, and still out."""

        def take(self) -> int:
            """Try to take it: ACQUIRED or BUSY. Never blocks."""

        def take_as(self, group: object, /) -> int:
            """Take it as the thread of a group must: an ``enum pl_acquire``.

            Blocks, without the GIL.
            """

        def release(self) -> None:
            """Give the token back.

            InternalError if that was done before, or while a guard taken under it is still held.
            """

        def leave(self, _error: BaseException | None, /) -> None:
            """Give it back, if that was not done."""

        def __enter__(self) -> Self: ...

        def __exit__(self, kind: object, value: object, traceback: object, /) -> None: ...

        def __reduce__(self) -> NoReturn: ...

    class _Guard(Generic[S]):
        """What guards have in common.

        Attributes: ``held`` (whether the lock is held by this guard), ``state`` (what the lock
        guards; InternalError once the guard is released), ``topology`` (the token it was taken
        under, or None).
        """

        held: bool
        topology: TopologyToken | None
        is_given: bool

        @property
        def state(self) -> S:
            """What the lock guards."""

        def guards(self, universe: SharedBase, /) -> bool:
            """Whether this guard is held, and of that universe."""

        def take(self) -> int:
            """Try to take the lock: ACQUIRED, BUSY or POISONED. Never blocks."""

        def take_as(self, group: object, /) -> int:
            """Take it as the thread of a group must: an ``enum pl_acquire``.

            Blocks, without the GIL.
            """

        def release(self) -> None:
            """Give the lock back; InternalError the second time."""

        def leave(self, error: BaseException | None, /) -> None:
            """Give the lock back, if that was not done."""

        def __enter__(self) -> Self: ...

        def __exit__(self, kind: object, value: object, traceback: object, /) -> None: ...

        def __reduce__(self) -> NoReturn: ...

    class ReadGuard(_Guard[S]):
        """The LinkerState may be read. A context manager; may be released by another thread.

        Dropping one that holds the lock gives it back, with a ResourceWarning.
        """

        def take_now(self, group: object, /) -> bool:
            """Try to take it for a group that has nothing to replay. Never blocks."""

    class WriteGuard(_Guard[S]):
        """The LinkerState may be changed.

        A context manager: leaving it with an InternalError poisons the lock. What it guards is
            broken then.

        Dropping one that holds the lock gives it back, with a ResourceWarning.
        """

        def take_blindly(self) -> int:
            """Wait for it blindly, for a slice of time: an ``enum pl_acquire``.

            Blocks, without the GIL.
            """

        def take_both(self, group: object, /) -> bool:
            """Try to take its token, too, for a group that has nothing to replay. Never blocks."""

    class LinkerStateWriteBackoff:
        """A sequence of pauses: 64 spins, 24 yields, then sleeps from 48 microseconds doubling up to 10 milliseconds.

        One thread's. A pause that sleeps does so without the GIL; a spin or a yield, of a
        microsecond, keeps it. All the cooperative waits of :class:`LinkerShared` back off this way
        in C, where none of it needs the GIL.

        Attributes: ``pauses`` (taken so far), ``next_sleep`` (seconds the next pause sleeps; 0.0
            for a yield, None for a spin).
        """

        pauses: int
        next_sleep: float | None

        def pause(self) -> None:
            """Take the next pause. Blocks for at most 10 milliseconds."""

        def reset(self) -> None:
            """Start over with spins: the lock was had."""

    def new_token(universe: SharedBase, /) -> TopologyToken:
        """Return a token that is not taken yet."""

    def new_reader(
        universe: SharedBase, state: S, topology: TopologyToken | None, /
    ) -> ReadGuard[S]:
        """Return a guard for reading that holds nothing yet."""

    def new_writer(
        universe: SharedBase, state: S, topology: TopologyToken | None, /
    ) -> WriteGuard[S]:
        """Return a guard for writing that holds nothing yet."""

    def lead(
        group: GroupBase,
        token: TopologyToken,
        guard: WriteGuard[Any],
        operation: object,
        native: int,
        wake: Callable[[], object] | None,
        commit: Callable[[], object] | None,
        timeout: int,
        /,
    ) -> tuple[int, int, int, int]:
        """Lead an operation (``csrc/lead.h``), whose ``pl_operation`` is at the address ``native``, 0 if it has none.

        ``timeout`` is in nanoseconds, negative for none. Token and guard are released on every way
        out. Returns an ``enum pl_acquire``, the operation's number, the handle of a group that did
        not come, and an ``enum pl_breach``; raises what ``wake`` or ``commit`` raised. Blocks,
        without the GIL.
        """

else:
    GroupBase = python_types["GroupBase"]
    LinkerStateWriteBackoff = python_types["LinkerStateWriteBackoff"]
    ReadGuard = python_types["ReadGuard"]
    SharedBase = python_types["SharedBase"]
    SharedHandle = python_types["SharedHandle"]
    TopologyToken = python_types["TopologyToken"]
    WriteGuard = python_types["WriteGuard"]
    lead = python_types["lead"]
    new_reader = python_types["new_reader"]
    new_token = python_types["new_token"]
    new_writer = python_types["new_writer"]
