"""Timeouts, and cells to wait on (``csrc/futex.h``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pylinker.native.core import ffi

if TYPE_CHECKING:
    from pylinker._core import Pointer

__all__ = ["nanoseconds", "new_cell"]


def new_cell() -> Pointer[int]:
    """Return a cell of 32 bits, zero, for :meth:`Member.wait`."""
    return ffi.new("uint32_t *")


def nanoseconds(timeout: float | None) -> int:
    """Return a timeout in nanoseconds as C takes it; negative for None and infinity (no timeout).

    Raises:
        ValueError: ``timeout`` is negative or NaN.
    """
    if timeout is None or timeout == math.inf:
        return -1
    if not timeout >= 0:
        raise ValueError(f"timeout={timeout}: give seconds, or None for no timeout")
    return int(min(timeout * 1e9, 1 << 62))
