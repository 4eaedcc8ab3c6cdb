"""Allocation of ranges of an address space: bytes of guest memory, slots of the function table.

An address space here only ever grows, and it has other users (the guest's ``malloc``, its own
``table.grow``): the allocator owns exactly the ranges that :meth:`RangeAllocator.extend` added.
"""

from __future__ import annotations

import bisect
from typing import NamedTuple

from pylinker.errors import InternalError

__all__ = ["Grant", "RangeAllocator", "align_up", "release_all"]


class Grant(NamedTuple):
    """A range that was allocated."""

    allocator: RangeAllocator
    """Its allocator."""
    start: int
    """Its first unit."""
    size: int
    """Its number of units."""


def release_all(grants: list[Grant]) -> None:
    """Release all grants of a list, which is empty then; if interrupted, the list has the rest."""
    while grants:
        grants[-1].allocator.take_back(grants)


def align_up(value: int, alignment: int) -> int:
    """Return the first multiple of ``alignment`` (a positive number) that is at least ``value``."""
    return -(-value // alignment) * alignment


class RangeAllocator:
    """First fit over a sorted list of free ranges; adjacent ranges are merged on release.

    Each change is made at once: the new values are computed, and then stored by statements that
    call nothing. So an exception of a signal handler comes before a change or after it. An
    allocation is added to a list of the caller in the same step, if there is one.

    Threads: not thread-safe; the holder of the write lock of the linker state uses it.
    """

    free_ranges: list[tuple[int, int]]
    """Start and end of each free range, in order. Assign it, never mutate it."""
    used: int
    """The number of allocated units."""

    __slots__ = ("free_ranges", "used")

    def __init__(self) -> None:
        self.free_ranges = []
        self.used = 0

    def __repr__(self) -> str:
        return f"<RangeAllocator used={self.used} free={self.free}>"

    def copy(self) -> RangeAllocator:
        """Return an independent allocator in the same state."""
        copy = RangeAllocator()
        copy.free_ranges = list(self.free_ranges)
        copy.used = self.used
        return copy

    @property
    def free(self) -> int:
        """The number of units that are owned and not allocated."""
        return sum(stop - start for start, stop in self.free_ranges)

    def has_room(self, size: int) -> bool:
        """Whether ``size`` units fit into the last free range, which is usually the largest."""
        if not self.free_ranges:
            return not size
        start, stop = self.free_ranges[-1]
        return stop - start >= size

    def extend(self, start: int, stop: int) -> None:
        """Add the range ``[start, stop)``."""
        self.free_ranges = self.with_range(start, stop)

    def withdraw(self, start: int, stop: int) -> bool:
        """Remove the range ``[start, stop)``; False if some of it is allocated."""
        index = bisect.bisect_right(self.free_ranges, (start, stop)) - 1
        for place in (index, index + 1):
            if (
                0 <= place < len(self.free_ranges)
                and self.free_ranges[place][0] <= start
                and stop <= self.free_ranges[place][1]
            ):
                first, end = self.free_ranges[place]
                rest = [each for each in ((first, start), (stop, end)) if each[0] < each[1]]
                self.free_ranges = [
                    *self.free_ranges[:place],
                    *rest,
                    *self.free_ranges[place + 1 :],
                ]
                return True
        return False

    def ends_before(self, start: int) -> bool:
        """Whether nothing is free at ``start`` or right before it."""
        return not self.free_ranges or self.free_ranges[-1][1] < start

    def allocate(self, size: int, alignment: int, grants: list[Grant] | None = None) -> int | None:
        """Allocate ``size`` (> 0) units at a multiple of ``alignment``; None if none fits.

        The grant is added to ``grants``.
        """
        for index, (start, stop) in enumerate(self.free_ranges):
            if stop - start < size:
                continue  # most free ranges are small remainders
            base = -(-start // alignment) * alignment
            if base + size <= stop:
                rest = [each for each in ((start, base), (base + size, stop)) if each[0] < each[1]]
                free = [*self.free_ranges[:index], *rest, *self.free_ranges[index + 1 :]]
                grant = [] if grants is None else [Grant(self, base, size)]
                self.free_ranges = free
                self.used += size
                if grants is not None:
                    grants += grant
                return base
        return None

    def take_back(self, grants: list[Grant]) -> None:
        """Release the last of ``grants``, an allocation of :meth:`allocate`; the list loses it."""
        _, start, size = grants[-1]
        free = self.with_range(start, start + size)
        self.free_ranges = free
        self.used -= size
        del grants[-1]

    def with_range(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the free ranges with one more."""
        if start >= stop:
            return self.free_ranges
        index = bisect.bisect_left(self.free_ranges, (start, stop))
        before = self.free_ranges[index - 1] if index else None
        after = self.free_ranges[index] if index < len(self.free_ranges) else None
        if (before and before[1] > start) or (after and after[0] < stop):
            raise InternalError(f"range {start:#x}..{stop:#x} is free already")
        first, last = index, index
        if before and before[1] == start:
            first -= 1
            start = before[0]
        if after and after[0] == stop:
            last += 1
            stop = after[1]
        return [*self.free_ranges[:first], (start, stop), *self.free_ranges[last:]]
