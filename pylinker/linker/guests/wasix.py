"""The functions of the import module ``wasix_32v1`` that are supported, and the error numbers.

There are three kinds. pylinker implements the linker calls, threads and closures itself
(:mod:`pylinker.linker.calls`, and the core). WASI preview 1 implements the functions that it has
under the same name and with the same type. All others return ``NOTSUP``; :func:`unserved` lists
them.

Error numbers and meanings are those that WASIX programs see under Wasmer, except for its bugs: see
docs/wasix.md.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from pylinker.linker.guests.table import (
    WASIX,
    core_call,
    function_named,
    host_type,
    key_of,
    wasi_call,
)
from pylinker.linker.modules.module import HostCall, WasiCall
from pylinker.native.enums import AtomicsKind, BuiltinIndex
from pylinker.wasm import WASI_PREVIEW1, FuncType

if TYPE_CHECKING:
    from pylinker.linker.modules.module import ImportSource
    from pylinker.wasm import ModuleInfo

__all__ = ["UNSUPPORTED", "WASIX", "Errno", "import_source", "starts_threads", "unserved"]

UNSUPPORTED: Final = key_of(WASIX, "unsupported")
"""The HostCall that returns ``NOTSUP``, for any type."""


class Errno(enum.IntEnum):
    """The error numbers of WASIX that are used here."""

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


core_call(WASIX, "thread_id", "i->i", BuiltinIndex.THREAD_ID)
core_call(WASIX, "proc_id", "i->i", BuiltinIndex.PROC_ID)
core_call(WASIX, "thread_sleep", "l->i", AtomicsKind.SLEEP)
core_call(WASIX, "futex_wait", "iiii->i", AtomicsKind.FUTEX_WAIT)
core_call(WASIX, "futex_wake", "ii->i", AtomicsKind.FUTEX_WAKE)
core_call(WASIX, "futex_wake_all", "ii->i", AtomicsKind.FUTEX_WAKE_ALL)
core_call(WASIX, "unsupported", "->", BuiltinIndex.UNSUPPORTED, importable=False)
wasi_call(WASIX, "proc_exit2", "i->", "proc_exit")


def import_source(name: str, type_: FuncType) -> ImportSource | None:
    """Return the import source of a function of ``wasix_32v1``, or None if it is not supported.

    The type is checked for functions of WASI preview 1; the caller has checked the others.
    """
    if host_type(WASIX, name) is not None:
        function = function_named(key_of(WASIX, name))
        return (
            HostCall(function.key, function.type)
            if function.wasi is None
            else WasiCall(function.wasi)
        )
    return WasiCall(name) if WASI_PREVIEW1.get(name) == type_ else None


def unserved(info: ModuleInfo) -> list[str]:
    """Return the imports of a module from ``wasix_32v1`` that return ``NOTSUP``, in order."""
    return [
        each.name
        for each in info.imports
        if each.module == WASIX
        and isinstance(each.type, FuncType)
        and import_source(each.name, each.type) is None
    ]


def starts_threads(info: ModuleInfo) -> bool:
    """Whether a main module starts threads: it imports a function for that, and a shared memory."""
    if not any(each.limits.shared for each in info.imported_memories):
        return False
    starters = {("wasi", "thread-spawn"), (WASIX, "thread_spawn_v2")}
    return any((each.module, each.name) in starters for each in info.imports)
