"""Every private name of wasmtime-py that pylinker uses, in one place.

With what it could be replaced, should wasmtime-py drop it:

- ``_ffi.dll``: ``ctypes.CDLL`` of the library in the package, found with ``importlib.resources``;
- ``_bindings``: wasmtime's C headers (Apache-2.0), compiled in, with ``_Static_assert`` for each
  layout;
- ``_from_ptr``: own exception classes, their text and frames read with ``wasm_trap_message`` and
  ``wasm_trap_trace``;
- ``_consume``: a reference that is never dropped: the object then lives as long as the process;
- ``_context``: ``wasmtime_store_context`` of ``ptr()``;
- ``_from_raw``: ``wasmtime_linker_define`` of the raw function (only a benchmark uses it).

The tests run with the oldest wasmtime and the newest, so they find a missing name at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from typing import Any

import wasmtime
from wasmtime import _bindings, _ffi

from pylinker._system import SuppressSystemErrors

__all__ = [
    "BINDINGS",
    "DLL",
    "address_of",
    "address_of_context",
    "address_of_function",
    "disown",
    "error_at",
    "image_size",
    "raw_function",
    "switch_off_signals",
    "trap_at",
    "version",
]

_METADATA = re.compile(r"wasmtime-([\w.+!]+)\.dist-info$")

BINDINGS: Any = _bindings
"""wasmtime's declarations, as ctypes structures."""
DLL: Any = _ffi.dll
"""wasmtime's library; its functions have the types of :data:`BINDINGS`."""


def address_of(managed: Any) -> int:
    """Return the address of wasmtime's object in an object of wasmtime-py."""
    return _address(managed.ptr())


def image_size(module: wasmtime.Module) -> int:
    """Return the size in bytes of a compiled module's machine code and data in memory."""
    start, end = ctypes.c_void_p(), ctypes.c_void_p()
    _bindings.wasmtime_module_image_range(module.ptr(), ctypes.byref(start), ctypes.byref(end))
    return (end.value or 0) - (start.value or 0)


def address_of_context(store: wasmtime.Store) -> int:
    """Return the address of a store's ``wasmtime_context_t``."""
    return _address(store._context())


def address_of_function(name: str) -> int:
    """Return the address of a function of wasmtime's library, 0 if there is none of that name."""
    return _address(getattr(DLL, name, None))


def trap_at(address: int) -> wasmtime.Trap:
    """Return the exception for a ``wasm_trap_t``; it takes ownership."""
    return wasmtime.Trap._from_ptr(ctypes.cast(address, ctypes.POINTER(BINDINGS.wasm_trap_t)))


def error_at(address: int) -> wasmtime.WasmtimeError:
    """Return the WasmtimeError or ExitTrap for a ``wasmtime_error_t``; it takes ownership."""
    return wasmtime.WasmtimeError._from_ptr(
        ctypes.cast(address, ctypes.POINTER(BINDINGS.wasmtime_error_t))
    )


def disown(managed: Any) -> None:
    """Keep wasmtime-py from freeing an object of its own. No effect on a closed one."""
    with contextlib.suppress(ValueError):
        managed._consume()


def switch_off_signals(config: wasmtime.Config) -> None:
    """Make engines of this configuration install no signal handlers.

    Their guests check explicitly, and are slower.
    """
    switch = getattr(DLL, "wasmtime_config_signals_based_traps_set", None)
    if switch is not None:
        enabled = False
        switch(config.ptr(), enabled)


def raw_function(store: wasmtime.Store, type_: wasmtime.FuncType, callback: int) -> wasmtime.Func:
    """Return a function of a store that calls a C function.

    Args:
        store: The store.
        type_: The type of the function.
        callback: Address of a ``wasmtime_func_unchecked_callback_t``; it gets no environment.
    """
    new = DLL.wasmtime_func_new_unchecked
    function = BINDINGS.wasmtime_func_t()
    new(
        store._context(),
        type_.ptr(),
        new.argtypes[2](callback),
        None,
        new.argtypes[4](),
        ctypes.byref(function),
    )
    return wasmtime.Func._from_raw(function)


def _address(pointer: Any) -> int:
    return 0 if pointer is None else ctypes.cast(pointer, ctypes.c_void_p).value or 0


def version() -> str:
    """Return the version of wasmtime, from the name of the folder beside the package.

    An import of importlib.metadata takes 20 times as long.
    """
    with SuppressSystemErrors():
        names = os.listdir(os.path.dirname(os.path.dirname(wasmtime.__file__)))
        found = [match[1] for match in map(_METADATA.match, names) if match]
        if len(found) == 1:
            return found[0]
    from importlib import metadata  # noqa: PLC0415

    return metadata.version("wasmtime")
