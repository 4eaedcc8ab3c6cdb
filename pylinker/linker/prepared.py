"""A group that is about to exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker.errors import InternalError

if TYPE_CHECKING:
    from pylinker.sync import TopologyToken

__all__ = ["PreparedInstanceGroup"]


class PreparedInstanceGroup:
    """Holds the topology token, so that nothing changes until the group is created or abandoned; either releases it.

    ``wants_stack``: the group gets a stack of its own. A guest that starts threads itself brings one, and may say where it ends:
    ``stack_top``, 0 if it has not said.
    """

    __slots__ = ("_topology", "stack_top", "wants_stack")

    def __init__(self, topology: TopologyToken, *, wants_stack: bool, stack_top: int = 0) -> None:
        self._topology: TopologyToken | None = topology
        self.wants_stack = wants_stack
        self.stack_top = stack_top

    def take(self) -> TopologyToken:
        """Return the token, once; InternalError after that."""
        topology, self._topology = self._topology, None
        if topology is None:
            raise InternalError("a prepared instance group is used twice")
        return topology

    def abandon(self) -> None:
        """Release the token if nobody took it: there will be no group."""
        if self._topology is not None:
            self.take().release()
