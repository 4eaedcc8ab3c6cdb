"""Notification of long work: only compilation takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

__all__ = ["Compiling", "Observer", "observing"]


class Compiling(NamedTuple):
    """A compilation is about to start, or has finished, successfully or not."""

    name: str
    """Name of the module."""
    size: int
    """Its size in bytes."""
    done: bool
    """Whether the compilation has finished."""


Observer: TypeAlias = Callable[[Compiling], object]
"""Called on the compiling thread, before and after; an exception propagates from the load."""


@contextmanager
def observing(observer: Observer | None, name: str, size: int) -> Iterator[None]:
    """Notify an observer, if there is one, of a compilation."""
    if observer is None:
        yield
        return
    observer(Compiling(name, size, done=False))
    try:
        yield
    finally:
        observer(Compiling(name, size, done=True))
