"""The boundaries of the instructions of a function body.

The tables have only the operands of each opcode, no semantics. They cover the instructions of
wasm-tools, which are more than those of wasmtime: finished proposals, legacy exceptions, stack
switching, shared-everything-threads.

See https://webassembly.github.io/spec/core/binary/instructions.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from pylinker.wasm.reader import Reader

__all__ = ["Immediate", "instructions", "read_memory_immediate"]

_Operands: TypeAlias = str
"""The operands of an instruction, a letter each:

i  an integer: an index, a label, a constant
o  a memory ordering, also an integer
m  a memory immediate
t  a block type
h  a heap type
b  a byte
4  8  16 bytes are "4", "8" and "x": a float, a double, a vector
L  a vector of integers
V  a vector of value types
C  a vector of catch clauses (try_table)
R  a vector of handlers (resume)
"""

Immediate: TypeAlias = tuple[int, int, int]
"""A memory access: log2 of the alignment, index of the memory, static offset."""

_PREFIX_GC, _PREFIX_MISC, _PREFIX_SIMD, _PREFIX_ATOMIC = 0xFB, 0xFC, 0xFD, 0xFE
_SHARED, _EXACT, _REF_NULL, _REF = 0x65, 0x62, 0x63, 0x64  # in front of the rest of a type
# A flag in the alignment of a memory immediate: the index of the memory follows.
_EXPLICIT_MEMORY = 0x40


def _table(*rows: tuple[int, int, _Operands]) -> dict[int, _Operands]:
    """Return operands by opcode; rows are (first opcode, last opcode, operands)."""
    return {opcode: operands for first, last, operands in rows for opcode in range(first, last + 1)}


_PLAIN = _table(
    (0x00, 0x01, ""),  # unreachable, nop
    (0x02, 0x04, "t"),  # block, loop, if
    (0x05, 0x05, ""),  # else
    (0x06, 0x06, "t"),  # try
    (0x07, 0x09, "i"),  # catch, throw, rethrow
    (0x0A, 0x0B, ""),  # throw_ref, end
    (0x0C, 0x0D, "i"),  # br, br_if
    (0x0E, 0x0E, "Li"),  # br_table
    (0x0F, 0x0F, ""),  # return
    (0x10, 0x10, "i"),  # call
    (0x11, 0x11, "ii"),  # call_indirect
    (0x12, 0x12, "i"),  # return_call
    (0x13, 0x13, "ii"),  # return_call_indirect
    (0x14, 0x15, "i"),  # call_ref, return_call_ref
    (0x18, 0x18, "i"),  # delegate
    (0x19, 0x1B, ""),  # catch_all, drop, select
    (0x1C, 0x1C, "V"),  # select with types
    (0x1F, 0x1F, "tC"),  # try_table
    (0x20, 0x26, "i"),  # local.get to table.set
    (0x28, 0x3E, "m"),  # loads and stores
    (0x3F, 0x42, "i"),  # memory.size, memory.grow, i32.const, i64.const
    (0x43, 0x43, "4"),  # f32.const
    (0x44, 0x44, "8"),  # f64.const
    (0x45, 0xC4, ""),  # comparisons, arithmetic, conversions
    (0xD0, 0xD0, "h"),  # ref.null
    (0xD1, 0xD1, ""),  # ref.is_null
    (0xD2, 0xD2, "i"),  # ref.func
    (0xD3, 0xD4, ""),  # ref.eq, ref.as_non_null
    (0xD5, 0xD6, "i"),  # br_on_null, br_on_non_null
    (0xE0, 0xE0, "i"),  # cont.new
    (0xE1, 0xE1, "ii"),  # cont.bind
    (0xE2, 0xE2, "i"),  # suspend
    (0xE3, 0xE3, "iR"),  # resume
    (0xE4, 0xE4, "iiR"),  # resume_throw
    (0xE5, 0xE5, "iR"),  # resume_throw_ref
    (0xE6, 0xE6, "ii"),  # switch
)

_PREFIXED = {
    _PREFIX_GC: _table(
        (0x00, 0x01, "i"),  # struct.new, struct.new_default
        (0x02, 0x05, "ii"),  # struct.get to struct.set
        (0x06, 0x07, "i"),  # array.new, array.new_default
        (0x08, 0x0A, "ii"),  # array.new_fixed to array.new_elem
        (0x0B, 0x0E, "i"),  # array.get to array.set
        (0x0F, 0x0F, ""),  # array.len
        (0x10, 0x10, "i"),  # array.fill
        (0x11, 0x13, "ii"),  # array.copy, array.init_data, array.init_elem
        (0x14, 0x17, "h"),  # ref.test, ref.cast
        (0x18, 0x19, "bihh"),  # br_on_cast, br_on_cast_fail
        (0x1A, 0x1E, ""),  # conversions, i31
        (0x20, 0x21, "i"),  # struct.new_desc, struct.new_default_desc
        (0x22, 0x22, "i"),  # ref.get_desc
        (0x23, 0x24, "h"),  # ref.cast_desc_eq
        (0x25, 0x26, "bihh"),  # br_on_cast_desc_eq, br_on_cast_desc_eq_fail
    ),
    _PREFIX_MISC: _table(
        (0x00, 0x07, ""),  # saturating conversions
        (0x08, 0x08, "ii"),  # memory.init
        (0x09, 0x09, "i"),  # data.drop
        (0x0A, 0x0A, "ii"),  # memory.copy
        (0x0B, 0x0B, "i"),  # memory.fill
        (0x0C, 0x0C, "ii"),  # table.init
        (0x0D, 0x0D, "i"),  # elem.drop
        (0x0E, 0x0E, "ii"),  # table.copy
        (0x0F, 0x11, "i"),  # table.grow, table.size, table.fill
        (0x12, 0x12, "i"),  # memory.discard
        (0x13, 0x16, ""),  # 128-bit arithmetic
    ),
    _PREFIX_SIMD: _table(
        (0x00, 0x0B, "m"),  # loads and a store
        (0x0C, 0x0D, "x"),  # v128.const, i8x16.shuffle
        (0x0E, 0x14, ""),
        (0x15, 0x22, "b"),  # extract_lane, replace_lane
        (0x23, 0x53, ""),
        (0x54, 0x5B, "mb"),  # loads and stores of a lane
        (0x5C, 0x5D, "m"),  # loads with zeros
        (0x5E, 0x99, ""),
        (0x9B, 0xA1, ""),
        (0xA3, 0xA4, ""),
        (0xA7, 0xAE, ""),
        (0xB1, 0xB1, ""),
        (0xB5, 0xBA, ""),
        (0xBC, 0xC1, ""),
        (0xC3, 0xC4, ""),
        (0xC7, 0xCE, ""),
        (0xD1, 0xD1, ""),
        (0xD5, 0xE1, ""),
        (0xE3, 0xED, ""),
        (0xEF, 0x113, ""),  # from 0x100 on relaxed
    ),
    _PREFIX_ATOMIC: _table(
        (0x00, 0x02, "m"),  # memory.atomic.notify, memory.atomic.wait32, memory.atomic.wait64
        (0x03, 0x03, "b"),  # atomic.fence
        (0x10, 0x4E, "m"),  # loads, stores, read-modify-write
        (0x4F, 0x5B, "oi"),  # of globals and tables
        (0x5C, 0x66, "oii"),  # of structures
        (0x67, 0x71, "oi"),  # of arrays
        (0x72, 0x72, ""),  # ref.i31_shared
    ),
}


def instructions(body: Reader) -> Iterator[int]:
    """Yield the position in ``body.data`` of the opcode of each instruction of a function.

    They are in order. At each, ``body.position`` is the end of that instruction. Only lengths are
    checked: not the order, not the types, and not that the last one is ``end``.

    Args:
        body: Reads the body alone, from its declarations of locals on.

    Raises:
        ParseError: An instruction is unknown, or its operands are malformed or truncated.
    """
    for _ in range(body.count(2)):
        body.u32()
        _skip_value_type(body)
    data = body.data
    size = len(data)
    plain = _PLAIN_LIST
    skip = _SKIP
    while body.position < size:
        start = body.position
        body.position = start + 1
        operands = plain[data[start]]
        if operands is None:
            operands = _prefixed_operands(body, start)
        for kind in operands:
            skip[kind](body)
        yield start


def read_memory_immediate(reader: Reader) -> Immediate:
    """Return the operand of a load, a store or an atomic instruction.

    The default of the index is 0.
    """
    flags = reader.u32()
    memory = 0
    if flags & _EXPLICIT_MEMORY:
        flags -= _EXPLICIT_MEMORY
        memory = reader.u32()
    return flags, memory, reader.u64()


def _prefixed_operands(body: Reader, start: int) -> _Operands:
    """Return the operands of an instruction with a prefix byte."""
    opcode = body.data[start]
    group = _PREFIXED.get(opcode)
    if group is None:
        raise body.error(f"unknown instruction {opcode:#04x}", start)
    second = body.u32()
    operands = group.get(second)
    if operands is None:
        raise body.error(f"unknown instruction {opcode:#04x} {second:#x}", start)
    return operands


def _skip_integer(body: Reader) -> None:
    """Skip an integer of any kind and size.

    One that is too long for its kind is refused by the engine.
    """
    data = body.data
    position = body.position
    try:
        while data[position] > 0x7F:
            position += 1
    except IndexError:
        raise body.error("unexpected end inside an integer") from None
    body.position = position + 1


def _skip_heap_type(body: Reader) -> None:
    if not body.skip_if(_EXACT):
        body.skip_if(_SHARED)
    _skip_integer(body)


def _skip_value_type(body: Reader) -> None:
    if body.skip_if(_REF_NULL) or body.skip_if(_REF):
        _skip_heap_type(body)
    else:
        body.skip_if(_SHARED)
        _skip_integer(body)  # also the index of a type, which a block type can be


def _skip_integers(body: Reader) -> None:
    for _ in range(body.count()):
        _skip_integer(body)


def _skip_value_types(body: Reader) -> None:
    for _ in range(body.count()):
        _skip_value_type(body)


def _skip_catches(body: Reader) -> None:
    for _ in range(body.count(2)):
        kind = body.byte()  # catch, catch_ref; catch_all, catch_all_ref
        if kind > 3:
            raise body.error(f"unknown kind {kind:#x} of a catch clause", body.position - 1)
        if kind < 2:
            _skip_integer(body)  # tag
        _skip_integer(body)  # label


def _skip_handlers(body: Reader) -> None:
    for _ in range(body.count(2)):
        kind = body.byte()  # on a tag, to a label or to switch
        if kind > 1:
            raise body.error(f"unknown kind {kind:#x} of a handler", body.position - 1)
        _skip_integer(body)  # tag
        if kind == 0:
            _skip_integer(body)  # label


_SKIP: dict[str, Callable[[Reader], object]] = {
    "i": _skip_integer,
    "o": _skip_integer,
    "m": read_memory_immediate,
    "t": _skip_value_type,
    "h": _skip_heap_type,
    "b": Reader.byte,
    "4": lambda body: body.take(4),
    "8": lambda body: body.take(8),
    "x": lambda body: body.take(16),
    "L": _skip_integers,
    "V": _skip_value_types,
    "C": _skip_catches,
    "R": _skip_handlers,
}
_PLAIN_LIST: list[_Operands | None] = [_PLAIN.get(opcode) for opcode in range(256)]
