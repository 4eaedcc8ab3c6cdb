"""wasmtime's objects at the end of the interpreter.

wasmtime-py frees them in ``__del__``, which at that time may find its own module torn down and
prints a traceback. So objects that still live then are left to the operating system, like all other
memory of the process.
"""

from __future__ import annotations

import atexit
import weakref
from typing import Any

from pylinker.runtime.private import disown

__all__ = ["outlives_interpreter"]

_alive: weakref.WeakSet[Any] = weakref.WeakSet()


def outlives_interpreter(managed: Any) -> None:
    """Register an object of wasmtime-py that must not be freed at the end of the interpreter."""
    _alive.add(managed)


@atexit.register
def _abandon() -> None:
    for managed in list(_alive):
        disown(managed)
