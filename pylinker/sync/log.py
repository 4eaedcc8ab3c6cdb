"""The log of operations: what the numbers on the bus mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Generic, TypeAlias, TypeVar

from pylinker.errors import InternalError
from pylinker.native.replay import Log

__all__ = ["OperationLog"]

Op = TypeVar("Op")


_LONG = 32
"""Operations in a log that is looked through for what may be erased."""

Redundant: TypeAlias = Callable[[Mapping[int, Op], Collection[int]], Iterable[int]]
"""Answers which operations of a log come to nothing for all groups, given the newest that each of them has replayed."""


class OperationLog(Generic[Op]):
    """Operations by number, from 1; None is one that was withdrawn, or erased.

    Appended to under the write lock, read under a read lock, and shortened at its old end once every group has replayed that far. Those
    that come to nothing, as ``redundant`` says, are erased. ``native`` has those that the C core carries out: what an operation has as its
    own ``native``.
    """

    __slots__ = ("_due", "_first", "_operations", "native", "redundant")

    def __init__(self) -> None:
        self._operations: dict[int, Op] = {}  # by ascending numbers
        self._first = 1
        self._due = _LONG
        self.redundant: Redundant[Op] | None = None
        self.native = Log()

    def __len__(self) -> int:
        return len(self._operations)

    @property
    def _last(self) -> int:
        return self.native.last

    def append(self, operation: Op | None) -> int:
        """Add the next operation and return its number."""
        number = self._last + 1
        self.put(number, operation)
        return number

    def put(self, number: int, operation: Op | None) -> None:
        """Add the next operation, whose number is known; nothing to do if it is there already. InternalError for another number."""
        last = self._last
        if number != last + 1 and (number != last or self._operations.get(number) is not operation):
            raise InternalError(f"operation {number} has another number in the log, which ends with {last}")
        if operation is not None:
            self._operations[number] = operation
        if number > last and self.native.append(getattr(operation, "native", None)) != number:
            raise InternalError(f"operation {number} has another number in the core's log")

    def __getitem__(self, number: int) -> Op | None:
        if not self._first <= number <= self._last:
            raise InternalError(f"operation {number} is not in the log, which has {self._first} to {self._last}")
        return self._operations.get(number)

    def forget(self, number: int) -> None:
        """Drop all operations up to ``number``."""
        self._first = max(self._first, min(number, self._last) + 1)
        while self._operations and (oldest := next(iter(self._operations))) <= number:
            del self._operations[oldest]
        self.native.forget(number)

    def is_long(self) -> bool:
        """Whether it has become long enough to be looked through."""
        return len(self._operations) >= self._due

    def compact(self, applied: Collection[int]) -> None:
        """Erase what is redundant, given the newest operations that the groups have replayed. Under the write lock, with nobody reading."""
        if self.redundant is not None:
            for number in [*self.redundant(self._operations, applied)]:
                self.native.erase(number)
                del self._operations[number]
        self._due = 2 * len(self._operations) + _LONG
