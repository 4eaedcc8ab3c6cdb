"""The log of operations, by their numbers on the bus (``csrc/log.h``)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Generic, TypeAlias, TypeVar

from pylinker.native.shared import Shared

__all__ = ["OperationLog"]

Op = TypeVar("Op")

_LONG = 32
"""Length at which a log is compacted."""

Redundant: TypeAlias = Callable[[Mapping[int, Op], Collection[int]], Iterable[int]]
"""Returns the redundant operations of a log, given the newest that each group has replayed."""


class OperationLog(Generic[Op]):
    """Operations by number, from 1; None is one that was withdrawn or erased.

    Appended to under the write lock, read under a read lock, and truncated at its old end once
    every group has replayed that far. Operations that ``redundant`` returns are erased.
    """

    __slots__ = ("_due", "_shared", "redundant")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._due = _LONG
        self.redundant: Redundant[Op] | None = None

    def __len__(self) -> int:
        return self._shared.operation_count

    def __getitem__(self, number: int) -> Op | None:
        operation: Op | None = self._shared.operation(number)
        return operation

    def is_long(self) -> bool:
        """Whether it is long enough to be compacted."""
        return len(self) >= self._due

    def compact(self) -> None:
        """Erase redundant operations.

        Requires the write lock, no readers, and that the next operation is not yet appended.
        """
        if self.redundant is not None:
            self._shared.erase(self.redundant(self._shared.operations, self._shared.applied))
        self._due = 2 * len(self) + _LONG
