"""Programs in a child of ``fork()``.

A program can continue if the forking thread is its only thread. A program that another thread of
the parent was using, or that had threads, cannot: its locks, its rendezvous and its memory are in
the state that those threads left. It is cancelled: every use raises SynchronizationAborted, and
nothing of it is freed, as that would take locks that are never released.
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
        """Whether it cannot continue in a child."""

    def leave_behind(self) -> None:
        """Cancel it."""


_linkers: weakref.WeakSet[_Watched] = weakref.WeakSet()


def watch(linker: _Watched) -> None:
    """Cancel a linker in a child of this process, if it cannot continue there."""
    _linkers.add(linker)


def _cancel_all() -> None:
    for linker in list(_linkers):
        if linker.is_left_behind():
            linker.leave_behind()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(linker))  # never freed


in_child(_cancel_all)
