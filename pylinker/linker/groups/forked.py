"""Programs in a child of ``fork()``.

A program whose threads are all gone but for the calling one goes on. One that another thread of the
parent was in, or had threads, cannot: its locks, its rendezvous and its memory are as those left
them. It is given up: every use raises SynchronizationAborted, and nothing of it is freed, as
freeing takes locks that will never be released.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Protocol

from pylinker.runtime.fork import in_child

__all__ = ["watch"]


class _Watched(Protocol):
    """A linker."""

    def is_left_behind(self) -> bool:
        """Whether it cannot go on in a child."""

    def leave_behind(self) -> None:
        """Give it up."""


_linkers: weakref.WeakSet[_Watched] = weakref.WeakSet()


def watch(linker: _Watched) -> None:
    """Give a linker up in a child of this process, if it cannot go on there."""
    _linkers.add(linker)


def _give_up() -> None:
    for linker in list(_linkers):
        if linker.is_left_behind():
            linker.leave_behind()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(linker))  # for ever


in_child(_give_up)
