"""A module that calls function pointers for the host, with the checks of a guest's own call.

The host's raw calls check nothing, and a function pointer that comes from a guest may have any
type; ``call_indirect`` traps when the slot is empty, out of bounds, or of another type.
"""

from __future__ import annotations

from pylinker.wasm import writer
from pylinker.wasm.types import FuncType, Kind, Limits

__all__ = ["invoker_module"]

_PLAIN = FuncType((), ())
_ONE = FuncType(("i32",), ())
_TWO = FuncType(("i32", "i32"), ())


def invoker_module() -> bytes:
    """Return a module with two functions that call function pointers.

    It imports ``("env", "__indirect_function_table")``. Its export ``call`` (i32 slot) calls the
    function in a slot as ``() -> ()``; ``call_with`` (i32 slot, i32 argument) calls it as
    ``(i32) -> ()``.
    """
    types = (_PLAIN, _ONE, _TWO)
    table = writer.name("env") + writer.name("__indirect_function_table") + bytes([Kind.TABLE])
    table += writer.value_type("funcref") + writer.limits(Limits(0, None))
    call = b"\x20\x00\x11\x00\x00"  # local.get 0, call_indirect (type 0) table 0
    call_with = (
        b"\x20\x01\x20\x00\x11\x01\x00"  # local.get 1, local.get 0, call_indirect (type 1) table 0
    )
    exports = [
        writer.name(name) + bytes([Kind.FUNC, index])
        for index, name in enumerate(("call", "call_with"))
    ]
    return writer.module(
        [
            writer.section(1, writer.vector([writer.func_type(each) for each in types])),
            writer.section(2, writer.vector([table])),
            writer.section(3, writer.vector([b"\1", b"\2"])),
            writer.section(7, writer.vector(exports)),
            writer.section(
                10, writer.vector([writer.function_body(call), writer.function_body(call_with)])
            ),
            writer.function_names([(0, "call"), (1, "call_with")]),
        ]
    )
