"""Support for children of ``fork()``, which have the memory of the parent and one thread.

A child continues with the engine of its parent. wasmtime compiles on threads that the child lacks,
so it compiles on the calling thread there, and the thread that advances the epoch is started again
(both in :mod:`pylinker.runtime.engine`); a program with threads is cancelled
(:mod:`pylinker.linker.groups.forked`). Locks of the process that a lost thread may have
held are free in the child: each protects a change by one step of the interpreter.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["free_in_child", "in_child", "is_child"]

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_renewed: list[int] = []  # process ids of this process and of its ancestors after the first


def in_child(function: Callable[[], None]) -> None:
    """Call ``function`` in every forked child, on its thread, in the order of registration."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def free_in_child(lock: Any) -> None:
    """Make a lock free in a child, whichever thread of the parent held it."""
    _locks.add(lock)


def is_child() -> bool:
    """Whether this process was forked from one that had imported this module."""
    return bool(_renewed)


def _renew() -> None:
    _renewed.append(os.getpid())
    for lock in list(_locks):
        lock._at_fork_reinit()


in_child(_renew)
