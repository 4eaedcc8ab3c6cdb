"""Telling of long work while it is done: compiling a module is all that takes seconds here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

__all__ = ["Compiling", "Observer", "observing"]


class Compiling(NamedTuple):
    """A module of ``size`` bytes is about to be compiled, or has been (``done``), whether that succeeded or not."""

    name: str
    size: int
    done: bool


Observer: TypeAlias = Callable[[Compiling], object]
"""Called on the thread that compiles, before and after; what it raises comes out of the load."""


@contextmanager
def observing(observer: Observer | None, name: str, size: int) -> Iterator[None]:
    """Tell an observer, if there is one, of a compilation."""
    if observer is None:
        yield
        return
    observer(Compiling(name, size, done=False))
    try:
        yield
    finally:
        observer(Compiling(name, size, done=True))
