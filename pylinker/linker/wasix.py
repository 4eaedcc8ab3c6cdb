"""What of WASIX there is: the functions of the import module ``wasix_32v1``, and the numbers they answer.

Three kinds. The linker calls, threads and closures are served by pylinker itself (:mod:`pylinker.linker.wasix_libraries`,
:mod:`pylinker.linker.wasix_threads`, :mod:`pylinker.linker.wasix_closures`, and the core). What WASI preview 1 has under the same name and
with the same type is served by preview 1. Anything else answers ``NOTSUP``; :func:`unserved` lists it.

Error numbers and meanings are those that WASIX programs see under Wasmer, but for its slips: see docs/wasix.md.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from pylinker.linker.module import HostCall, WasiCall
from pylinker.runtime.outline import WASIX
from pylinker.wasm import WASI_PREVIEW1, FuncType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pylinker.linker.module import ImportSource
    from pylinker.wasm import ModuleInfo

__all__ = ["PROVIDED", "UNSUPPORTED", "WASIX", "Errno", "source_of", "unserved", "wants_threads"]

UNSUPPORTED: Final = "wasix.unsupported"
"""The HostCall that answers ``NOTSUP``, whatever its type."""


class Errno(enum.IntEnum):
    """The error numbers of WASIX, as far as they are answered here."""

    SUCCESS = 0
    AGAIN = 6
    INVAL = 28
    NOEXEC = 45
    NOMEM = 48
    NOTSUP = 58
    OVERFLOW = 61
    NOTCAPABLE = 76
    MEMVIOLATION = 78
    UNKNOWN = 79


def _table(lines: str) -> dict[str, FuncType]:
    """Read lines of a name and its parameters, i for i32 and l for i64. All answer an error number but those with a dash."""
    letters = {"i": "i32", "l": "i64"}
    functions = {}
    for line in lines.strip().splitlines():
        name, params, *silent = line.split()
        functions[name] = FuncType(tuple([letters[each] for each in params]), () if silent else ("i32",))
    return functions


PROVIDED: Mapping[str, FuncType] = _table(
    """
dlopen iiiiiiii
dlsym iiiiii
dl_invalid_handle i
dlclose iii
closure_allocate i
closure_prepare iiiiiii
closure_free i
call_dynamic iiiiii
reflect_signature iiiiii
thread_spawn_v2 ii
thread_exit i -
thread_join i
thread_id i
thread_parallelism i
thread_sleep l
thread_signal ii
callback_signal ii -
futex_wait iiii
futex_wake ii
futex_wake_all ii
clock_time_set il
proc_exit2 i -
proc_id i
"""
)
"""The functions that pylinker serves itself, by name."""


def source_of(name: str, type_: FuncType) -> ImportSource | None:
    """Return what an import of ``wasix_32v1`` comes from, its type being right, or None if nobody serves it."""
    if name == "proc_exit2":
        return WasiCall("proc_exit")
    if name in PROVIDED:
        return HostCall(f"wasix.{name}", PROVIDED[name])
    return WasiCall(name) if WASI_PREVIEW1.get(name) == type_ else None


def unserved(info: ModuleInfo) -> list[str]:
    """Return the functions that a module imports from ``wasix_32v1`` and that answer ``NOTSUP``, in the order of its imports."""
    return [
        each.name
        for each in info.imports
        if each.module == WASIX and isinstance(each.type, FuncType) and source_of(each.name, each.type) is None
    ]


def wants_threads(info: ModuleInfo) -> bool:
    """Whether a main module starts threads: it imports a function for that, and a memory they can share."""
    if not any(each.limits.shared for each in info.imported_memories):
        return False
    starters = {("wasi", "thread-spawn"), (WASIX, "thread_spawn_v2")}
    return any((each.module, each.name) in starters for each in info.imports)
