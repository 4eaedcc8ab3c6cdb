"""The log of operations, which is C's (``csrc/log.h``): what the numbers on the bus mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Generic, TypeAlias, TypeVar

from pylinker.native.shared import Shared

__all__ = ["OperationLog"]

Op = TypeVar("Op")

_LONG = 32
"""Operations in a log that is looked through for what may be erased."""

Redundant: TypeAlias = Callable[[Mapping[int, Op], Collection[int]], Iterable[int]]
"""Returns which operations of a log come to nothing for all groups, given the newest that each of them has replayed."""


class OperationLog(Generic[Op]):
    """Operations by number, from 1; None is one that was withdrawn, or erased.

    Appended to under the write lock, read under a read lock, and shortened at its old end once
    every group has replayed that far. Those that come to nothing, as ``redundant`` says, are
    erased.
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
        """Whether it has become long enough to be looked through."""
        return len(self) >= self._due

    def compact(self) -> None:
        """Erase what is redundant.

        Under the write lock, with nobody reading, and before the next operation is appended.
        """
        if self.redundant is not None:
            self._shared.erase(self.redundant(self._shared.operations, self._shared.applied))
        self._due = 2 * len(self) + _LONG
