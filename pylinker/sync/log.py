"""The log of operations: what the numbers on the bus mean."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from pylinker import _native
from pylinker.errors import InternalError

__all__ = ["OperationLog"]

Op = TypeVar("Op")


class OperationLog(Generic[Op]):
    """Operations by number, from 1; None is one that was withdrawn.

    Appended to under the write lock, read under a read lock, and shortened at its old end once every group has replayed that far.
    ``native`` has those that the C core carries out: what an operation has as its own ``native``.
    """

    __slots__ = ("_first", "_operations", "native")

    def __init__(self) -> None:
        self._operations: deque[Op | None] = deque()
        self._first = 1
        self.native = _native.Log()

    def __len__(self) -> int:
        return len(self._operations)

    def append(self, operation: Op | None) -> int:
        """Add the next operation and return its number."""
        self.native.append(getattr(operation, "native", None))
        self._operations.append(operation)
        return self._first + len(self._operations) - 1

    def __getitem__(self, number: int) -> Op | None:
        index = number - self._first
        if not 0 <= index < len(self._operations):
            raise InternalError(f"operation {number} is not in the log, which has {self._first} to {self._first + len(self) - 1}")
        return self._operations[index]

    def forget(self, number: int) -> None:
        """Drop all operations up to ``number``."""
        while self._operations and self._first <= number:
            self._operations.popleft()
            self._first += 1
        self.native.forget(number)
