"""The memory and the function table of a program, as address spaces that modules get their places in."""

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
    """Places for libraries in guest memory.

    New room comes from ``grow`` (pages -> first new address, or None if the memory cannot grow);
    what is given out is zero. ``size`` returns how large the memory is (bytes), 0 before it exists.
    With ``from_guest`` the memory does not grow for what is allocated: room is taken over from the
    guest's malloc before.
    """

    def __init__(self, limit: int) -> None:
        self._ranges = RangeAllocator()
        self._limit = limit
        self.grow: Callable[[int], int | None] = lambda _pages: None
        self.zero: Callable[[int, int], None] = lambda _start, _size: None
        self.size: Callable[[], int] = lambda: 0
        self.from_guest = False
        self._grown: list[tuple[int, int]] = []
        self._taken_over: set[tuple[int, int]] = set()

    @property
    def used(self) -> int:
        """Bytes given out."""
        return self._ranges.used

    def allocate(
        self, size: int, alignment: int, grants: list[Grant], *, module: str, zero: bool = True
    ) -> int:
        """Return the address of ``size`` bytes at a multiple of ``alignment``; LimitError if there is no room.

        They are zero unless that does not matter: a stack, or what is written at once. The grant is
            added to ``grants``.
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
            fresh = self.reserve(
                size, module=module
            )  # begins at a page, which suits every alignment
            base = self._ranges.allocate(size, alignment, grants)
            assert base is not None
            dirty = max(
                0, min(size, fresh - base)
            )  # what the guest's memory has just grown by is zero
        if zero:
            self.zero(base, dirty)
        return base

    def make_room(
        self, wanted: Sequence[tuple[int, int]], *, memory_size: int, module: str
    ) -> None:
        """Grow the memory, of ``memory_size`` bytes now, so that all (size, alignment) that are ``wanted`` will fit.

        LimitError if the limit does not allow that; the memory has not grown then.
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
                f"{module}: no room for {missing} more bytes in a memory of {memory_size}; the limit is {self._limit}: "
                "raise Limits(memory=...)",
                module=module,
            )
        if missing:
            self.reserve(missing, module=module)

    def reserve(self, size: int, *, module: str) -> int:
        """Grow the memory by ``size`` (> 0) bytes or more for later use; returns where that begins.

        LimitError if it cannot.
        """
        start = self.grow_for(size, module=module)
        self.reuse(start, start + align_up(size, _PAGE))
        return start

    def grow_for(self, size: int, *, module: str) -> int:
        """Grow the memory by ``size`` (> 0) bytes, rounded up to pages, that are the caller's; returns where they begin."""
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
        """Take back memory that :meth:`grow_for` gave."""
        self._ranges.extend(start, stop)

    def reuse_page(self, pages: dict[LoadedModule, int], module: LoadedModule) -> None:
        """Take back the page of a module, which ``pages`` loses in the same step."""
        free = self._ranges.with_range(pages[module], pages[module] + _PAGE)
        self._ranges.free_ranges = free
        del pages[module]

    def missing(self, wanted: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return which of the (size, alignment) that are ``wanted`` do not fit, if they are allocated in this order."""
        ranges = self._ranges.copy()
        return [
            (size, alignment)
            for size, alignment in wanted
            if size and ranges.allocate(size, alignment) is None
        ]

    def take_over(self, start: int, stop: int) -> bool:
        """Take over memory of the guest's malloc; False if some of it is the allocator's already."""
        if any(first < stop and start < end for first, end in (*self._grown, *self._taken_over)):
            return False
        self._taken_over.add((start, stop))
        self._ranges.extend(start, stop)
        return True

    def hand_back(self, start: int, stop: int) -> bool:
        """Give up what :meth:`take_over` took; False if some of it is given out."""
        if not self._ranges.withdraw(start, stop):
            return False
        self._taken_over.remove((start, stop))
        return True


class SlotAllocator:
    """Slots of the function table.

    ``size`` is how large the table must be for all that was given out.
    """

    def __init__(self, limit: int) -> None:
        self._ranges = RangeAllocator()
        self._limit = limit
        self.size = 1  # slot 0 is the null pointer

    @property
    def used(self) -> int:
        """Slots given out."""
        return self._ranges.used

    def note_size(self, size: int) -> None:
        """Learn that the table has ``size`` slots: those the linker did not ask for belong to the guest."""
        self.size = max(self.size, size)

    def allocate(self, count: int, alignment: int, grants: list[Grant], *, module: str) -> int:
        """Return the first of ``count`` slots at a multiple of ``alignment``; LimitError if the table would be too large.

        The grant is added to ``grants``.
        """
        if not count:
            return 0
        base = self._ranges.allocate(count, alignment, grants)
        if base is None:
            start = align_up(self.size, alignment)
            if start + count > self._limit:
                raise LimitError(
                    f"{module}: {count} table slots more than the {self.size} in use; the limit is {self._limit}: raise Limits(table=...)",
                    module=module,
                )
            ranges = self._ranges
            if start == self.size and ranges.ends_before(start):
                grant = [Grant(ranges, start, count)]
                # Nothing is called from here on: `size` covers what was given out, whatever
                # interrupts this.
                self.size += count
                ranges.used += count
                grants += grant
                return start
            before, self.size = self.size, start + count  # first: nothing beyond it is ever free
            ranges.extend(before, start + count)
            base = ranges.allocate(count, alignment, grants)
            assert base is not None
        return base
