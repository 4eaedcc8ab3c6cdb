"""Comparison of the C core's declarations of wasmtime with those of the installed one.

The core is compiled without wasmtime's headers (``csrc/api.h``) and passes wasmtime's public
structures by value. wasmtime-py's ``_bindings`` are generated from the headers of exactly the
wasmtime that it ships, so a comparison with them finds every difference, independent of the version
number: a wrong guess here would be memory corruption and not an exception.

:func:`differences` compares declarations only. Enum values and behaviour are checked by
:mod:`pylinker.runtime.probe`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import wasmtime

from pylinker.native.api import TRAP_CODES, api_shapes
from pylinker.native.core import layout

__all__ = ["differences"]

_PUBLIC = {
    "Config": (
        "epoch_interruption",
        "max_wasm_stack",
        "parallel_compilation",
        "shared_memory",
        "wasm_exceptions",
        "wasm_function_references",
        "wasm_gc",
        "wasm_tail_call",
        "wasm_threads",
    ),
    "Linker": ("define_wasi",),
    "Module": ("deserialize", "deserialize_file", "serialize", "validate"),
    "SharedMemory": (),
    "Store": ("set_limits", "set_wasi"),
    "TagType": (),
    "Trap": ("frames", "message", "trap_code"),
    "WasiConfig": (
        "argv",
        "env",
        "inherit_stderr",
        "inherit_stdin",
        "inherit_stdout",
        "preopen_dir",
    ),
}
"""wasmtime-py's public classes and attributes that are not in every version.

Assigning a property that does not exist would have no effect there.
"""

_FIELDS = {
    "wasmtime_extern_t": ("pl_extern", {"kind": "kind", "of": "of"}),
    "wasmtime_val_t": ("pl_cell", {"kind": "kind", "of": "of"}),
    "wasmtime_func_t": ("pl_func", {"store_id": "store"}),
    "wasmtime_instance_t": ("pl_instance", {"store_id": "store"}),
    "wasmtime_table_t": ("pl_table", {}),
    "wasmtime_memory_t": ("pl_memory", {}),
    "wasmtime_global_t": ("pl_global", {"store_id": "store"}),
    "wasmtime_tag_t": ("pl_handle", {}),
    "wasm_byte_vec_t": ("pl_bytes", {"size": "size", "data": "data"}),
    "wasm_frame_vec_t": ("pl_frames", {"size": "size", "data": "data"}),
    "wasmtime_val_raw_t": (
        "pl_value",
        {"i32": "i32", "i64": "i64", "f32": "f32", "f64": "f64", "v128": "v128"},
    ),
    "wasmtime_extern_union_t": (
        "pl_extern_union",
        {"func": "func", "global_": "handle", "sharedmemory": "shared_memory"},
    ),
    "wasmtime_valunion_t": ("pl_cell_union", {"i32": "i32", "funcref": "func"}),
}
"""wasmtime's structures and unions, those of the core, and the fields that the core accesses."""

_HOST_FUNCTION = ("p", ("p", "p", "p", "Q"))
_DEADLINE_CALLBACK = ("p", ("p", "p", "p", "p"))
_FINALIZER = ("v", ("p",))
_CALLBACKS = {"h": _HOST_FUNCTION, "d": _DEADLINE_CALLBACK, "f": _FINALIZER}
"""Result and parameters of the callbacks of ``csrc/api_table.h``, by letter in ``pl_api_shape``."""

_CALLBACK_TYPE: Any = type(ctypes.CFUNCTYPE(None))
_POINTER_TYPE: Any = type(ctypes.POINTER(ctypes.c_int))
_BY_SIZE = {1: "B", 8: "Q"}


def differences(bindings: Any, dll: Any) -> Iterator[str]:
    """Yield each difference between the declarations of the core and of wasmtime, as one line.

    Args:
        bindings: wasmtime-py's generated module of structures.
        dll: The library, its functions with the types that ``bindings`` gave them.
    """
    for name, attributes in _PUBLIC.items():
        class_ = getattr(wasmtime, name, None)
        if class_ is None:
            yield f"there is no wasmtime.{name}"
        else:
            yield from (
                f"wasmtime.{name} has no {each}" for each in attributes if not hasattr(class_, each)
            )
    for theirs, (ours, fields) in _FIELDS.items():
        yield from _layout(getattr(bindings, theirs, None), theirs, ours, fields)
    for name, number in TRAP_CODES.items():
        theirs = f"WASMTIME_TRAP_CODE_{name}"
        found = getattr(getattr(bindings, "wasmtime_trap_code_enum", None), theirs, None)
        if getattr(found, "value", None) != number:
            value = getattr(found, "value", "not there")
            yield f"{theirs} is {value}, pylinker was built for {number}"
    for name, shape in api_shapes():
        function = getattr(dll, name, None)
        if function is None:
            yield f"there is no function {name}"
            continue
        expected = tuple(_CALLBACKS.get(letter, letter) for letter in shape)
        found = _signature(function.restype, function.argtypes)
        if found != (expected[0], expected[1:]):
            yield (
                f"{name} is declared {_shown(found)}, "
                f"pylinker calls it {_shown((expected[0], expected[1:]))}"
            )


def _layout(struct: Any, theirs: str, ours: str, fields: dict[str, str]) -> Iterator[str]:
    if struct is None:
        yield f"there is no {theirs}"
        return
    size, own = layout(ours)
    if ctypes.sizeof(struct) != size:
        yield f"{theirs} has {ctypes.sizeof(struct)} bytes, pylinker was built for {size}"
        return
    for field, name in fields.items():
        place = getattr(struct, field, None)
        if place is None:
            yield f"{theirs} has no field {field}"
        elif place.offset != own[name][0] or place.size != own[name][1]:
            yield (
                f"{theirs}.{field} is {place.size} bytes at {place.offset}, "
                f"pylinker was built for {own[name][1]} at {own[name][0]}"
            )


def _signature(result: Any, parameters: Any) -> tuple[Any, tuple[Any, ...]]:
    return _letter(result), tuple(_letter(each) for each in parameters or ())


def _letter(kind: Any) -> Any:
    if kind is None:
        return "v"
    if isinstance(kind, _CALLBACK_TYPE):
        result, parameters = _signature(kind._restype_, kind._argtypes_)
        # ctypes has no callbacks that return a pointer, so the bindings declare an integer of that
        # size.
        return ("p" if result == "Q" else result), parameters
    if isinstance(kind, _POINTER_TYPE) or kind in (ctypes.c_void_p, ctypes.c_char_p):
        return "p"
    if kind is ctypes.c_bool:
        return "?"
    if kind in (ctypes.c_int64, ctypes.c_longlong, ctypes.c_long) and ctypes.sizeof(kind) == 8:
        return "q"
    if kind in (ctypes.c_uint8, ctypes.c_uint64, ctypes.c_ulonglong, ctypes.c_size_t):
        return _BY_SIZE[ctypes.sizeof(kind)]
    return repr(kind)


_NAMES = {"v": "void", "p": "pointer", "?": "bool", "B": "uint8", "q": "int64", "Q": "uint64"}


def _shown(signature: Any) -> str:
    if isinstance(signature, str):
        return _NAMES.get(signature, signature)
    result, parameters = signature
    return f"({', '.join(map(_shown, parameters))}) -> {_shown(result)}"
