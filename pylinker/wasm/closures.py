"""Modules for functions whose type is known only at run time: closures, and calls by the host.

A closure packs its arguments into memory, calls one function that handles the calls of all
closures, and unpacks the results. A dynamic call is the reverse: the host has the values, and a
function of wasm makes the call, since its ``call_indirect`` checks the type and the host's own
calls do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pylinker.errors import UnsupportedError
from pylinker.wasm import writer
from pylinker.wasm.types import FuncType, GlobalType, Kind, Limits, MemoryType, ValType

__all__ = ["PACKED_SIZES", "closure_module", "dynamic_call_module"]

PACKED_SIZES: Final = {"i32": 4, "i64": 8, "f32": 4, "f64": 8, "v128": 16}
"""Size in bytes of a value in memory, by its type. Values of other types cannot be packed."""

_LOAD = {"i32": b"\x28", "i64": b"\x29", "f32": b"\x2a", "f64": b"\x2b", "v128": b"\xfd\x00"}
_STORE = {"i32": b"\x36", "i64": b"\x37", "f32": b"\x38", "f64": b"\x39", "v128": b"\xfd\x0b"}
_ALIGNED_TO_1 = b"\0"
_BACKING = FuncType(("i32", "i32", "i32"), ())
_LOCAL_GET, _LOCAL_TEE, _GLOBAL_GET, _GLOBAL_SET = b"\x20", b"\x22", b"\x23", b"\x24"
_I32_CONST, _I32_SUB, _CALL_INDIRECT, _END = b"\x41", b"\x6b", b"\x11", b"\x0b"
_TABLE_ZERO = b"\0"
_STACK_POINTER, _FUNCTION, _ENVIRONMENT = b"\0", b"\1", b"\2"  # imported globals
_THREE_I32_LOCALS = b"\x01\x03\x7f"


def closure_module(function: FuncType, *, shared: bool) -> bytes:
    """Return a module with one function of the type ``function`` that forwards its calls.

    It imports, in this order, ``env.memory`` (``shared`` or not),
    ``env.__indirect_function_table``, ``env.__stack_pointer``, and two mutable i32 globals,
    ``pylinker.function`` and ``pylinker.environment``. It exports ``closure``. A call of it
    allocates room on the stack, for the arguments and above them for the results, each a multiple
    of 16 bytes; stores the arguments there one after the other; calls the function in slot
    ``function`` with the two addresses and ``environment``; loads the results, and releases the
    room. A trap leaves the stack pointer as it is.

    The same input gives the same bytes.

    Raises:
        UnsupportedError: A value has no size in memory.
    """
    params, results = function
    count = len(params)
    before, results_at, params_at = (
        _LOCAL_GET + writer.unsigned(count + index) for index in range(3)
    )
    sizes = [_aligned(sum(_size(each) for each in types)) for types in (results, params)]
    code = [
        *(_GLOBAL_GET, _STACK_POINTER, _LOCAL_TEE, writer.unsigned(count)),
        *(_I32_CONST, writer.s32(sizes[0]), _I32_SUB, _LOCAL_TEE, writer.unsigned(count + 1)),
        *(_I32_CONST, writer.s32(sizes[1]), _I32_SUB, _LOCAL_TEE, writer.unsigned(count + 2)),
        *(_GLOBAL_SET, _STACK_POINTER),
    ]
    for index, (type_, offset) in enumerate(_offsets(params)):
        code += [
            params_at,
            _LOCAL_GET,
            writer.unsigned(index),
            _STORE[type_],
            _ALIGNED_TO_1,
            writer.unsigned(offset),
        ]
    code += [
        params_at,
        results_at,
        _GLOBAL_GET,
        _ENVIRONMENT,
        _GLOBAL_GET,
        _FUNCTION,
        _CALL_INDIRECT,
        b"\1",
        _TABLE_ZERO,
    ]
    for type_, offset in _offsets(results):
        code += [results_at, _LOAD[type_], _ALIGNED_TO_1, writer.unsigned(offset)]
    code += [before, _GLOBAL_SET, _STACK_POINTER, _END]
    body = _THREE_I32_LOCALS + b"".join(code)
    return _module(
        [function, _BACKING], _closure_imports(shared), "closure", writer.unsigned(len(body)) + body
    )


def _closure_imports(shared: bool) -> list[bytes]:  # noqa: FBT001
    # The most general type of either kind: one module for all programs.
    memory = MemoryType(Limits(0, 1 << 16 if shared else None, shared))
    return [
        _import("env", "memory", Kind.MEMORY, writer.memory_type(memory)),
        _import_of_table(),
        *(
            _import(module, name, Kind.GLOBAL, writer.global_type(GlobalType("i32", mutable=True)))
            for module, name in (
                ("env", "__stack_pointer"),
                ("pylinker", "function"),
                ("pylinker", "environment"),
            )
        ),
    ]


def dynamic_call_module(function: FuncType) -> bytes:
    """Return a module with one function that calls a function pointer of the type ``function``.

    The function traps if the pointer has another type. The module imports
    ``("env", "__indirect_function_table")`` and exports ``invoke``, which takes the arguments, then
    the slot, and returns the results. The same input gives the same bytes.

    Raises:
        UnsupportedError: The type cannot be encoded.
    """
    invoke = FuncType((*function.params, "i32"), function.results)
    code = writer.local_gets(len(invoke.params)) + _CALL_INDIRECT + b"\1" + _TABLE_ZERO
    return _module([invoke, function], [_import_of_table()], "invoke", writer.function_body(code))


def _size(type_: ValType) -> int:
    size = PACKED_SIZES.get(type_)
    if size is None:
        raise UnsupportedError(f"a value of type {type_} has no size in memory")
    return size


def _aligned(size: int) -> int:
    return size + 15 & ~15


def _offsets(types: Sequence[ValType]) -> list[tuple[ValType, int]]:
    """Return each type with the offset of its value in a packed sequence of values."""
    offset, found = 0, []
    for type_ in types:
        found.append((type_, offset))
        offset += _size(type_)
    return found


def _import(module: str, name: str, kind: Kind, type_: bytes) -> bytes:
    return writer.name(module) + writer.name(name) + bytes([kind]) + type_


def _import_of_table() -> bytes:
    table = writer.value_type("funcref") + writer.limits(Limits(0, None))
    return _import("env", "__indirect_function_table", Kind.TABLE, table)


def _module(types: Sequence[FuncType], imports: Sequence[bytes], name: str, body: bytes) -> bytes:
    """Return a module that exports one function, of the first of its types."""
    return writer.module(
        [
            writer.section(1, writer.vector([writer.func_type(each) for each in types])),
            writer.section(2, writer.vector(imports)),
            writer.section(3, writer.vector([b"\0"])),
            writer.section(7, writer.vector([writer.name(name) + bytes([Kind.FUNC, 0])])),
            writer.section(10, writer.vector([body])),
            writer.function_names([(0, name)]),
        ]
    )
