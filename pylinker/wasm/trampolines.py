"""The module of trampolines: the PLT of a dynamic linker, in WebAssembly.

A trampoline has the type of a function with lazy binding. It calls through its slot of a private
table, the PLT. At first the slot holds the stub, which calls the host to resolve the function, and
then calls through the same slot again: the host has put the definition there. The call itself is
always made by wasm code, never by the host, so that traps, exceptions and deep recursion behave as
with a direct call, and after the first call the overhead is one ``return_call_indirect``: a tail
call, which needs no frame of its own and so is faster than a call that returns to the trampoline.
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
    """Return a module with one trampoline and one stub for each of the N functions.

    It imports ``("pylinker", "resolve")``, a function (i32) -> (). That is called with ``i`` when
    function ``i`` is called for the first time, and must put a function of exactly that type into
    slot ``i`` of the table, or trap. (If it returns without doing so, the stub calls itself until
    the stack is exhausted.)

    It exports the table, of exactly N slots, as ``plt``, trampoline ``i`` as ``t{i}``, and stub
    ``i``, which is also the initial content of slot ``i``, as ``s{i}``. They are named ``NAME@plt``
    and ``NAME@lazy``; backtraces show only the latter, during the first call.

    The same input gives the same bytes.

    Args:
        functions: Names (only for backtraces) and types of the functions.

    Raises:
        ValueError: There are no functions.
        UnsupportedError: A type cannot be encoded.
    """
    count = len(functions)
    if not count:
        raise ValueError("no functions for trampolines")
    type_indices = {_RESOLVE_TYPE: 0}
    # For each type: its index, the instructions before the number of the slot, and the operands of
    # the call.
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
    return _module(functions, [*type_indices], type_of, exports + stub_exports, trampolines + stubs)


def _module(
    functions: Sequence[tuple[str, FuncType]],
    types: Sequence[FuncType],
    type_of: list[bytes],
    exports: Sequence[bytes],
    bodies: Sequence[bytes],
) -> bytes:
    """Return the module from its types, the index of each function's type, exports and bodies."""
    count = len(functions)
    stub_indices = writer.vector(
        [writer.unsigned(_stub_index(slot, count)) for slot in range(count)]
    )
    names = [(_trampoline_index(slot), f"{name}@plt") for slot, (name, _) in enumerate(functions)]
    names += [
        (_stub_index(slot, count), f"{name}@lazy") for slot, (name, _) in enumerate(functions)
    ]
    return writer.module(
        [
            writer.section(1, writer.vector([writer.func_type(each) for each in types])),
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
            writer.section(7, writer.vector(exports)),
            # One active segment of table 0, from slot 0: flags 0, offset, functions.
            writer.section(
                9, writer.vector([b"\0" + _I32_CONST + writer.s32(0) + _END + stub_indices])
            ),
            writer.section(10, writer.vector(bodies)),
            writer.function_names(names),
        ]
    )


def _trampoline_index(slot: int) -> int:
    return _RESOLVE + 1 + slot


def _stub_index(slot: int, count: int) -> int:
    return _RESOLVE + 1 + count + slot


def _function_export(name: str, index: int) -> bytes:
    return writer.name(name) + bytes([Kind.FUNC]) + writer.unsigned(index)
