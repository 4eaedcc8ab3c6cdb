"""Stack, data and heap of a program at fixed addresses, under the names of ``wasm-ld``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pylinker.runtime.outline import HEAP
from pylinker.wasm import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pylinker.wasm import ModuleInfo

__all__ = [
    "LAYOUT",
    "constant_global",
    "initial_memory",
    "program_layout",
    "sharing",
    "sharing_note",
]

LAYOUT: Final = frozenset({*HEAP, "__data_end", "__global_base", "__stack_high", "__stack_low"})
"""Data symbols that the linker defines for a position-independent program; no module does."""

_PAGE = 1 << 16


def sharing(shared: bool) -> str:  # noqa: FBT001
    """Return the sort of a memory, for a message."""
    return "a shared memory" if shared else "a memory that is not shared"


def sharing_note(module: str, *, shared: bool) -> str:
    """Return advice for a module whose memory is shared and the program's is not, or vice versa."""
    if shared:
        return (
            f"{module} is built for threads: give threads=True, and a main module with a shared "
            "memory if there is one"
        )
    return (
        f"{module} is built for one thread: compile with -matomics -mbulk-memory -pthread, "
        "link with --shared-memory --import-memory --max-memory=N"
    )


def initial_memory(info: ModuleInfo) -> int | None:
    """Return the initial memory size of a module in bytes, or None if it has no memory."""
    memories = (*info.imported_memories, *info.memories)
    return memories[0].limits.minimum * _PAGE if memories else None


def constant_global(info: ModuleInfo, name: str) -> int | None:
    """Return the initial value of an exported i32 global.

    None if it is no such global or its value is not in the file.
    """
    export = info.exports.get(name)
    if export is None or export.kind is not Kind.GLOBAL:
        return None
    init = info.global_init(export.index)
    return init.evaluate(lambda _index: None) if init is not None and init.bits == 32 else None


def program_layout(info: ModuleInfo) -> Mapping[str, int]:
    """Return the addresses of :data:`LAYOUT` that a program at fixed addresses exports or implies.

    ``wasm-ld`` puts the stack before the data (``--stack-first``) or between data and heap. Data
    that is zero at the start is not in the file, so only an export tells where the data ends.
    """
    found = {name: value for name in LAYOUT if (value := constant_global(info, name)) is not None}
    size = initial_memory(info)
    if size is not None:
        found.setdefault("__heap_end", size)
    stack_high, data = constant_global(info, "__stack_pointer"), info.data_range
    if data is not None:
        found.setdefault("__global_base", data[0])
    if stack_high is not None:
        found.setdefault("__stack_high", stack_high)
        if data is not None and data[0] >= stack_high:
            found.setdefault("__stack_low", 0)
        elif data is not None and data[1] <= stack_high:
            found.setdefault("__heap_base", stack_high)
    return found
