"""The cache directory of pylinker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["VARIABLE", "cache_directory"]

VARIABLE = "PYLINKER_CACHE"
"""The environment variable that names another directory."""


def cache_directory() -> Path | None:
    """Return the cache directory.

    It is ``PYLINKER_CACHE``, else ``pylinker`` in the user's cache directory. None if
    ``PYLINKER_CACHE`` is empty, and for a user without a home directory.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") if sys.platform != "darwin" else None
    if not base:
        home = os.path.expanduser("~")  # not Path.home(): RuntimeError where there is none
        if not os.path.isabs(home) or os.environ.get("HOME") == "":
            return None
        base = f"{home}/Library/Caches" if sys.platform == "darwin" else f"{home}/.cache"
    return Path(base) / "pylinker"
