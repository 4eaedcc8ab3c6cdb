"""How a flag is loaded."""

from __future__ import annotations

import enum

from pylinker.native import enums

__all__ = ["Ordering"]


class Ordering(enum.IntEnum):
    """How :meth:`LinkerShared.dl_operation_pending_load` loads the flag.

    A RELAXED load may miss a change that was just made; ACQUIRE sees what was written before the
    change that it sees; SEQ_CST is for a thread that was woken up because of a change.
    """

    RELAXED = enums.RELAXED
    ACQUIRE = enums.ACQUIRE
    SEQ_CST = enums.SEQ_CST
