"""Memory orders, the results of waits, and timeouts (``csrc/flag.h``, ``csrc/rwlock.h``)."""

from __future__ import annotations

import math
from typing import Any

from pylinker.native.core import ffi, lib

__all__ = [
    "ACQUIRE",
    "ACQUIRED",
    "BUSY",
    "CANCELLED",
    "INTERRUPTED",
    "NOT_EQUAL",
    "POISONED",
    "RELAXED",
    "SEQ_CST",
    "SIGNALLED",
    "TIMEOUT",
    "WAIT_CANCELLED",
    "WOKEN",
    "nanoseconds",
    "new_cell",
]

RELAXED: int = lib.PL_RELAXED
ACQUIRE: int = lib.PL_ACQUIRE
SEQ_CST: int = lib.PL_SEQ_CST
ACQUIRED: int = lib.PL_ACQUIRED
BUSY: int = lib.PL_BUSY
SIGNALLED: int = lib.PL_SIGNALLED
POISONED: int = lib.PL_POISONED
TIMEOUT: int = lib.PL_TIMEOUT
CANCELLED: int = lib.PL_CANCELLED
WOKEN: int = lib.PL_WAITED_WOKEN
NOT_EQUAL: int = lib.PL_WAITED_NOT_EQUAL
INTERRUPTED: int = lib.PL_WAITED_INTERRUPTED
WAIT_CANCELLED: int = lib.PL_WAITED_CANCELLED


def new_cell() -> Any:
    """Return a cell of 32 bits, zero, for :meth:`Member.wait`."""
    return ffi.new("uint32_t *")


def nanoseconds(timeout: float | None) -> int:
    """Return seconds as C takes them: None and infinity (no timeout) are negative. ValueError for a negative number and for NaN."""
    if timeout is None or timeout == math.inf:
        return -1
    if not timeout >= 0:
        raise ValueError(f"timeout={timeout}: give seconds, or None for no timeout")
    return int(min(timeout * 1e9, 1 << 62))
