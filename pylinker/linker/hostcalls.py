"""Functions that the linker gives to guests, written in Python: how one finds its module, its linker and its arguments."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Final

from pylinker.errors import InternalError
from pylinker.sync.reentry import begin_operation, end_operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylinker.linker.linker import Linker
    from pylinker.linker.module import LoadedModule
    from pylinker.native.objects import Values

__all__ = ["HostFunctions", "HostTable", "i32", "u32"]


class HostFunctions:
    """A family of functions, each a method ``_name(caller, raw)``.

    The linker owns this object and is known here only weakly: host functions outlive nothing.
    """

    def __init__(self, linker: Linker) -> None:
        self._linker = weakref.ref(linker)

    @property
    def linker(self) -> Linker:
        """The linker these functions belong to."""
        linker = self._linker()
        if linker is None:
            raise InternalError("a guest runs without its linker")
        return linker


class HostTable:
    """The functions of several families, by the names of their HostCalls."""

    def __init__(self, *families: HostFunctions) -> None:
        self._families = families

    def function_for(self, module: LoadedModule | None, name: str) -> Callable[[Values], None]:
        """Return the function that ``module`` gets for the HostCall ``name`` (or ``resolve``, for its trampolines).

        Each module that imports one gets a function of its own, since the result depends on the caller. The function behind a pointer
        is the same for all modules (None): its caller is not known.
        """
        attribute = f"_{name.strip('_').translate(_AS_METHOD)}"
        method: Callable[[LoadedModule | None, Values], None]
        method = next(getattr(each, attribute) for each in self._families if hasattr(each, attribute))
        if name not in _UNLOCKED and name not in _GUARDED:
            method = functools.partial(_operate, method, name)
        if module is None:
            return functools.partial(method, None)
        known = weakref.ref(module)

        def call(raw: Values) -> None:
            caller = known()
            if caller is None:
                raise InternalError(f"{name} was called by a module that is gone")
            method(caller, raw)

        return call


_UNLOCKED: Final = frozenset(
    {"safepoint", "wasix.clock_time_set", "wasix.thread_exit", "wasix.thread_join", "wasix.thread_parallelism", "wasix.thread_signal"}
)
"""HostCalls that are no operations of the linker."""

_GUARDED: Final = frozenset({"dlopen", "dlsym", "dlclose"})
"""Those that begin an operation themselves, and tell the guest what was refused."""


def _operate(method: Callable[[LoadedModule | None, Values], None], name: str, caller: LoadedModule | None, raw: Values) -> None:
    """Call a method as an operation. A guest has not asked for ``resolve``, which is refused only where it would wait for itself."""
    begun = begin_operation(check=name != "resolve")
    try:
        method(caller, raw)
    finally:
        end_operation(begun)


_AS_METHOD = str.maketrans("-.", "__")


def u32(value: int) -> int:
    """The unsigned value of 32 bits."""
    return value & 0xFFFFFFFF


def i32(value: int) -> int:
    """The signed value of 32 bits."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
