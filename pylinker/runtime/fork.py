"""What a child of ``fork()`` needs: it has the memory of its parent, and one thread of all.

A child goes on with the engine of its parent. wasmtime compiles on threads that the child lacks, so
it compiles on its own there (:mod:`pylinker.runtime.code`); the thread that moves the epoch is
started again (:mod:`pylinker.runtime.engine`); a program with threads is given up
(:mod:`pylinker.linker.groups.forked`). Locks of the process that a lost thread may have held are
free in the child: each guards what one step of the interpreter changes.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["free_in_child", "in_child", "is_child"]

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_renewed: list[int] = []  # process numbers, of this process and those between it and the first


def in_child(function: Callable[[], None]) -> None:
    """Call ``function`` in every child of a fork, on its thread, in the order in which they were given."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def free_in_child(lock: Any) -> None:
    """Let a lock be free in a child, whichever thread of the parent had it."""
    _locks.add(lock)


def is_child() -> bool:
    """Whether this process was forked from one that had imported this."""
    return bool(_renewed)


def _renew() -> None:
    _renewed.append(os.getpid())
    for lock in list(_locks):
        lock._at_fork_reinit()


in_child(_renew)
