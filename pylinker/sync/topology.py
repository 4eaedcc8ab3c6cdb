"""The topology token: who may change which groups and modules there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker.errors import InternalError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pylinker import _native

__all__ = ["TopologyCoordinator", "TopologyToken"]


class TopologyToken:
    """The right to change the topology; there is at most one at a time.

    It belongs to whoever has the object, and may be handed to another thread. It is released exactly once, after the guards that were taken
    under it. As a context manager it releases itself. ``number`` only goes up.
    """

    __slots__ = ("_shared", "guards", "number")

    def __init__(self, shared: _native.Shared, number: int) -> None:
        self._shared = shared
        self.number = number
        self.guards = 0

    def __repr__(self) -> str:
        return f"<TopologyToken {self.number}{'' if self.is_held else ' (released)'}>"

    @property
    def is_held(self) -> bool:
        """Whether the token is still out."""
        return self._shared.token == self.number

    def belongs_to(self, shared: _native.Shared) -> bool:
        """Whether this is a token of that linker, and still out."""
        return self._shared is shared and self.is_held

    def release(self) -> None:
        """Give the token back. InternalError if that was done before, or while a guard taken under it is still held."""
        if self.guards:
            raise InternalError(f"topology token {self.number} is released before the guard that was taken under it")
        if not self._shared.release_token(self.number):
            raise InternalError(f"topology token {self.number} is released twice")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self.is_held:
            self.release()


class TopologyCoordinator:
    """Grants one token at a time. Safe to use from all threads."""

    __slots__ = ("_shared",)

    def __init__(self, shared: _native.Shared) -> None:
        self._shared = shared

    def __repr__(self) -> str:
        return f"<TopologyCoordinator, token {self._shared.token or 'free'}>"

    def try_acquire(self) -> TopologyToken | None:
        """Return the token, or None while it is out. Never blocks."""
        number = self._shared.try_acquire_token()
        return TopologyToken(self._shared, number) if number else None
