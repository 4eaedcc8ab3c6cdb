"""How a flag is loaded, and why a linker was given up."""

from __future__ import annotations

import enum

from pylinker.native import shared, waits

__all__ = ["Cause", "Ordering"]


class Ordering(enum.IntEnum):
    """How :meth:`LinkerShared.dl_operation_pending_load` loads the flag.

    A RELAXED load may miss a change that was just made; ACQUIRE sees what was written before the change that it sees; SEQ_CST is for a
    thread that was woken up because of a change.
    """

    RELAXED = waits.RELAXED
    ACQUIRE = waits.ACQUIRE
    SEQ_CST = waits.SEQ_CST


class Cause(enum.IntEnum):
    """Why a linker was given up: what :meth:`LinkerShared.cancel` is told, and ``LinkerShared.cause`` says."""

    CLOSED = shared.CAUSE_CLOSED
    """The program has ended."""
    LEADER = shared.CAUSE_LEADER
    """A leader failed while the others waited for its operation."""
    REPLAY = shared.CAUSE_REPLAY
    """A group could not replay an operation."""
    BUS = shared.CAUSE_BUS
    """The protocol was broken."""
    INTERRUPTED = shared.CAUSE_INTERRUPTED
    """A signal handler raised in a wait that lasted."""
    FORKED = shared.CAUSE_FORKED
    """Its threads are in the parent of this process."""
