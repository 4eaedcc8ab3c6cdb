"""The seam between Python and the C core: the only module that imports the compiled ``pylinker._core``.

Everything that crosses is checked here for kind and range; wasmtime's objects travel as plain addresses (``int``). A function
raises :class:`Failure` when wasmtime hands back a trap or an error; who owns wasmtime's Python side turns it into the exception a
user knows (:mod:`pylinker.runtime.failures`).

Threads: a call takes as long as the guest runs and releases the GIL; the store behind ``context`` belongs to the calling thread
for the duration.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from pylinker._core import ffi, lib
from pylinker.errors import InternalError

__all__ = [
    "EXTERN_FUNC",
    "EXTERN_GLOBAL",
    "EXTERN_MEMORY",
    "EXTERN_SHARED_MEMORY",
    "EXTERN_TABLE",
    "EXTERN_TAG",
    "Context",
    "Extern",
    "Failure",
    "Func",
    "HostFunction",
    "Instance",
    "Values",
    "call",
    "context_at",
    "export",
    "extern_at",
    "extern_of_shared_memory",
    "func_of",
    "global_get",
    "global_new",
    "global_set",
    "imports_of",
    "instantiate",
    "load_api",
    "memory_buffer",
    "memory_grow",
    "memory_new",
    "memory_size",
    "sizes",
    "table_get",
    "table_grow",
    "table_new",
    "table_set",
    "table_size",
    "values",
]

# What cffi hands out. The names are for the reader: cffi has one type for all of them.
Context: TypeAlias = Any
Instance: TypeAlias = Any
Extern: TypeAlias = Any
Func: TypeAlias = Any
Values: TypeAlias = Any
Imports: TypeAlias = Any

EXTERN_FUNC: int = lib.PL_EXTERN_FUNC
EXTERN_GLOBAL: int = lib.PL_EXTERN_GLOBAL
EXTERN_TABLE: int = lib.PL_EXTERN_TABLE
EXTERN_MEMORY: int = lib.PL_EXTERN_MEMORY
EXTERN_SHARED_MEMORY: int = lib.PL_EXTERN_SHARED_MEMORY
EXTERN_TAG: int = lib.PL_EXTERN_TAG

_U32 = 1 << 32


class Failure(Exception):  # noqa: N818 - not an error a user meets: it carries one to where it can be named
    """wasmtime returned a trap or an error. Exactly one of ``trap`` and ``error`` is an address; the receiver owns it."""

    def __init__(self, *, trap: int = 0, error: int = 0) -> None:
        super().__init__(f"trap {trap:#x}" if trap else f"error {error:#x}")
        self.trap = trap
        self.error = error


def load_api(address_of: Callable[[str], int]) -> None:
    """Fill the core's table of wasmtime functions; ``address_of`` answers the address of a C function by name, or raises."""
    for index in itertools.count():
        name = lib.pl_api_name(index)
        if name == ffi.NULL:
            break
        lib.pl_api_set(index, ffi.cast("void *", address_of(ffi.string(name).decode())))
    missing = lib.pl_api_missing()
    if missing != ffi.NULL:
        raise InternalError(f"no address for {ffi.string(missing).decode()}")


def sizes() -> dict[str, int]:
    """Return the sizes in bytes of the structures the core shares with wasmtime, by wasmtime's names."""
    return {
        "wasmtime_extern_t": ffi.sizeof("pl_extern"),
        "wasmtime_func_t": ffi.sizeof("pl_func"),
        "wasmtime_global_t": ffi.sizeof("pl_global"),
        "wasmtime_instance_t": ffi.sizeof("pl_instance"),
        "wasmtime_memory_t": ffi.sizeof("pl_memory"),
        "wasmtime_table_t": ffi.sizeof("pl_table"),
        "wasmtime_val_raw_t": ffi.sizeof("pl_value"),
        "wasmtime_val_t": ffi.sizeof("pl_cell"),
    }


def context_at(address: int) -> Context:
    """Return the store context at ``address`` (a ``wasmtime_context_t *``)."""
    return ffi.cast("pl_context *", address)


def _check(error: Any) -> None:
    if error != ffi.NULL:
        raise Failure(error=int(ffi.cast("uintptr_t", error)))


def _raise(failure: Any) -> None:
    raise Failure(
        trap=int(ffi.cast("uintptr_t", failure.trap)),
        error=int(ffi.cast("uintptr_t", failure.error)),
    )


# Calls


def values(count: int) -> Values:
    """Return room for ``count`` raw values (16 bytes each, zeroed)."""
    return ffi.new("pl_value[]", count)


def call(context: Context, func: Func, raw: Values, count: int) -> None:
    """Call ``func``; arguments are taken from ``raw`` and results are left there. Blocks while the guest runs."""
    failure = ffi.new("pl_failure *")
    if lib.pl_call(context, func, raw, count, failure):
        _raise(failure)


# Host functions

_host_functions: dict[int, Callable[[Values], None]] = {}
_host_handles = itertools.count(1)


@ffi.def_extern(error=-1)  # type: ignore[untyped-decorator]
def pl_python_host(handle: int, raw: Values, count: int, message: Any, capacity: int) -> int:  # noqa: ARG001
    """Run the Python function behind ``handle``; whatever it raises becomes the message of a trap."""
    try:
        _host_functions[handle](raw)
    except BaseException as error:  # noqa: BLE001 - the callable has kept the exception; C needs only the text
        text = str(error).encode("utf-8", "replace")[: capacity - 1]
        ffi.memmove(message, text + b"\0", len(text) + 1)
        return 1
    return 0


class HostFunction:
    """A Python callable that a guest can import.

    It gets the raw values (arguments in, results out). Keep the object as long as its store lives: wasmtime keeps its address.
    ``entries`` counts how often the guest came in.
    """

    __slots__ = ("_handle", "_record", "extern")

    def __init__(self, context: Context, type_address: int, function: Callable[[Values], None]) -> None:
        self._handle = next(_host_handles)
        _host_functions[self._handle] = function
        self._record = ffi.new("pl_hostfn *", {"callback": lib.pl_python_host, "handle": self._handle})
        self.extern: Extern = ffi.new("pl_extern *")
        self.extern.kind = EXTERN_FUNC
        lib.pl_hostfn_new(context, ffi.cast("pl_type *", type_address), self._record, ffi.addressof(self.extern.of, "func"))

    @property
    def entries(self) -> int:
        """How often the guest has called this function."""
        return int(self._record.entries)

    def release(self) -> None:
        """Let go of the Python callable; only after the last call of the guest."""
        _host_functions.pop(self._handle, None)

    def __del__(self) -> None:
        self.release()


# Instances


def extern_of_shared_memory(address: int) -> Extern:
    """Wrap a ``wasmtime_sharedmemory_t *`` as something that can be imported; the caller keeps the memory alive."""
    extern = ffi.new("pl_extern *")
    extern.kind = EXTERN_SHARED_MEMORY
    extern.of.shared_memory = ffi.cast("pl_shared_memory *", address)
    return extern


def extern_at(kind: int, address: int) -> Extern:
    """Copy a ``wasmtime_func_t``, ``_table_t``, ``_memory_t``, ``_global_t`` or ``_tag_t`` of wasmtime-py into an extern."""
    extern = ffi.new("pl_extern *")
    extern.kind = kind
    size = ffi.sizeof("pl_func") if kind == EXTERN_FUNC else ffi.sizeof("pl_handle")
    ffi.memmove(ffi.addressof(extern.of), ffi.cast("char *", address), size)
    return extern


def func_of(extern: Extern) -> Func:
    """Return the function inside an extern; it stays valid on its own."""
    if extern.kind != EXTERN_FUNC:
        raise InternalError(f"extern of kind {extern.kind} is not a function")
    return ffi.new("pl_func *", extern.of.func)


def imports_of(externs: Sequence[Extern]) -> Imports:
    """Pack externs into the array that :func:`instantiate` takes."""
    packed = ffi.new("pl_extern[]", len(externs))
    for index, extern in enumerate(externs):
        packed[index] = extern[0]
    return packed


def instantiate(context: Context, module_address: int, externs: Sequence[Extern]) -> Instance:
    """Instantiate a compiled module with imports in its own order. Blocks while its start function runs."""
    instance = ffi.new("pl_instance *")
    failure = ffi.new("pl_failure *")
    module = ffi.cast("pl_module *", module_address)
    if lib.pl_instance_new(context, module, imports_of(externs), len(externs), instance, failure):
        _raise(failure)
    return instance


def export(context: Context, instance: Instance, name: str) -> Extern | None:
    """Return the export called ``name``, or None."""
    extern = ffi.new("pl_extern *")
    encoded = name.encode()
    return extern if lib.pl_instance_export(context, instance, encoded, len(encoded), extern) else None


# Globals


def _signed(value: int) -> int:
    """Return the 32-bit pattern of ``value`` as C's int32_t."""
    value &= _U32 - 1
    return value - _U32 if value >> 31 else value


def _handle(extern: Extern, kind: int) -> Any:
    if extern.kind != kind:
        raise InternalError(f"extern of kind {extern.kind} where {kind} is meant")
    return ffi.addressof(extern.of, "handle")


def global_new(context: Context, type_address: int, value: int) -> Extern:
    """Make an i32 global of the given ``wasm_globaltype_t`` that holds the 32 bits of ``value``."""
    extern = ffi.new("pl_extern *")
    extern.kind = EXTERN_GLOBAL
    handle = ffi.addressof(extern.of, "handle")
    _check(lib.pl_global_new_i32(context, ffi.cast("pl_type *", type_address), _signed(value), handle))
    return extern


def global_get(context: Context, extern: Extern) -> int:
    """Return the value of an i32 global, unsigned."""
    return int(lib.pl_global_get_i32(context, _handle(extern, EXTERN_GLOBAL))) & (_U32 - 1)


def global_set(context: Context, extern: Extern, value: int) -> None:
    """Store the 32 bits of ``value`` in a mutable i32 global."""
    _check(lib.pl_global_set_i32(context, _handle(extern, EXTERN_GLOBAL), _signed(value)))


# Tables


def table_new(context: Context, type_address: int) -> Extern:
    """Make a table of the given ``wasm_tabletype_t`` with all slots null."""
    extern = ffi.new("pl_extern *")
    extern.kind = EXTERN_TABLE
    _check(lib.pl_table_new(context, ffi.cast("pl_type *", type_address), ffi.addressof(extern.of, "handle")))
    return extern


def table_size(context: Context, table: Extern) -> int:
    """Return the number of slots."""
    return int(lib.pl_table_size(context, _handle(table, EXTERN_TABLE)))


def table_grow(context: Context, table: Extern, delta: int) -> None:
    """Add ``delta`` null slots; raises :class:`Failure` past the table's maximum."""
    _check(lib.pl_table_grow(context, _handle(table, EXTERN_TABLE), delta))


def table_get(context: Context, table: Extern, index: int) -> Func | None:
    """Return the function in a slot, or None if the slot is null or does not exist."""
    func = ffi.new("pl_func *")
    return func if lib.pl_table_get(context, _handle(table, EXTERN_TABLE), index, func) == 1 else None


def table_set(context: Context, table: Extern, index: int, func: Func | None) -> None:
    """Put a function into a slot; None empties it."""
    _check(lib.pl_table_set(context, _handle(table, EXTERN_TABLE), index, ffi.NULL if func is None else func))


# Memories


def memory_new(context: Context, type_address: int) -> Extern:
    """Make a memory of the given ``wasm_memorytype_t``."""
    extern = ffi.new("pl_extern *")
    extern.kind = EXTERN_MEMORY
    _check(lib.pl_memory_new(context, ffi.cast("pl_type *", type_address), ffi.addressof(extern.of, "handle")))
    return extern


def memory_size(context: Context, memory: Extern) -> int:
    """Return the size in bytes."""
    return int(lib.pl_memory_size(context, memory))


def memory_grow(context: Context, memory: Extern, pages: int) -> int:
    """Add ``pages`` pages of 64 KiB and return the size before, in pages; raises :class:`Failure` past the maximum."""
    before = ffi.new("uint64_t *")
    _check(lib.pl_memory_grow(context, memory, pages, before))
    return int(before[0])


def memory_buffer(context: Context, memory: Extern, keep_alive: object) -> memoryview:
    """Return all of a memory as a writable view of bytes.

    ``keep_alive`` (whatever owns the store) lives at least as long as the view. The view does not follow a later growth.
    """
    data = lib.pl_memory_data(context, memory)
    size = lib.pl_memory_size(context, memory)

    def release(_data: object, _owner: object = keep_alive) -> None:
        """Hold the owner until cffi drops the pointer."""

    return memoryview(ffi.buffer(ffi.gc(data, release), size))
