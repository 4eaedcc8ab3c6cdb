"""WASIX's closures, and the types of functions for ``call_dynamic`` and ``reflect_signature``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pylinker.errors import LimitError, LinkError, MemoryAccessError
from pylinker.linker.guests.table import WASIX, Caller, guest_call
from pylinker.linker.guests.wasix import Errno
from pylinker.native.enums import BuiltinIndex
from pylinker.runtime.failures import STOPS
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.linker.load.linker import Linker
    from pylinker.runtime.memory import Memory
    from pylinker.wasm import ValType

_TYPES: Final[tuple[ValType, ...]] = ("i32", "i64", "f32", "f64", "v128")
"""WASIX's value types, by number."""

_VALUES: Final = 1000
"""Parameters, and results, that a function may have: the limit that wasm engines agree on."""


@guest_call(WASIX, "closure_allocate", "i->i")
def closure_allocate(caller: Caller[Linker], out: int) -> Errno:
    """Allocate a table slot for a closure."""
    linker = caller.linker
    try:
        linker.memory.check(out, 4)  # before the allocation: else a slot would be lost
        linker.memory.write(out, linker.closures.allocate().to_bytes(4, "little"))
    except MemoryAccessError:
        return Errno.MEMVIOLATION
    except LimitError:
        return Errno.NOMEM
    except LinkError as error:
        return _late(error)
    return Errno.SUCCESS


@guest_call(WASIX, "closure_prepare", "iiiiiii->i")
def closure_prepare(
    caller: Caller[Linker],
    function: int,
    closure: int,
    params: int,
    param_count: int,
    results: int,
    result_count: int,
    environment: int,
) -> Errno:
    """Put a closure into its slot."""
    linker = caller.linker
    try:
        types = (
            _types(linker.memory, params, param_count),
            _types(linker.memory, results, result_count),
        )
        if None in types:
            return Errno.INVAL
        type_ = FuncType(*(each for each in types if each is not None))
        return (
            Errno.SUCCESS
            if linker.closures.prepare(closure, type_, function, environment)
            else Errno.INVAL
        )
    except MemoryAccessError:
        return Errno.MEMVIOLATION
    except LimitError:
        return Errno.NOMEM
    except LinkError as error:
        return _late(error)


def _types(memory: Memory, address: int, count: int) -> tuple[ValType, ...] | None:
    """Read a list of types; None if one of them is invalid.

    Raises:
        MemoryAccessError: The list is out of bounds.
    """
    if count:
        memory.check(address, count)
    if count > _VALUES:
        return None
    numbers = memory.read(address, count) if count else b""
    return (
        tuple([_TYPES[each] for each in numbers])
        if all(each < len(_TYPES) for each in numbers)
        else None
    )


@guest_call(WASIX, "closure_free", "i->i")
def closure_free(caller: Caller[Linker], closure: int) -> Errno:
    """Free the slot of a closure."""
    caller.linker.closures.free(closure)
    return Errno.SUCCESS


@guest_call(WASIX, "call_dynamic", "iiiiii->i", core=BuiltinIndex.CALL_DYNAMIC)
def call_dynamic(caller: Caller[Linker], slot: int, *_: int) -> None:
    """Call a function of unknown type: the core does, and calls this once for the type."""
    _pass_type(caller, slot)


@guest_call(WASIX, "reflect_signature", "iiiiii->i", core=BuiltinIndex.REFLECT_SIGNATURE)
def reflect_signature(caller: Caller[Linker], slot: int, *_: int) -> None:
    """Describe the type of a function; the core does, as for ``call_dynamic``."""
    _pass_type(caller, slot)


def _pass_type(caller: Caller[Linker], slot: int) -> None:
    """Pass the type of the function in a table slot to the core."""
    linker = caller.linker
    changes = linker.context.shared.changes  # before the lookup
    type_ = linker.closures.type_of(slot) or linker.symbols.type_at(slot)
    linker.group.know_type(changes, slot, type_)


def _late(error: LinkError) -> Errno:
    """Return the error number for an operation in which other groups did not take part in time.

    The end of the program is raised again.
    """
    if isinstance(error, STOPS):
        raise error
    return Errno.AGAIN
