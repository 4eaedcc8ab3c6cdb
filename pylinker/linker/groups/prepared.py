"""A group that is about to be created."""

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
    """Holds the topology token until the group is created or abandoned; either releases it.

    It also holds the write lock, if that was free at once: then no other thread looks up anything
    either, and the group should be created soon.

    Args:
        topology: The topology token.
        guard: The write lock.
        needs_stack: Whether the group gets a stack of its own. A guest that starts threads itself
            provides one.
        stack_top: The end of the stack that the guest provides, 0 if unknown.
    """

    topology: TopologyToken
    """The topology token."""
    guard: WriteGuard[LinkerState]
    """The write lock."""
    group: InstanceGroup | None
    """The group, once it exists."""
    needs_stack: bool
    """Whether the group gets a stack of its own."""
    stack_top: int
    """The end of the stack that the guest provides, 0 if unknown."""

    __slots__ = ("_is_taken", "group", "guard", "needs_stack", "stack_top", "topology")

    def __init__(
        self,
        topology: TopologyToken,
        guard: WriteGuard[LinkerState],
        *,
        needs_stack: bool,
        stack_top: int = 0,
    ) -> None:
        self.topology = topology
        self.guard = guard
        self._is_taken = False
        self.group = None
        self.needs_stack = needs_stack
        self.stack_top = stack_top

    def take(self) -> None:
        """Record that the group is being created, once.

        Raises:
            InternalError: It is used twice.
        """
        if self._is_taken:
            raise InternalError("a prepared instance group is used twice")
        self._is_taken = True

    def enter(self) -> Self:
        """Return itself."""
        return self

    def leave(self, error: BaseException | None) -> None:
        """Release what it still holds."""
        self._is_taken = True
        leave_both(self.topology, self.guard, error)

    def abandon(self) -> None:
        """Release token and lock without creating a group."""
        completed(self.leave, None)
