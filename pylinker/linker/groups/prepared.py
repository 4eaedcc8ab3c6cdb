"""A group that is about to exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker.errors import InternalError
from pylinker.native.scopes import Scope, completed
from pylinker.sync.shared import leave_both

if TYPE_CHECKING:
    from typing import Self

    from pylinker.linker.groups.group import InstanceGroup
    from pylinker.linker.plan.state import LinkerState
    from pylinker.sync import TopologyToken, WriteGuard

__all__ = ["PreparedInstanceGroup"]


class PreparedInstanceGroup(Scope):
    """Holds the topology token, so that nothing changes until the group is created or abandoned; either releases it.

    And the write lock, if it was free at once: then nobody looks anything up either, and the group
        is to be created soon.
    ``wants_stack``: the group gets a stack of its own. A guest that starts threads itself brings
    one, and may say where it ends: ``stack_top``, 0 if it has not said.
    """

    __slots__ = ("_is_taken", "group", "guard", "stack_top", "topology", "wants_stack")

    def __init__(
        self,
        topology: TopologyToken,
        guard: WriteGuard[LinkerState],
        *,
        wants_stack: bool,
        stack_top: int = 0,
    ) -> None:
        self.topology = topology
        self.guard = guard
        self._is_taken = False
        self.group: InstanceGroup | None = None  # once it exists
        self.wants_stack = wants_stack
        self.stack_top = stack_top

    def take(self) -> None:
        """Note that the group is being created, once; InternalError after that."""
        if self._is_taken:
            raise InternalError("a prepared instance group is used twice")
        self._is_taken = True

    def enter(self) -> Self:
        """Return it."""
        return self

    def leave(self, error: BaseException | None) -> None:
        """Release what it still holds."""
        self._is_taken = True
        leave_both(self.topology, self.guard, error)

    def abandon(self) -> None:
        """Release what it holds: there will be no group."""
        completed(self.leave, None)
