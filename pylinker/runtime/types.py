"""Types of wasmtime.

Types that are passed by address are made once and live as long as the process: the C core and its
records refer to them.
"""

from __future__ import annotations

import wasmtime

from pylinker.errors import UnsupportedError
from pylinker.native.objects import set_types
from pylinker.runtime.once import once
from pylinker.runtime.private import address_of
from pylinker.runtime.teardown import outlives_interpreter
from pylinker.wasm import WAIT_TYPES, FuncType, Limits, TagType

__all__ = ["function_type", "i32_global_type", "table_type", "tag_type"]

_VALUE_TYPES = {
    "i32": wasmtime.ValType.i32,
    "i64": wasmtime.ValType.i64,
    "f32": wasmtime.ValType.f32,
    "f64": wasmtime.ValType.f64,
}


def _new_function_type(type_: FuncType) -> wasmtime.FuncType:
    try:
        return wasmtime.FuncType(
            [_VALUE_TYPES[each]() for each in type_.params],
            [_VALUE_TYPES[each]() for each in type_.results],
        )
    except KeyError as error:
        raise UnsupportedError(
            f"host object of type {type_}: value type {error.args[0]} is not supported"
        ) from None


@once
def _kept_function_type(type_: FuncType) -> wasmtime.FuncType:
    shared = _new_function_type(type_)
    outlives_interpreter(shared)
    return shared


@once
def _kept_tag_type(type_: TagType) -> wasmtime.TagType:
    shared = wasmtime.TagType(_new_function_type(type_.type))  # which consumes the function type
    outlives_interpreter(shared)
    return shared


@once
def _kept_global_type(mutable: bool) -> wasmtime.GlobalType:  # noqa: FBT001
    shared = wasmtime.GlobalType(wasmtime.ValType.i32(), mutable)
    outlives_interpreter(shared)
    return shared


def table_type(limits: Limits) -> wasmtime.TableType:
    """Return a new type of tables of funcref; it must outlive the use of its address."""
    new = wasmtime.TableType(
        wasmtime.ValType.funcref(), wasmtime.Limits(limits.minimum, limits.maximum)
    )
    outlives_interpreter(new)
    return new


def function_type(type_: FuncType) -> int:
    """Return the address of a ``wasm_functype_t``.

    Raises:
        UnsupportedError: There are values that are not numbers.
    """
    return address_of(_kept_function_type(type_))


def tag_type(type_: TagType) -> int:
    """Return the address of a ``wasm_tagtype_t``.

    Raises:
        UnsupportedError: There are values that are not numbers.
    """
    return address_of(_kept_tag_type(type_))


def i32_global_type(*, mutable: bool) -> int:
    """Return the address of a ``wasm_globaltype_t``."""
    return address_of(_kept_global_type(mutable))


set_types(
    cell=i32_global_type(mutable=True),
    constant=i32_global_type(mutable=False),
    resolve=function_type(FuncType(("i32",), ())),
    waits=[function_type(each) for each in WAIT_TYPES],
)
