"""The core's table of wasmtime functions, and a check of wasmtime's ABI.

The headers are ``csrc/api.h`` and ``csrc/probe.h``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

from pylinker.errors import InternalError
from pylinker.native.core import ffi, lib
from pylinker.native.enums import TrapCode

__all__ = ["TRAP_CODES", "api_shapes", "is_error_of_guest", "load_api", "probe", "probe_text"]


def load_api(address_of: Callable[[str], int]) -> None:
    """Fill the core's table of wasmtime functions.

    Args:
        address_of: Returns the address of a C function by name, or raises.
    """
    for index, (name, _) in enumerate(api_shapes()):
        lib.pl_api_set(index, ffi.cast("void *", address_of(name)))
    missing = lib.pl_api_missing()
    if missing != ffi.NULL:
        raise InternalError(f"no address for {ffi.string(missing).decode()}")


def api_shapes() -> Iterator[tuple[str, str]]:
    """Iterate over the names and shapes (``pl_api_shape``) of the wasmtime functions in use."""
    for index in itertools.count():
        name = lib.pl_api_name(index)
        if name == ffi.NULL:
            return
        yield ffi.string(name).decode(), ffi.string(lib.pl_api_shape(index)).decode()


TRAP_CODES: Mapping[str, int] = {
    "MEMORY_OUT_OF_BOUNDS": TrapCode.OUT_OF_BOUNDS,
    "HEAP_MISALIGNED": TrapCode.UNALIGNED,
    "ATOMIC_WAIT_NON_SHARED_MEMORY": TrapCode.NOT_SHARED,
}
"""Traps that the core raises, by wasmtime's names without their prefix."""


def probe_text() -> str:
    """Return the text format of the module that :func:`probe` runs."""
    return str(ffi.string(lib.pl_probe_text()).decode())


def probe(
    engine: int,
    module: int,
    shared: int,
    *,
    function: int,
    cell: int,
    table: int,
    tag: int,
    memory: int,
) -> str | None:
    """Exercise each kind of wasmtime object once (``csrc/probe.h``); all arguments are addresses.

    Returns:
        The first difference from the expected ABI, or None.
    """
    types = {"function": function, "cell": cell, "table": table, "tag": tag, "memory": memory}
    record = ffi.new(
        "pl_probe_types *",
        {name: ffi.cast("pl_type *", address) for name, address in types.items()},
    )
    problem = lib.pl_probe(
        ffi.cast("pl_engine *", engine),
        ffi.cast("pl_module *", module),
        ffi.cast("pl_shared_memory *", shared),
        record,
    )
    return None if problem == ffi.NULL else str(ffi.string(problem).decode())


def is_error_of_guest(error: int) -> bool:
    """Whether the error at an address arose in guest code, or in a host function that it called."""
    return bool(lib.pl_error_is_of_guest(ffi.cast("pl_error *", error)))
