"""The debug output, through ``logging`` in the manner of ``LD_DEBUG``: the loggers, and what they say of a search.

All of it is said at level DEBUG. What takes work to say is only looked for when somebody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

__all__ = ["BINDINGS", "LIBS", "STATS", "SYMBOLS", "tell_search"]

LIBS: Final = logging.getLogger("pylinker.libs")
"""Searches, and the life of modules: loaded, constructed, unloaded."""
SYMBOLS: Final = logging.getLogger("pylinker.symbols")
"""Every lookup of a symbol, module by module."""
BINDINGS: Final = logging.getLogger("pylinker.bindings")
"""Which definition each import got, at load and at first calls."""
STATS: Final = logging.getLogger("pylinker.stats")
"""What a program has come to when it is closed."""

_DEBUG = logging.DEBUG


def tell_search(
    name: str, requester: str | None, searched: Sequence[tuple[str, str, str]], found: str | None
) -> None:
    """Tell where a library was looked for: directory, rest of the path, and why it was not taken; and where it was found."""
    if not LIBS.isEnabledFor(_DEBUG):
        return
    LIBS.debug(
        "find library=%s%s; searching", name, f" [needed by {requester}]" if requester else ""
    )
    for directory, rest, reason in searched:
        LIBS.debug("  trying file=%s: %s", f"{directory}/{rest}" if directory else rest, reason)
    LIBS.debug("  %s", f"found file={found}" if found else "not found")
