"""The paths of the benchmarks and their guests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

__all__ = ["BrokenRunError", "find_benchmarks", "guests"]


class BrokenRunError(RuntimeError):
    """The benchmarks could not be run completely."""


def find_benchmarks() -> Path:
    """Return the directory of the installed benchmarks, without importing them.

    Raises:
        BrokenRunError: This installation has none.
    """
    found = importlib.util.find_spec("pylinker.benchmarks")
    if found is None or not found.submodule_search_locations:
        raise BrokenRunError("this installation of pylinker has no benchmarks")
    return Path(next(iter(found.submodule_search_locations)))


def guests() -> Path:
    """Return the directory of the guest libraries. Raises BrokenRunError."""
    return find_benchmarks() / "guest"
