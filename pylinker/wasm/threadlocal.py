"""Whether a module has thread-local data, by its exports or by its start function.

A library can have thread-local data without any export about it: then only its start function
tells, which sets ``__tls_base`` to the initial copy of the data (LLVM, ``wasm/Writer.cpp``,
``createInitMemoryFunction``). Such a function has few kinds of instructions, so they can be parsed;
any other instruction ends the search without a result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker.errors import ParseError
from pylinker.wasm.dylink import SymbolFlags
from pylinker.wasm.reader import Reader
from pylinker.wasm.types import Kind

if TYPE_CHECKING:
    from pylinker.wasm.module import ModuleInfo

__all__ = ["has_thread_locals"]

_GLOBAL_SET = 0x24
_NO_OPERAND = {0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x6A, 0x6B, 0x6C, 0x71, 0x72, 0x45, 0x46, 0x47}
_ONE_INDEX = {0x0C, 0x0D, 0x10, 0x20, 0x21, 0x22, 0x23}
_ATOMIC_FENCE = 0x03


def has_thread_locals(info: ModuleInfo) -> bool:
    """Whether a module has thread-local data, as far as exports and start function tell."""
    if info.dylink is not None and any(
        flags & SymbolFlags.TLS for flags in info.dylink.export_flags.values()
    ):
        return True
    size = info.exports.get("__tls_size")
    if size is not None and size.kind is Kind.GLOBAL:
        init = info.global_init(size.index)
        return bool(init is not None and init.evaluate(lambda _index: None))
    return info.start_body is not None and _sets_own_global(
        info.start_body, info.imported_count(Kind.GLOBAL)
    )


def _sets_own_global(body: bytes, imported: int) -> bool:
    """Whether the parsed instructions set a global that the module itself defines."""
    reader = Reader(body)
    try:
        for _ in range(reader.u32()):  # declarations of locals: how many, and their type
            reader.u32()
            reader.byte()
        while reader.remaining:
            opcode = reader.byte()
            if opcode == _GLOBAL_SET:
                if reader.u32() >= imported:
                    return True
            elif opcode in _ONE_INDEX:
                reader.u32()
            elif not _skip_operands(reader, opcode):
                return False
    except ParseError:
        return False
    return False


def _skip_operands(reader: Reader, opcode: int) -> bool:
    """Skip the operands of an instruction; False if start functions do not contain it."""
    if opcode in _NO_OPERAND:
        return True
    if opcode in (0x02, 0x03, 0x04):  # block, loop, if: a block type of one byte
        reader.byte()
    elif opcode == 0x0E:  # br_table
        for _ in range(reader.u32() + 1):
            reader.u32()
    elif opcode in (0x41, 0x42):  # i32.const, i64.const
        while reader.byte() & 0x80:
            pass
    elif 0x28 <= opcode <= 0x3E:  # loads and stores
        reader.u32()
        reader.u32()
    elif opcode == 0xFC:  # memory.init, data.drop, memory.copy, memory.fill
        kind = reader.u32()
        if kind not in (8, 9, 10, 11):
            return False
        for _ in range(1 if kind in (9, 11) else 2):
            reader.u32()
    elif opcode == 0xFE:  # atomic instructions
        if reader.u32() == _ATOMIC_FENCE:
            reader.byte()
        else:
            reader.u32()
            reader.u32()
    else:
        return False
    return True
