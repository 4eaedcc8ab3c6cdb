"""Guards of the LinkerState: holding one is holding the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from pylinker.errors import InternalError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pylinker import _native
    from pylinker.sync.topology import TopologyToken

__all__ = ["ReadGuard", "WriteGuard"]

S = TypeVar("S")


class _Guard(Generic[S]):
    __slots__ = ("_held", "_shared", "_state", "topology")

    def __init__(self, shared: _native.Shared, state: S, topology: TopologyToken | None = None) -> None:
        self._shared = shared
        self._state = state
        self._held = True
        self.topology = topology
        if topology is not None:
            topology.guards += 1

    def take_under(self, topology: TopologyToken) -> None:
        """Note the token that the lock was taken under: it outlives this guard."""
        self.topology = topology
        topology.guards += 1

    def _end(self) -> None:
        self._check()
        self._held = False
        if self.topology is not None:
            self.topology.guards -= 1

    @property
    def held(self) -> bool:
        """Whether the lock is held by this guard."""
        return self._held

    @property
    def state(self) -> S:
        """What the lock guards. InternalError once the guard is released."""
        self._check()
        return self._state

    def guards(self, shared: _native.Shared) -> bool:
        """Whether this guard is held, and of that linker."""
        return self.held and self._shared is shared

    def _check(self) -> None:
        if not self.held:
            raise InternalError("a guard of the linker's state is used after it was released")

    def __enter__(self) -> Self:
        self._check()
        return self

    def release(self) -> None:
        """Give the lock back; InternalError the second time."""
        raise NotImplementedError


class ReadGuard(_Guard[S]):
    """The LinkerState may be read. A context manager; may be released by another thread.

    The guard exists before the lock is taken, and C notes in it that it was: an interrupt at any moment leaves the lock with its guard,
    which releases it when it is dropped.
    """

    __slots__ = ("_cell",)

    def __init__(self, shared: _native.Shared, state: S, topology: TopologyToken | None = None) -> None:
        self._cell = shared.new_held()
        super().__init__(shared, state, topology)

    @property
    def held(self) -> bool:
        """Whether the lock is held by this guard."""
        return bool(self._cell[0])

    def take(self) -> int:
        """Try to take the lock: ACQUIRED, BUSY or POISONED. Never blocks."""
        return self._shared.try_read(self._cell)

    def take_over(self) -> None:
        """Turn the write lock, which the calling thread holds, into this guard's."""
        self._shared.downgrade(self._cell)

    def release(self) -> None:
        """Give the lock back; InternalError the second time."""
        self._end()
        self._shared.release_read(self._cell)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self.held:
            self.release()


class WriteGuard(_Guard[S]):
    """The LinkerState may be changed. A context manager: leaving it with an InternalError poisons the lock, as what it guards is broken.

    ``topology`` is the token it was taken under, or None.
    """

    __slots__ = ()

    def release(self) -> None:
        """Give the lock back; InternalError the second time."""
        self._end()
        self._shared.release_write()

    def release_with(self, topology: TopologyToken) -> None:
        """Give the lock back, and then the token that it was taken under. InternalError if one of them is not held."""
        if topology.guards != 1 or self.topology is not topology:
            raise InternalError(f"{topology!r} is not to be released with this guard")
        self._end()
        self._shared.release_exclusive(topology.number)

    def poison(self) -> None:
        """Give the lock back for good: nobody gets it any more."""
        self._end()
        self._shared.poison()

    def downgrade(self) -> ReadGuard[S]:
        """Become a reader, with no moment in which another could write."""
        self._check()
        reader = ReadGuard(self._shared, self._state, self.topology)
        self._end()
        reader.take_over()
        return reader

    def published(self) -> None:
        """Note that the rendezvous has turned the lock into a read lock of its own."""
        self._end()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self.held:
            if isinstance(value, InternalError):
                self.poison()
            else:
                self.release()
