"""Encoding of the binary format: the parts of generated modules.

All functions return bytes. Value types are those of :mod:`pylinker.wasm.types`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pylinker.errors import UnsupportedError
from pylinker.wasm.types import FuncType, GlobalType, Limits, MemoryType, ValType

__all__ = [
    "custom_section",
    "func_type",
    "function_body",
    "function_names",
    "global_type",
    "limits",
    "local_gets",
    "memory_type",
    "module",
    "name",
    "s32",
    "section",
    "unsigned",
    "value_type",
    "vector",
]

_HEADER = b"\0asm\x01\0\0\0"
_FUNC = b"\x60"
_LOCAL_GET = b"\x20"
_END = b"\x0b"
_FUNCTION_NAMES = b"\x01"  # subsection of the name section

_VALUE_TYPES = {
    "i32": b"\x7f",
    "i64": b"\x7e",
    "f32": b"\x7d",
    "f64": b"\x7c",
    "v128": b"\x7b",
    "funcref": b"\x70",
    "externref": b"\x6f",
    "exnref": b"\x69",
}


def unsigned(value: int, *, length: int = 0) -> bytes:
    """Return an unsigned integer of any size as LEB128, padded to at least ``length`` bytes."""
    if value < 0x80 and length <= 1:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80 or len(encoded) + 1 < length:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def s32(value: int) -> bytes:
    """Return a signed integer of any size as LEB128, the operand of ``i32.const``."""
    encoded = bytearray()
    while not -0x40 <= value < 0x40:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value & 0x7F)
    return bytes(encoded)


def name(text: str) -> bytes:
    """Return a name: its length in bytes, then UTF-8."""
    encoded = text.encode()
    return unsigned(len(encoded)) + encoded


def vector(items: Sequence[bytes]) -> bytes:
    """Return a vector of encoded items."""
    return unsigned(len(items)) + b"".join(items)


def section(number: int, contents: bytes) -> bytes:
    """Return a section with its id and size."""
    return bytes([number]) + unsigned(len(contents)) + contents


def custom_section(title: str, contents: bytes) -> bytes:
    """Return a custom section."""
    return section(0, name(title) + contents)


def module(parts: Iterable[bytes]) -> bytes:
    """Return a module of these sections."""
    return _HEADER + b"".join(parts)


def value_type(value: ValType) -> bytes:
    """Return an encoded value type.

    Raises:
        UnsupportedError: It refers to a type of a module, or is of the GC proposal.
    """
    encoded = _VALUE_TYPES.get(value)
    if encoded is None:
        raise UnsupportedError(
            f"no code can be generated for a function with a parameter or result of type {value}"
        )
    return encoded


def func_type(function: FuncType) -> bytes:
    """Return a function type. UnsupportedError as for :func:`value_type`."""
    params, results = ([value_type(each) for each in types] for types in function)
    return _FUNC + vector(params) + vector(results)


def limits(bounds: Limits, *, more_flags: int = 0) -> bytes:
    """Return limits, with their flags and ``more_flags``."""
    flags = (bounds.maximum is not None) | bounds.shared << 1 | bounds.is64 << 2 | more_flags
    maximum = b"" if bounds.maximum is None else unsigned(bounds.maximum)
    return bytes([flags]) + unsigned(bounds.minimum) + maximum


def memory_type(memory: MemoryType) -> bytes:
    """Return a memory type; the page size is encoded only if it is not the usual one."""
    if memory.page_size_log2 == 16:
        return limits(memory.limits)
    return limits(memory.limits, more_flags=8) + unsigned(memory.page_size_log2)


def global_type(type_: GlobalType) -> bytes:
    """Return the type of a global. UnsupportedError as for :func:`value_type`."""
    return value_type(type_.value) + bytes([type_.mutable])


def local_gets(count: int) -> bytes:
    """Return instructions that push the first ``count`` locals, that is all parameters."""
    return b"".join([_LOCAL_GET + unsigned(index) for index in range(count)])


def function_body(instructions: bytes) -> bytes:
    """Return an item of the code section: a function without locals; the final ``end`` is added."""
    body = b"\0" + instructions + _END
    return unsigned(len(body)) + body


def function_names(names: Sequence[tuple[int, str]]) -> bytes:
    """Return a name section with these names of functions, by ascending index."""
    entries = vector([unsigned(index) + name(text) for index, text in names])
    return custom_section("name", _FUNCTION_NAMES + unsigned(len(entries)) + entries)
