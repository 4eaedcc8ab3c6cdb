"""The C types of ``csrc/python/objects.h``: linkers, handles, groups, tokens, guards and pauses.

They are in C so that a call costs as much as a call of a builtin, and so that no signal is handled
between taking a lock and having the guard that releases it.
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
        """The shared part of a linker (``csrc/shared.h``), and the log of its operations."""

        address: int
        """Address of the ``pl_shared``."""
        operations: dict[int, Any]
        """The operations in the log, by number. Requires a read lock."""
        operation_count: int
        """Length of the log."""

        def forget_replayed(self) -> None:
            """Drop operations from the log that every living group has replayed.

            Requires the write lock.
            """

        def erase(self, numbers: Iterable[int], /) -> None:
            """Drop redundant operations from the log, by their numbers: all or none.

            Requires the write lock.
            """

        def operation(self, number: int, /) -> Any:
            """Return the operation with a number, or None if it was withdrawn or erased.

            Requires a read lock. InternalError if it is not in the log.
            """

    class SharedHandle:
        """A handle of a linker: the part of LinkerShared in C."""

        _native: Any
        _linker_state: Any

        def bind(self, universe: SharedBase, state: object, /) -> None:
            """Become a handle of a linker, with the state that it guards. Once."""

        def dl_operation_pending_load(self, ordering: int, /) -> bool:
            """Return the pending flag."""

        def try_write_linker_state(self) -> WriteGuard[Any] | None:
            """Return a write guard, or None while another guard holds the lock."""

        def try_read_linker_state(self) -> ReadGuard[Any] | None:
            """Return a read guard, or None while the lock is held for writing."""

        def write_now(self, group: object, /) -> WriteGuard[Any] | None:
            """Return a write guard, or None if the group has operations to replay or must wait.

            Never blocks.
            """

        def read_now(self, group: object, /) -> ReadGuard[Any] | None:
            """Return a read guard, or None if the group has operations to replay or must wait.

            Never blocks.
            """

        def acquire_now(self, group: object, /) -> TopologyToken | None:
            """Return the topology token, or None if the group must replay operations or wait.

            Never blocks.
            """

        def aborted(self) -> BaseException:
            """Return the exception for a poisoned lock."""

    class GroupBase:
        """The part of a group in the rendezvous."""

        address: int
        """Address of its ``pl_group``, 0 if there is none."""
        place: int
        """Address of the pointer to it."""

        def follow_pending(self) -> int:
            """Take part in the pending operation, and return an ``enum pl_acquire``.

            Blocks, without the GIL.
            """

        def follow(self) -> None:
            """Take part, and raise if that fails; for :meth:`safepoint`."""

        def safepoint(self) -> None:
            """Replay the operations that others have published, if any. Blocks then.

            Raises:
                SynchronizationAborted: The linker is cancelled.
            """

        def running(self) -> AbstractContextManager[Self]:
            """Return a context manager in which the group is RUNNING."""

        def parked(self) -> AbstractContextManager[Self]:
            """Return a context manager in which the group is PARKED."""

    class TopologyToken:
        """The token of the topology lock: its holder may change the set of groups and modules.

        There is at most one at a time. It belongs to the owner of the object, and may be passed to
        another thread. It is released exactly once, after the guards that were taken under it. As a
        context manager it releases itself, and when it is deallocated, with a ResourceWarning. It
        is made by :meth:`LinkerShared.acquire_topology_token` and
        :meth:`TopologyCoordinator.try_acquire`.
        """

        number: int
        """Number of the token, which only goes up; 0 before it is taken."""
        is_held: bool
        """Whether the token is not released yet."""
        guards: int
        """Number of held guards that were taken under it."""
        is_given: bool

        def belongs_to(self, universe: SharedBase, /) -> bool:
            """Whether this is a token of that linker, and held."""

        def take(self) -> int:
            """Try to take it: ACQUIRED or BUSY. Never blocks."""

        def take_as(self, group: object, /) -> int:
            """Take it as the thread of a group, and return an ``enum pl_acquire``.

            Blocks, without the GIL, and takes part in pending operations meanwhile.
            """

        def release(self) -> None:
            """Release the token.

            Raises:
                InternalError: It is released already, or a guard taken under it is still held.
            """

        def leave(self, _error: BaseException | None, /) -> None:
            """Release it if it is held."""

        def __enter__(self) -> Self: ...

        def __exit__(self, kind: object, value: object, traceback: object, /) -> None: ...

        def __reduce__(self) -> NoReturn: ...

    class _Guard(Generic[S]):
        """Base of the guards."""

        held: bool
        """Whether this guard holds the lock."""
        topology: TopologyToken | None
        """The token that it was taken under, or None."""
        is_given: bool

        @property
        def state(self) -> S:
            """The state that the lock guards; InternalError once the guard is released."""

        def guards(self, universe: SharedBase, /) -> bool:
            """Whether this guard is held, and belongs to that linker."""

        def take(self) -> int:
            """Try to take the lock: ACQUIRED, BUSY or POISONED. Never blocks."""

        def take_as(self, group: object, /) -> int:
            """Take it as the thread of a group, and return an ``enum pl_acquire``.

            Blocks, without the GIL, and takes part in pending operations meanwhile.
            """

        def release(self) -> None:
            """Release the lock.

            Raises:
                InternalError: It is released already.
            """

        def leave(self, error: BaseException | None, /) -> None:
            """Release the lock if it is held."""

        def __enter__(self) -> Self: ...

        def __exit__(self, kind: object, value: object, traceback: object, /) -> None: ...

        def __reduce__(self) -> NoReturn: ...

    class ReadGuard(_Guard[S]):
        """Allows to read the LinkerState. A context manager; any thread may release it.

        When one that holds the lock is deallocated, it releases it, with a ResourceWarning.
        """

        def take_now(self, group: object, /) -> bool:
            """Try to take it for a group that has no operations to replay. Never blocks."""

    class WriteGuard(_Guard[S]):
        """Allows to change the LinkerState.

        A context manager: an InternalError in its block poisons the lock, as the state is
        inconsistent then.

        When one that holds the lock is deallocated, it releases it, with a ResourceWarning.
        """

        def take_blindly(self) -> int:
            """Wait for it for a slice of time, without taking part in operations.

            Returns an ``enum pl_acquire``. Blocks, without the GIL.
            """

        def take_both(self, group: object, /) -> bool:
            """Try to take its token, too, for a group that has no operations to replay.

            Never blocks.
            """

    class LinkerStateWriteBackoff:
        """A sequence of pauses: 64 spins, 24 yields, then sleeps of 48 µs to 10 ms.

        Each sleep is twice as long as the one before. For one thread. A pause that sleeps releases
        the GIL; a spin or a yield, of a microsecond, keeps it. All the waits of
        :class:`LinkerShared` that take part in operations back off this way in C, without the GIL.
        """

        pauses: int
        """Pauses so far."""
        next_sleep: float | None
        """Seconds that the next pause sleeps; 0.0 for a yield, None for a spin."""

        def pause(self) -> None:
            """Take the next pause. Blocks for at most 10 milliseconds."""

        def reset(self) -> None:
            """Start over with spins, after the lock was taken."""

    def new_token(universe: SharedBase, /) -> TopologyToken:
        """Return a token that is not taken yet."""

    def new_reader(
        universe: SharedBase, state: S, topology: TopologyToken | None, /
    ) -> ReadGuard[S]:
        """Return a guard for reading that is not held yet."""

    def new_writer(
        universe: SharedBase, state: S, topology: TopologyToken | None, /
    ) -> WriteGuard[S]:
        """Return a guard for writing that is not held yet."""

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
        """Lead an operation (``csrc/lead.h``).

        Token and guard are released on every way out. Blocks, without the GIL. Raises the exception
        of ``wake`` or ``commit``.

        Args:
            group: The group of the calling thread.
            token: The topology token.
            guard: The write lock.
            operation: The operation.
            native: Address of its ``pl_operation``, 0 if it has none.
            wake: Called once the barrier is raised, or None.
            commit: Called when all groups are at the barrier, or None.
            timeout: In nanoseconds, negative for none.

        Returns:
            An ``enum pl_acquire``, the operation's number, the handle of a late group, and an
            ``enum pl_breach``.
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
