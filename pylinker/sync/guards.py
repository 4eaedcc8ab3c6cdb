"""Guards of the LinkerState: holding one is holding the lock."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from pylinker.errors import InternalError
from pylinker.native.scopes import Finalized, Scope
from pylinker.native.shared import Shared

if TYPE_CHECKING:
    from typing import Self

    from pylinker.sync.topology import TopologyToken

__all__ = ["ReadGuard", "WriteGuard"]

S = TypeVar("S")


class _Guard(Scope, Finalized, Generic[S]):
    """What C holds for it (``hold``) is released once: by :meth:`release`, at the end of a ``with``, or when the guard is dropped.

    The guard exists before the lock is taken, and the call that takes the lock notes it in ``hold``: an interrupt cannot come between.
    ``is_given`` says that a caller has the guard; dropping one that holds the lock is then a ResourceWarning.
    """

    __slots__ = ("_shared", "_state", "hold", "is_given", "topology")

    def __init__(self, shared: Shared, state: S, topology: TopologyToken | None = None) -> None:
        self.is_given = False
        self._shared = shared
        self._state = state
        self.hold = shared.new_hold()
        self.topology = topology
        if topology is not None:
            topology.holds.append(self.hold)

    def _drop(self) -> None:
        if getattr(self, "is_given", False) and self.held:
            self.hold.release()
            warnings.warn(f"a {type(self).__name__} was dropped before it was released", ResourceWarning, source=self, stacklevel=2)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is neither copied nor pickled: it is a lock that is held once")

    @property
    def held(self) -> bool:
        """Whether the lock is held by this guard."""
        raise NotImplementedError

    @property
    def state(self) -> S:
        """What the lock guards. InternalError once the guard is released."""
        self._check()
        return self._state

    def guards(self, shared: Shared) -> bool:
        """Whether this guard is held, and of that linker."""
        return self.held and self._shared is shared

    def _check(self) -> None:
        if not self.held:
            raise InternalError("a guard of the linker's state is used after it was released")

    def enter(self) -> Self:
        """Return the guard, which holds the lock."""
        self._check()
        return self

    def leave(self, _error: BaseException | None) -> None:
        """Give the lock back, if that was not done."""
        self.hold.release()

    def release(self) -> None:
        """Give the lock back; InternalError the second time."""
        self._check()
        self.hold.release()


class ReadGuard(_Guard[S]):
    """The LinkerState may be read. A context manager; may be released by another thread."""

    __slots__ = ()

    @property
    def held(self) -> bool:
        """Whether the lock is held by this guard."""
        return self.hold.is_reader

    def take(self) -> int:
        """Try to take the lock: ACQUIRED, BUSY or POISONED. Never blocks."""
        return self.hold.read()


class WriteGuard(_Guard[S]):
    """The LinkerState may be changed. A context manager: leaving it with an InternalError poisons the lock, as what it guards is broken.

    ``topology`` is the token it was taken under, or None.
    """

    __slots__ = ()

    @property
    def held(self) -> bool:
        """Whether the lock is held by this guard."""
        return self.hold.is_writer

    def take(self) -> int:
        """Try to take the lock: ACQUIRED, BUSY or POISONED. Never blocks."""
        return self.hold.write()

    def release_with(self, topology: TopologyToken) -> None:
        """Give the lock back, and then the token that it was taken under. InternalError if one of them is not held."""
        if self.topology is not topology or topology.guards != 1:
            raise InternalError(f"{topology!r} is not to be released with this guard")
        self.release()
        topology.release()

    def poison(self) -> None:
        """Give the lock back for good: nobody gets it any more."""
        self._check()
        self.hold.poison()

    def leave(self, error: BaseException | None) -> None:
        """Give the lock back, if that was not done: for good if it was left with an InternalError."""
        if isinstance(error, InternalError):
            self.hold.poison()
        self.hold.release()
