"""Ranges of an address space, given out and taken back: bytes of guest memory, slots of the function table.

An address space here only ever grows, and it has other users (the guest's ``malloc``, its own ``table.grow``): the allocator owns
exactly what it was told to own with :meth:`RangeAllocator.extend`.
"""

from __future__ import annotations

import bisect

from pylinker.errors import InternalError

__all__ = ["RangeAllocator", "align_up"]


def align_up(value: int, alignment: int) -> int:
    """Return the first multiple of ``alignment`` (any positive number) that is not below ``value``."""
    return -(-value // alignment) * alignment


class RangeAllocator:
    """First fit over a sorted list of free ranges; neighbours are merged when they come back.

    Attributes: ``used`` (units given out). Not thread-safe: the holder of the linker state's write lock uses it.
    """

    __slots__ = ("_free", "used")

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []
        self.used = 0

    def __repr__(self) -> str:
        return f"<RangeAllocator used={self.used} free={self.free}>"

    def copy(self) -> RangeAllocator:
        """Return an allocator of its own in the same state."""
        copy = RangeAllocator()
        copy._free = list(self._free)
        copy.used = self.used
        return copy

    @property
    def free(self) -> int:
        """Units owned and not given out."""
        return sum(stop - start for start, stop in self._free)

    def has_room(self, size: int) -> bool:
        """Whether ``size`` units fit side by side into the last free range, which is most often the largest."""
        if not self._free:
            return not size
        start, stop = self._free[-1]
        return stop - start >= size

    def extend(self, start: int, stop: int) -> None:
        """Take over the range ``[start, stop)``."""
        self._insert(start, stop)

    def withdraw(self, start: int, stop: int) -> bool:
        """Give up the range ``[start, stop)``; False if not all of it is free."""
        index = bisect.bisect_right(self._free, (start, stop)) - 1
        for place in (index, index + 1):
            if 0 <= place < len(self._free) and self._free[place][0] <= start and stop <= self._free[place][1]:
                first, end = self._free[place]
                self._free[place : place + 1] = [each for each in ((first, start), (stop, end)) if each[0] < each[1]]
                return True
        return False

    def grow(self, start: int, size: int) -> bool:
        """Take over ``[start, start + size)`` and give it out at once; False if there is something free right before it to begin with."""
        if self._free and self._free[-1][1] >= start:
            return False
        self.used += size
        return True

    def allocate(self, size: int, alignment: int) -> int | None:
        """Give out ``size`` (> 0) units at a multiple of ``alignment``, or None if no free range fits."""
        for index, (start, stop) in enumerate(self._free):
            if stop - start < size:
                continue  # most are what was left over beside something
            base = -(-start // alignment) * alignment
            if base + size <= stop:
                if base + size < stop:
                    self._free[index] = (base + size, stop)
                    if start < base:
                        self._free.insert(index, (start, base))
                elif start < base:
                    self._free[index] = (start, base)
                else:
                    del self._free[index]
                self.used += size
                return base
        return None

    def release(self, start: int, size: int) -> None:
        """Take back what :meth:`allocate` gave out."""
        self._insert(start, start + size)
        self.used -= size

    def _insert(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        index = bisect.bisect_left(self._free, (start, stop))
        before = self._free[index - 1] if index else None
        after = self._free[index] if index < len(self._free) else None
        if (before and before[1] > start) or (after and after[0] < stop):
            raise InternalError(f"range {start:#x}..{stop:#x} is free already")
        if before and before[1] == start:
            index -= 1
            start = before[0]
            del self._free[index]
        if after and after[0] == stop:
            stop = after[1]
            del self._free[index]
        self._free.insert(index, (start, stop))
