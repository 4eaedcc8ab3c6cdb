"""Loggers of the debug output, which resembles that of ``LD_DEBUG``, and the log of a search.

All messages have level DEBUG. Those that are expensive to compute are computed only if the logger
is enabled.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

__all__ = ["BINDINGS", "LIBS", "STATS", "SYMBOLS", "log_search"]

LIBS: Final = logging.getLogger("pylinker.libs")
"""Searches, and the life of modules: loaded, constructed, unloaded."""
SYMBOLS: Final = logging.getLogger("pylinker.symbols")
"""Every lookup of a symbol, module by module."""
BINDINGS: Final = logging.getLogger("pylinker.bindings")
"""The definition that each import was bound to, at load and at first calls."""
STATS: Final = logging.getLogger("pylinker.stats")
"""The statistics of a program at its close."""

_DEBUG = logging.DEBUG


def log_search(
    name: str, requester: str | None, searched: Sequence[tuple[str, str, str]], found: str | None
) -> None:
    """Log a search for a library.

    Args:
        name: The library.
        requester: The module that needs it.
        searched: The failed attempts: directory, rest of the path, and reason.
        found: The path of the file, None if it was not found.
    """
    if not LIBS.isEnabledFor(_DEBUG):
        return
    LIBS.debug(
        "find library=%s%s; searching", name, f" [needed by {requester}]" if requester else ""
    )
    for directory, rest, reason in searched:
        LIBS.debug("  trying file=%s: %s", f"{directory}/{rest}" if directory else rest, reason)
    LIBS.debug("  %s", f"found file={found}" if found else "not found")
