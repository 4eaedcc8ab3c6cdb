"""Memory of the guest that the linker borrows for the time of a call: strings and stacks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pylinker.linker.ranges import Grant, align_up, release_all
from pylinker.native.scopes import Scope

if TYPE_CHECKING:
    from pylinker.linker.groups.group import InstanceGroup
    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.linker.load.room import GuestRoom
    from pylinker.runtime.memory import Memory

__all__ = ["Scratch"]


class Scratch:
    """Memory of the guest that is borrowed for a while. Threads: any."""

    def __init__(self, context: ThreadLinkState, memory: Memory, room: GuestRoom) -> None:
        self._context = context
        self._memory = memory
        self._room = room

    def strings(self, texts: Sequence[bytes], *, stack: int) -> AbstractContextManager[list[int]]:
        """Put byte strings into guest memory until the end of the block; the value is addresses.

        Up to ``stack`` bytes in all go on the calling group's stack, more into memory of their own.
        """
        group = self._context.group
        total = sum(align_up(len(text), 16) for text in texts)
        top = group.stack_top
        if top is not None and total <= stack and (base := (top - total) & ~15) > 0:
            return _OnStack(self._memory, group, texts, top, base)
        return _InMemory(self._memory, texts, self.allocated(total, "arguments"))

    def allocated(self, size: int, purpose: str) -> _Allocated:
        """Allocate memory until the end of the block; the value is its address."""
        return _Allocated(self._context, self._room, size, purpose)

    def stack(self, group: InstanceGroup, top: int, other: int) -> AbstractContextManager[object]:
        """Move the top of a group's stack from ``top`` to ``other`` until the end of the block."""
        return _OnStack(self._memory, group, (), top, other)


def _put(memory: Memory, texts: Sequence[bytes], base: int) -> list[int]:
    """Write byte strings, each at a multiple of 16 from ``base`` on, and return their addresses."""
    addresses = []
    for text in texts:
        memory.write(base, text)
        addresses.append(base)
        base += align_up(len(text), 16)
    return addresses


class _OnStack(Scope):
    """Byte strings on a group's stack, between ``base`` and ``top``."""

    __slots__ = ("_base", "_group", "_memory", "_texts", "_top")

    def __init__(
        self, memory: Memory, group: InstanceGroup, texts: Sequence[bytes], top: int, base: int
    ) -> None:
        self._memory = memory
        self._group = group
        self._texts = texts
        self._top = top
        self._base = base

    def enter(self) -> list[int]:
        """Move the top of the stack, and write the strings."""
        self._group.stack_top = self._base
        return _put(self._memory, self._texts, self._base)

    def leave(self, _error: BaseException | None) -> None:
        """Move the top of the stack back."""
        self._group.native.set_stack_top(self._top)


class _Allocated(Scope):
    """Allocated memory."""

    __slots__ = ("_context", "_grants", "_purpose", "_room", "_size")

    def __init__(self, context: ThreadLinkState, room: GuestRoom, size: int, purpose: str) -> None:
        self._context = context
        self._room = room
        self._size = size
        self._purpose = purpose
        self._grants: list[Grant] = []

    def enter(self) -> int:
        """Allocate the memory, and return its address."""
        context = self._context
        with (
            self._room.fetched(lambda: [(self._size, 16)], module=self._purpose),
            context.exclusive(),
        ):
            return context.state.memory.allocate(
                self._size, 16, self._grants, module=self._purpose, zero=False
            )

    def leave(self, _error: BaseException | None) -> None:
        """Free the memory."""
        if self._grants:
            with self._context.exclusive():
                release_all(self._grants)


class _InMemory(Scope):
    """Byte strings in memory of their own."""

    __slots__ = ("_block", "_memory", "_texts")

    def __init__(self, memory: Memory, texts: Sequence[bytes], block: _Allocated) -> None:
        self._memory = memory
        self._texts = texts
        self._block = block

    def enter(self) -> list[int]:
        """Allocate the memory, and write the strings."""
        return _put(self._memory, self._texts, self._block.enter())

    def leave(self, error: BaseException | None) -> None:
        """Free the memory."""
        self._block.leave(error)
