"""Constant expressions: the initial values of globals, the offsets and the items of segments.

wasm-ld emits ``i32.const N``, ``global.get $__memory_base``, and with the extended-const feature
``global.get $__memory_base; i32.const N; i32.add``. Integer expressions can be evaluated; others
are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pylinker.wasm.reader import Reader
from pylinker.wasm.types import ValType
from pylinker.wasm.typesection import read_heap_type

__all__ = ["ConstExpr", "read_const_expr"]

_END = 0x0B
_GLOBAL_GET = 0x23
_I32_CONST, _I64_CONST, _F32_CONST, _F64_CONST = 0x41, 0x42, 0x43, 0x44
_REF_NULL, _REF_FUNC = 0xD0, 0xD2
_GC_PREFIX, _SIMD_PREFIX = 0xFB, 0xFD
_V128_CONST = 12
# Number of immediates of the GC instructions that are constant: struct.new, struct.new_default,
# array.new, array.new_default, array.new_fixed, any.convert_extern, extern.convert_any, ref.i31.
_GC_IMMEDIATES = {0: 1, 1: 1, 6: 1, 7: 1, 8: 2, 26: 0, 27: 0, 28: 0}

_MASK32 = (1 << 32) - 1
_MASK64 = (1 << 64) - 1
_ARITHMETIC: dict[int, Callable[[int, int], int]] = {
    0x6A: lambda a, b: (a + b) & _MASK32,  # i32.add
    0x6B: lambda a, b: (a - b) & _MASK32,
    0x6C: lambda a, b: (a * b) & _MASK32,
    0x7C: lambda a, b: (a + b) & _MASK64,  # i64.add
    0x7D: lambda a, b: (a - b) & _MASK64,
    0x7E: lambda a, b: (a * b) & _MASK64,
}
_BITS = {"i32": 32, "i64": 64}

# Linkers write three instructions. An expression may be evaluated once for each of many symbols, so
# its length must be bounded.
_MAXIMUM_LENGTH = 100


class ConstExpr(NamedTuple):
    """A constant expression."""

    operations: tuple[tuple[int, int], ...] | None
    """(opcode, operand) pairs in the order of the stack machine.

    None if an instruction is about neither integers nor ``ref.func``.
    """
    bits: int
    """Size of the resulting integer: 32, 64, or 0 for another type."""

    def evaluate(self, global_value: Callable[[int], int | None]) -> int | None:
        """Return the value as an unsigned integer of ``bits`` bits, or None if it is unknown.

        Args:
            global_value: Returns the value of a global of the module by index, signed or unsigned,
                or None if it is unknown.
        """
        if self.operations is None or not self.bits:
            return None
        stack: list[int] = []
        for opcode, operand in self.operations:
            if opcode in (_I32_CONST, _I64_CONST):
                stack.append(operand)
            elif opcode == _GLOBAL_GET:
                value = global_value(operand)
                if value is None:
                    return None
                stack.append(value)
            else:
                operation = _ARITHMETIC.get(opcode)
                if operation is None or len(stack) < 2:
                    return None  # an invalid integer expression, which wasmtime refuses
                right = stack.pop()
                stack.append(operation(stack.pop(), right))
        if len(stack) != 1:
            return None
        return stack[0] & (_MASK64 if self.bits == 64 else _MASK32)

    @property
    def function(self) -> int | None:
        """Index of the function if the expression is a single ``ref.func``, otherwise None."""
        if (
            self.operations is not None
            and len(self.operations) == 1
            and self.operations[0][0] == _REF_FUNC
        ):
            return self.operations[0][1]
        return None


def read_const_expr(reader: Reader, value: ValType) -> ConstExpr:
    """Read an expression of type ``value`` up to its ``end``.

    Raises:
        ParseError: An instruction is not constant.
    """
    start = reader.position
    operations: list[tuple[int, int]] = []
    known = True
    while True:
        opcode = reader.byte()
        if opcode == _END:
            break
        if opcode == _I32_CONST:
            operations.append((opcode, reader.s32()))
        elif opcode in (_GLOBAL_GET, _REF_FUNC):
            operations.append((opcode, reader.u32()))
        elif opcode in _ARITHMETIC:
            operations.append((opcode, 0))
        elif opcode == _I64_CONST:
            operations.append((opcode, reader.s64()))
        else:
            known = False
            _skip_immediates(reader, opcode)
    if not known:
        return ConstExpr(None, 0)
    if len(operations) > _MAXIMUM_LENGTH:
        raise reader.error(
            f"constant expression has {len(operations)} instructions, more than {_MAXIMUM_LENGTH}",
            start,
        )
    return ConstExpr(tuple(operations), _BITS.get(value, 0))


def _skip_immediates(reader: Reader, opcode: int) -> None:
    """Skip the operands of an instruction whose result is not an integer."""
    position = reader.position - 1
    if opcode == _F32_CONST:
        reader.take(4)
    elif opcode == _F64_CONST:
        reader.take(8)
    elif opcode == _REF_NULL:
        read_heap_type(reader)
    elif opcode == _GC_PREFIX:
        immediates = _GC_IMMEDIATES.get(reader.u32())
        if immediates is None:
            raise reader.error("GC instruction in a constant expression is not constant", position)
        for _ in range(immediates):
            reader.u32()
    elif opcode == _SIMD_PREFIX and reader.u32() == _V128_CONST:
        reader.take(16)
    else:
        raise reader.error(
            f"instruction {opcode:#04x} in a constant expression is not constant", position
        )
