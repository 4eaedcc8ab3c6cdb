"""The topology token: who may change which groups and modules there are."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NoReturn

from pylinker.errors import InternalError
from pylinker.native.scopes import Finalized, Scope
from pylinker.native.shared import Hold, Shared
from pylinker.native.waits import ACQUIRED

if TYPE_CHECKING:
    from typing import Self

__all__ = ["TopologyCoordinator", "TopologyToken"]


class TopologyToken(Scope, Finalized):
    """The right to change the topology; there is at most one at a time.

    It belongs to the owner of the object, and may be handed to another thread. It is released exactly once, after the guards that were
    taken under it. As a context manager it releases itself, and when it is dropped, with a ResourceWarning. ``hold`` is it in C,
    ``holds`` those of the guards that were taken under it; ``is_given`` as that of a guard.
    """

    __slots__ = ("_shared", "hold", "holds", "is_given")

    def __init__(self, shared: Shared) -> None:
        self.is_given = False
        self._shared = shared
        self.hold = shared.new_hold()
        self.holds: list[Hold] = []

    def _drop(self) -> None:
        if getattr(self, "is_given", False) and self.is_held:
            self.hold.release()
            warnings.warn("a TopologyToken was dropped before it was released", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"<TopologyToken {self.number}{'' if self.is_held else ' (released)'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TopologyToken is neither copied nor pickled: there is one at a time")

    @property
    def number(self) -> int:
        """Its number, which only goes up; 0 before it is taken."""
        return self.hold.token

    @property
    def is_held(self) -> bool:
        """Whether the token is still out."""
        return self.hold.is_token

    @property
    def guards(self) -> int:
        """How many guards that were taken under it are held."""
        return sum([hold.is_anything for hold in self.holds])

    def belongs_to(self, shared: Shared) -> bool:
        """Whether this is a token of that linker, and still out."""
        return self._shared is shared and self.is_held

    def take(self) -> int:
        """Try to take it: ACQUIRED or BUSY. Never blocks."""
        return self.hold.acquire()

    def release(self) -> None:
        """Give the token back. InternalError if that was done before, or while a guard taken under it is still held."""
        if self.guards:
            raise InternalError(f"topology token {self.number} is released before the guard that was taken under it")
        if not self.hold.release():
            raise InternalError(f"topology token {self.number} is released twice")

    def enter(self) -> Self:
        """Return the token."""
        return self

    def leave(self, _error: BaseException | None) -> None:
        """Give it back, if that was not done."""
        if self.is_held:
            self.release()


class TopologyCoordinator:
    """Grants one token at a time. Safe to use from all threads."""

    __slots__ = ("_shared",)

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def __repr__(self) -> str:
        return f"<TopologyCoordinator, token {self._shared.token or 'free'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TopologyCoordinator is neither copied nor pickled: it is of the linkers of this process")

    def try_acquire(self) -> TopologyToken | None:
        """Return the token, or None while it is out. Never blocks."""
        token = TopologyToken(self._shared)
        if token.take() != ACQUIRED:
            return None
        token.is_given = True
        return token
