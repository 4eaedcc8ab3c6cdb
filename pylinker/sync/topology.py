"""The topology token: mutex over changes of the set of groups and modules."""

from __future__ import annotations

from typing import NoReturn

from pylinker.native.enums import ACQUIRED
from pylinker.native.shared import Shared
from pylinker.native.sync import TopologyToken, new_token

__all__ = ["TopologyCoordinator", "TopologyToken"]


class TopologyCoordinator:
    """Grants one token at a time. Safe to use from all threads."""

    __slots__ = ("_shared",)

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def __repr__(self) -> str:
        return f"<TopologyCoordinator, token {self._shared.token or 'free'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a TopologyCoordinator is neither copied nor pickled: it belongs to this process"
        )

    def try_acquire(self) -> TopologyToken | None:
        """Return the token, or None while it is held. Never blocks."""
        token = new_token(self._shared)
        if token.take() != ACQUIRED:
            return None
        token.is_given = True
        return token
