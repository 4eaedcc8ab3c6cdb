"""Memory orders, the results of waits, timeouts and the pauses between attempts (``csrc/await.h``, ``csrc/backoff.h``)."""

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
    "Backoff",
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


class Backoff:
    """The pauses of ``csrc/backoff.h``; one thread's."""

    __slots__ = ("_record",)

    def __init__(self) -> None:
        self._record = ffi.new("pl_backoff *")

    @property
    def pauses(self) -> int:
        """Pauses taken."""
        return int(self._record.pauses)

    @property
    def next_sleep(self) -> float | None:
        """Seconds of the next pause, 0.0 for a yield, None for a spin."""
        kind = lib.pl_backoff_kind(self._record.pauses)
        return None if kind == 0 else max(kind, 0) / 1e9

    def pause(self) -> None:
        """Take the next pause."""
        lib.pl_backoff_pause(self._record)

    def reset(self) -> None:
        """Forget the pauses taken."""
        self._record.pauses = 0


def nanoseconds(timeout: float | None) -> int:
    """Return seconds as C takes them: None and infinity (no timeout) are negative. ValueError for a negative number and for NaN."""
    if timeout is None or timeout == math.inf:
        return -1
    if not timeout >= 0:
        raise ValueError(f"timeout={timeout}: give seconds, or None for no timeout")
    return int(min(timeout * 1e9, 1 << 62))
