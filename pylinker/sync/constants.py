"""Memory orders of a flag."""

from __future__ import annotations

import enum

from pylinker.native import enums

__all__ = ["Ordering"]


class Ordering(enum.IntEnum):
    """Memory order with which :meth:`LinkerShared.dl_operation_pending_load` loads the flag."""

    RELAXED = enums.RELAXED
    """May miss a change that was just made."""
    ACQUIRE = enums.ACQUIRE
    """Sees all writes before the change that it sees."""
    SEQ_CST = enums.SEQ_CST
    """For a thread that was woken because of a change."""
