"""The allocators of a program: guest memory and slots of the function table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pylinker.errors import LimitError
from pylinker.linker.ranges import Grant, RangeAllocator, align_up

if TYPE_CHECKING:
    from pylinker.linker.modules.module import LoadedModule

__all__ = ["MemoryAllocator", "SlotAllocator"]

_PAGE = 1 << 16


class MemoryAllocator:
    """Allocates guest memory for libraries.

    Allocated memory is zero.
    """

    grow: Callable[[int], int | None]
    """Grows the memory by pages and returns the first new address, or None if it cannot grow."""
    zero: Callable[[int, int], None]
    """Zeroes memory, given address and size in bytes."""
    size: Callable[[], int]
    """Returns the size of the memory in bytes, 0 before it exists."""
    from_guest: bool
    """Whether memory comes from the guest's malloc in advance, and allocations do not grow the
    memory.
    """

    def __init__(self, limit: int) -> None:
        self._ranges = RangeAllocator()
        self._limit = limit
        self.grow = lambda _pages: None
        self.zero = lambda _start, _size: None
        self.size = lambda: 0
        self.from_guest = False
        self._grown: list[tuple[int, int]] = []
        self._taken_over: set[tuple[int, int]] = set()

    @property
    def used(self) -> int:
        """The number of allocated bytes."""
        return self._ranges.used

    def allocate(
        self, size: int, alignment: int, grants: list[Grant], *, module: str, zero: bool = True
    ) -> int:
        """Return the address of ``size`` bytes at a multiple of ``alignment``.

        The memory is zeroed if ``zero``; a stack, or memory that is written at once, does not need
        it. The grant is added to ``grants``.

        Raises:
            LimitError: There is no room.
        """
        if not size:
            return 0
        base = self._ranges.allocate(size, alignment, grants)
        dirty = size
        if base is None and self.from_guest:
            raise LimitError(
                f"{module}: no room for {size} more bytes of guest memory", module=module
            )
        if base is None:
            # It begins at a page, which suits every alignment.
            fresh = self.reserve(size, module=module)
            base = self._ranges.allocate(size, alignment, grants)
            assert base is not None
            dirty = max(0, min(size, fresh - base))  # the new memory is zero
        if zero:
            self.zero(base, dirty)
        return base

    def make_room(
        self, wanted: Sequence[tuple[int, int]], *, memory_size: int, module: str
    ) -> None:
        """Grow the memory so that all ``wanted`` (size, alignment) will fit.

        Args:
            wanted: The allocations to come.
            memory_size: The present size of the memory in bytes.
            module: The module, for messages.

        Raises:
            LimitError: The limit does not allow that; the memory has not grown then.
        """
        if self.from_guest or self._ranges.has_room(
            sum([size + alignment - 1 for size, alignment in wanted])
        ):
            return
        ranges = self._ranges.copy()
        missing = sum(
            align_up(size, _PAGE)
            for size, alignment in wanted
            if size and ranges.allocate(size, alignment) is None
        )
        if memory_size + missing > self._limit:
            raise LimitError(
                f"{module}: no room for {missing} more bytes in a memory of {memory_size}; the "
                f"limit is {self._limit}: "
                "raise Limits(memory=...)",
                module=module,
            )
        if missing:
            self.reserve(missing, module=module)

    def reserve(self, size: int, *, module: str) -> int:
        """Grow the memory by at least ``size`` (> 0) bytes for later use; return its address.

        Raises:
            LimitError: The memory cannot grow.
        """
        start = self.grow_for(size, module=module)
        self.reuse(start, start + align_up(size, _PAGE))
        return start

    def grow_for(self, size: int, *, module: str) -> int:
        """Grow the memory by ``size`` (> 0) bytes for the caller; return the new address.

        The size is rounded up to pages.

        Raises:
            LimitError: The memory cannot grow.
        """
        pages = align_up(size, _PAGE) // _PAGE
        start = self.grow(pages) if pages * _PAGE <= self._limit else None
        if start is None:
            raise LimitError(
                f"{module}: no room for {size} more bytes of guest memory", module=module
            )
        if self._grown and self._grown[-1][1] == start:
            self._grown[-1] = (self._grown[-1][0], start + pages * _PAGE)
        else:
            self._grown.append((start, start + pages * _PAGE))
        return start

    def reuse(self, start: int, stop: int) -> None:
        """Add memory of :meth:`grow_for` to the free ranges."""
        self._ranges.extend(start, stop)

    def reuse_page(self, pages: dict[LoadedModule, int], module: LoadedModule) -> None:
        """Free the page of a module, which ``pages`` loses in the same step."""
        free = self._ranges.with_range(pages[module], pages[module] + _PAGE)
        self._ranges.free_ranges = free
        del pages[module]

    def missing(self, wanted: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return those ``wanted`` (size, alignment) that do not fit, if allocated in this order."""
        ranges = self._ranges.copy()
        return [
            (size, alignment)
            for size, alignment in wanted
            if size and ranges.allocate(size, alignment) is None
        ]

    def take_over(self, start: int, stop: int) -> bool:
        """Add memory of the guest's malloc; False if some of it is the allocator's already."""
        if any(first < stop and start < end for first, end in (*self._grown, *self._taken_over)):
            return False
        self._taken_over.add((start, stop))
        self._ranges.extend(start, stop)
        return True

    def hand_back(self, start: int, stop: int) -> bool:
        """Remove memory of :meth:`take_over`; False if some of it is allocated."""
        if not self._ranges.withdraw(start, stop):
            return False
        self._taken_over.remove((start, stop))
        return True


class SlotAllocator:
    """Allocates slots of the function table."""

    size: int
    """The size that the table needs for all allocated slots."""

    def __init__(self, limit: int) -> None:
        self._ranges = RangeAllocator()
        self._limit = limit
        self.size = 1  # slot 0 is the null pointer

    @property
    def used(self) -> int:
        """The number of allocated slots."""
        return self._ranges.used

    def note_size(self, size: int) -> None:
        """Record that the table has ``size`` slots.

        Slots that the linker did not add belong to the guest.
        """
        self.size = max(self.size, size)

    def allocate(self, count: int, alignment: int, grants: list[Grant], *, module: str) -> int:
        """Return the first of ``count`` slots at a multiple of ``alignment``.

        The grant is added to ``grants``.

        Raises:
            LimitError: The table would be too large.
        """
        if not count:
            return 0
        base = self._ranges.allocate(count, alignment, grants)
        if base is None:
            start = align_up(self.size, alignment)
            if start + count > self._limit:
                raise LimitError(
                    f"{module}: {count} table slots more than the {self.size} in use; the limit "
                    f"is {self._limit}: raise Limits(table=...)",
                    module=module,
                )
            ranges = self._ranges
            if start == self.size and ranges.ends_before(start):
                grant = [Grant(ranges, start, count)]
                # No call from here on: `size` covers all allocated slots even if an exception of
                # a signal handler interrupts this.
                self.size += count
                ranges.used += count
                grants += grant
                return start
            before, self.size = self.size, start + count  # first: no slot beyond it is ever free
            ranges.extend(before, start + count)
            base = ranges.allocate(count, alignment, grants)
            assert base is not None
        return base
