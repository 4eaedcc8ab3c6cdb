"""Decoding of types: value and reference types, limits, and the type section with its GC forms.

See https://webassembly.github.io/spec/core/binary/types.html
"""

from __future__ import annotations

from pylinker.wasm.reader import Reader
from pylinker.wasm.types import FuncType, GlobalType, Limits, MemoryType, TableType, ValType

__all__ = [
    "read_global_type",
    "read_heap_type",
    "read_memory_type",
    "read_reference_type",
    "read_table_type",
    "read_type_section",
    "read_value_type",
]

_NUMBER_TYPES: dict[int, ValType] = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
}
# Abstract heap types, with the shorthand for a nullable reference to one: both have the same byte.
_HEAP_TYPES: dict[int, tuple[str, ValType]] = {
    0x68: ("cont", "contref"),
    0x69: ("exn", "exnref"),
    0x6A: ("array", "arrayref"),
    0x6B: ("struct", "structref"),
    0x6C: ("i31", "i31ref"),
    0x6D: ("eq", "eqref"),
    0x6E: ("any", "anyref"),
    0x6F: ("extern", "externref"),
    0x70: ("func", "funcref"),
    0x71: ("none", "nullref"),
    0x72: ("noextern", "nullexternref"),
    0x73: ("nofunc", "nullfuncref"),
    0x74: ("noexn", "nullexnref"),
    0x75: ("nocont", "nullcontref"),
}
_REFERENCE_TYPES: dict[int, ValType] = {code: names[1] for code, names in _HEAP_TYPES.items()}
_SHORTHANDS = dict(_HEAP_TYPES.values())
_VALUE_TYPES = {**_NUMBER_TYPES, **_REFERENCE_TYPES}
_I32_GLOBALS = (
    GlobalType("i32", mutable=False),
    GlobalType("i32", mutable=True),
)  # libraries export these by the thousand
_REF_NULL, _REF, _SHARED = 0x63, 0x64, 0x65
_I8, _I16 = 0x78, 0x77  # only in fields of structures and arrays

_FUNC, _STRUCT, _ARRAY, _CONT = 0x60, 0x5F, 0x5E, 0x5D
_SUB, _SUB_FINAL, _REC = 0x50, 0x4F, 0x4E

# The limit of all engines (https://webassembly.github.io/spec/js-api/#limits). Trampolines have an
# instruction for each parameter, so the number must be bounded here.
_MAXIMUM_ARITY = 1000

_HAS_MAXIMUM, _IS_SHARED, _IS_64, _HAS_PAGE_SIZE = 1, 2, 4, 8


def read_value_type(reader: Reader) -> ValType:
    """Read a number, vector or reference type.

    The long forms of reference types that have a shorthand result in the shorthand.
    """
    code = reader.byte()
    return _VALUE_TYPES.get(code) or _read_long_reference(reader, code)


def read_reference_type(reader: Reader) -> ValType:
    """Read the reference type of a table's elements."""
    code = reader.byte()
    return _REFERENCE_TYPES.get(code) or _read_long_reference(reader, code)


def _read_long_reference(reader: Reader, code: int) -> ValType:
    if code not in (_REF_NULL, _REF):
        raise reader.error(f"{code:#04x} is not a type that can stand here", reader.position - 1)
    heap = read_heap_type(reader)
    if code == _REF:
        return f"(ref {heap})"
    return _SHORTHANDS.get(heap) or f"(ref null {heap})"


def read_heap_type(reader: Reader) -> str:
    """Read a heap type: a name such as ``func``, or the index of a type of the module, as text."""
    position = reader.position
    code = reader.byte()
    names = _HEAP_TYPES.get(code)
    if names is not None:
        return names[0]
    if code == _SHARED:
        names = _HEAP_TYPES.get(reader.byte())
        if names is not None:
            return f"(shared {names[0]})"
    reader.position = position
    index = reader.s33()
    if index < 0:
        raise reader.error(f"unknown heap type {code:#04x}", position)
    return str(index)


def _read_limits(reader: Reader, flags: int) -> Limits:
    is64 = bool(flags & _IS_64)
    size = reader.u64 if is64 else reader.u32
    position = reader.position
    minimum = size()
    maximum = size() if flags & _HAS_MAXIMUM else None
    if maximum is not None and maximum < minimum:
        raise reader.error(f"maximum {maximum} is less than the minimum {minimum}", position)
    return Limits(minimum, maximum, bool(flags & _IS_SHARED), is64)


def read_memory_type(reader: Reader) -> MemoryType:
    """Read a memory type, with the flags of threads, memory64 and custom page sizes."""
    flags = reader.byte()
    if flags > 15:
        raise reader.error(f"unknown flags {flags:#x} of a memory", reader.position - 1)
    limits = _read_limits(reader, flags)
    if not flags & _HAS_PAGE_SIZE:
        return MemoryType(limits)
    exponent = reader.u32()
    if exponent not in (0, 16):
        raise reader.error(f"page size of 2**{exponent} bytes is neither 1 nor 65536")
    return MemoryType(limits, exponent)


def read_table_type(reader: Reader) -> TableType:
    """Read a table type, with the flags of the threads and memory64 proposals."""
    element = read_reference_type(reader)
    flags = reader.byte()
    if flags > 7:
        raise reader.error(f"unknown flags {flags:#x} of a table", reader.position - 1)
    return TableType(element, _read_limits(reader, flags))


def read_global_type(reader: Reader) -> GlobalType:
    """Read the value type and mutability of a global."""
    value = read_value_type(reader)
    mutable = reader.byte()
    if mutable > 1:
        raise reader.error(f"mutability {mutable:#x} is not 0 or 1", reader.position - 1)
    if value == "i32":
        return _I32_GLOBALS[mutable]
    return GlobalType(value, mutable == 1)


def read_type_section(reader: Reader) -> list[FuncType | None]:
    """Read the types of a module, by index; None for a type that is no function type.

    A recursion group is one item of the section, but each type in it has an index of its own.
    """
    types: list[FuncType | None] = []
    for _ in range(reader.count(2)):
        group = reader.count(2) if reader.skip_if(_REC) else 1
        types += [_read_sub_type(reader) for _ in range(group)]
    return types


def _read_sub_type(reader: Reader) -> FuncType | None:
    form = reader.byte()
    if form in (_SUB, _SUB_FINAL):
        reader.u32s(reader.count())  # supertypes
        form = reader.byte()
    if form == _SHARED:
        form = reader.byte()
    if form == _FUNC:
        params = _read_arity(reader)
        return FuncType(params, _read_arity(reader))
    if form == _STRUCT:
        for _ in range(reader.count(2)):
            _skip_field(reader)
    elif form == _ARRAY:
        _skip_field(reader)
    elif form == _CONT:
        reader.s33()
    else:
        raise reader.error(f"unknown form of type {form:#04x}", reader.position - 1)
    return None


def _read_arity(reader: Reader) -> tuple[ValType, ...]:
    position = reader.position
    count = reader.count()
    if count > _MAXIMUM_ARITY:
        raise reader.error(
            f"function type with {count} parameters or results; at most {_MAXIMUM_ARITY} are valid",
            position,
        )
    return tuple([read_value_type(reader) for _ in range(count)])


def _skip_field(reader: Reader) -> None:
    if not (reader.skip_if(_I8) or reader.skip_if(_I16)):
        read_value_type(reader)
    if reader.byte() > 1:
        raise reader.error("mutability of a field is not 0 or 1", reader.position - 1)
