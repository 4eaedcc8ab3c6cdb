"""The module of trampolines: the PLT of a dynamic linker, in WebAssembly.

A trampoline has the type of a function that is bound late. It calls through its slot of a private
table, the PLT. At first the slot holds the stub, which asks the host to resolve the function, and
then calls through the same slot again: the host has put the real function there. The call itself is
always made by wasm code, never by the host, so that traps, exceptions and deep recursion behave as
with a direct call, and after the first call only one ``return_call_indirect`` is in the way: a tail
call, which needs no frame of its own and so is quicker than a call that comes back here.
"""

from __future__ import annotations

from collections.abc import Sequence

from pylinker.wasm import writer
from pylinker.wasm.types import FuncType, Kind, Limits

__all__ = ["trampoline_module"]

_RESOLVE_TYPE = FuncType(("i32",), ())
_RESOLVE = 0  # index of the only import
_CALL_RESOLVE = bytes([0x10, _RESOLVE])
_CALL_INDIRECT = b"\x11"
_RETURN_CALL_INDIRECT = b"\x13"
_I32_CONST = b"\x41"
_END = b"\x0b"
_TABLE_ZERO = b"\0"


def trampoline_module(functions: Sequence[tuple[str, FuncType]]) -> bytes:
    """A module with one trampoline and one stub for each of the N functions, given by name (only for backtraces) and type.

    It imports ``("pylinker", "resolve")``, a function (i32) -> (). It is called with ``i`` when
    function ``i`` is called for the first time, and has to put a function of exactly that type into
    slot ``i`` of the table, or to trap. (If it returns without doing so, the stub calls itself
    until the stack is exhausted.)

    It exports the table, of exactly N slots, as ``plt``, trampoline ``i`` as ``t{i}``, and stub
    ``i``, which is also what slot ``i`` holds at first, as ``s{i}``. They are named ``NAME@plt``
    and ``NAME@lazy``; in backtraces only the latter is seen, during the first call.

    The same input gives the same bytes. Raises ValueError without functions, UnsupportedError for a
    type that cannot be encoded.
    """
    count = len(functions)
    if not count:
        raise ValueError("no functions to make trampolines for")
    type_indices = {_RESOLVE_TYPE: 0}
    # For each type: its index, the instructions before the number of the slot, and what the call
    # says after it.
    parts: dict[FuncType, tuple[bytes, bytes, bytes]] = {}
    type_of: list[bytes] = []
    trampolines: list[bytes] = []
    stubs: list[bytes] = []
    exports: list[bytes] = [writer.name("plt") + bytes([Kind.TABLE, 0])]
    stub_exports: list[bytes] = []
    for slot, (_, function) in enumerate(functions):
        known = parts.get(function)
        if known is None:
            index = writer.unsigned(type_indices.setdefault(function, len(type_indices)))
            arguments = writer.local_gets(len(function.params))
            known = parts[function] = index, arguments, index + _TABLE_ZERO
        index, arguments, callee = known
        number = _I32_CONST + writer.s32(slot)
        trampolines.append(
            writer.function_body(arguments + number + _RETURN_CALL_INDIRECT + callee)
        )
        stubs.append(
            writer.function_body(
                number + _CALL_RESOLVE + arguments + number + _CALL_INDIRECT + callee
            )
        )
        type_of.append(index)
        exports.append(_function_export(f"t{slot}", _trampoline_index(slot)))
        stub_exports.append(_function_export(f"s{slot}", _stub_index(slot, count)))
    stub_indices = writer.vector(
        [writer.unsigned(_stub_index(slot, count)) for slot in range(count)]
    )
    names = [(_trampoline_index(slot), f"{name}@plt") for slot, (name, _) in enumerate(functions)]
    names += [
        (_stub_index(slot, count), f"{name}@lazy") for slot, (name, _) in enumerate(functions)
    ]
    return writer.module(
        [
            writer.section(1, writer.vector([writer.func_type(each) for each in type_indices])),
            writer.section(
                2,
                writer.vector(
                    [writer.name("pylinker") + writer.name("resolve") + bytes([Kind.FUNC, 0])]
                ),
            ),
            writer.section(3, writer.vector(type_of + type_of)),
            writer.section(
                4,
                writer.vector([writer.value_type("funcref") + writer.limits(Limits(count, count))]),
            ),
            writer.section(7, writer.vector(exports + stub_exports)),
            # One active segment of table 0, from slot 0: flags 0, offset, functions.
            writer.section(
                9, writer.vector([b"\0" + _I32_CONST + writer.s32(0) + _END + stub_indices])
            ),
            writer.section(10, writer.vector(trampolines + stubs)),
            writer.function_names(names),
        ]
    )


def _trampoline_index(slot: int) -> int:
    return _RESOLVE + 1 + slot


def _stub_index(slot: int, count: int) -> int:
    return _RESOLVE + 1 + count + slot


def _function_export(name: str, index: int) -> bytes:
    return writer.name(name) + bytes([Kind.FUNC]) + writer.unsigned(index)
