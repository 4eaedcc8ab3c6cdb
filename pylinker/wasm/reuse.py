"""Whether instances of a module may be pooled (``csrc/pool.h``): their changes can be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker.errors import ParseError
from pylinker.wasm.instructions import instructions
from pylinker.wasm.reader import Reader
from pylinker.wasm.threadlocal import has_thread_locals
from pylinker.wasm.types import GlobalType, Kind

if TYPE_CHECKING:
    from pylinker.wasm.module import ModuleInfo

__all__ = ["is_reusable"]

_GLOBAL_GET = 0x23
_PLAIN = frozenset(
    {0x02, 0x0B, 0x0C, 0x0D, 0x0E, 0x1A, 0x20, 0x21, 0x22, _GLOBAL_GET, 0x41, 0x42, 0x6A}
)
"""Blocks and jumps, locals, constants, addition."""
_SECOND = {
    0xFC: (b"\x08", b"\x09", b"\x0b"),  # memory.init, data.drop, memory.fill
    0xFE: (
        b"\x00",
        b"\x01",
        b"\x17",
        b"\x48",
    ),  # memory.atomic.notify, .wait32, i32.atomic.store, .rmw.cmpxchg
}


def is_reusable(info: ModuleInfo) -> bool:
    """Whether all changes that instances of a library make can be undone.

    That is so for libraries that wasm-ld makes with ``-shared``. It is not for one with mutable
    globals, tables or memories of its own, with thread-local data, with code that may drop
    segments, or with a start function that does more than initialise its memory.
    """
    if info.dylink is None or info.memories or info.tables or info.may_drop_segments:
        return False
    if "__wasix_init_tls" in info.exports or has_thread_locals(info):
        return False
    tls_base = info.exports.get("__tls_base")  # unused without thread-local data
    unused = tls_base.index if tls_base is not None and tls_base.kind is Kind.GLOBAL else -1
    imported = info.imported_count(Kind.GLOBAL)
    if any(
        each.mutable and index != unused
        for index, each in enumerate(info.spaces[3][imported:], imported)
    ):
        return False
    return info.start is None or _only_fills_memory(info, imported)


def _only_fills_memory(info: ModuleInfo, imported: int) -> bool:
    """Whether the start function need not run again if the memory has its initial contents.

    wasm-ld calls such a function ``__wasm_init_memory``: it calls no function, and depends on
    nothing but the addresses of the module.
    """
    body = info.start_body
    if body is None:
        return False
    bases = [type_ == GlobalType("i32", mutable=False) for type_ in info.spaces[3][:imported]]
    reader = Reader(body)
    try:
        for start in instructions(reader):
            opcode, operand = body[start], body[start + 1 : reader.position]
            if opcode == _GLOBAL_GET:
                index = Reader(operand).u32()
                if index >= imported or not bases[index]:
                    return False
            elif opcode not in _PLAIN and operand[:1] not in _SECOND.get(opcode, ()):
                return False
    except ParseError:
        return False
    return True
