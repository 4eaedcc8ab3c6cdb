"""A group that is about to exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker.errors import InternalError

if TYPE_CHECKING:
    from pylinker.linker.state import LinkerState
    from pylinker.sync import TopologyToken, WriteGuard

__all__ = ["PreparedInstanceGroup"]


class PreparedInstanceGroup:
    """Holds the topology token, so that nothing changes until the group is created or abandoned; either releases it.

    And the write lock, if it was free at once: then nobody looks anything up either, and the group is to be created soon.
    ``wants_stack``: the group gets a stack of its own. A guest that starts threads itself brings one, and may say where it ends:
    ``stack_top``, 0 if it has not said.
    """

    __slots__ = ("_guard", "_topology", "stack_top", "wants_stack")

    def __init__(self, topology: TopologyToken, guard: WriteGuard[LinkerState] | None, *, wants_stack: bool, stack_top: int = 0) -> None:
        self._topology: TopologyToken | None = topology
        self._guard = guard
        self.wants_stack = wants_stack
        self.stack_top = stack_top

    def take(self) -> tuple[TopologyToken, WriteGuard[LinkerState] | None]:
        """Return the token and, if it was free, the lock, once; InternalError after that."""
        topology, self._topology = self._topology, None
        if topology is None:
            raise InternalError("a prepared instance group is used twice")
        return topology, self._guard

    def abandon(self) -> None:
        """Release what it holds if nobody took it: there will be no group."""
        if self._topology is not None:
            topology, guard = self.take()
            if guard is not None:
                guard.release_with(topology)
            else:
                topology.release()
