"""What happens to wasmtime's objects when the interpreter ends.

wasmtime-py frees them in ``__del__``, which at that time may find its own module torn down and
prints a traceback nobody can act on. So whatever still lives then is left to the operating system,
like all other memory of the process.
"""

from __future__ import annotations

import atexit
import weakref
from typing import Any

from pylinker.runtime.private import disown

__all__ = ["outlives_interpreter"]

_alive: weakref.WeakSet[Any] = weakref.WeakSet()


def outlives_interpreter(managed: Any) -> None:
    """Remember an object of wasmtime-py that is not to be freed once the interpreter is ending."""
    _alive.add(managed)


@atexit.register
def _abandon() -> None:
    for managed in list(_alive):
        disown(managed)
