"""Objects of wasmtime: stores, instances, globals, tables, memories (``csrc/wrappers.h``, ``csrc/call.h``)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from pylinker.errors import InternalError
from pylinker.native.core import U32, ffi, lib
from pylinker.native.enums import ExternKind
from pylinker.native.failures import Failure, check, new_failure

if TYPE_CHECKING:
    from pylinker._core import (
        pl_context_p,
        pl_extern_p,
        pl_func_p,
        pl_handle_p,
        pl_instance_p,
        pl_store_p,
        pl_value,
        pl_value_p,
    )

__all__ = [
    "Context",
    "Extern",
    "Func",
    "Instance",
    "Store",
    "Value",
    "Values",
    "context_at",
    "export",
    "extern_of_shared_memory",
    "func_of",
    "global_get",
    "global_new",
    "global_set",
    "imports_of",
    "instantiate",
    "memory_buffer",
    "memory_grow",
    "memory_new",
    "memory_size",
    "same_function",
    "set_types",
    "table_get",
    "table_grow",
    "table_new",
    "table_set",
    "table_size",
    "u32s",
    "values",
]

Context: TypeAlias = "pl_context_p"
Instance: TypeAlias = "pl_instance_p"
Extern: TypeAlias = "pl_extern_p"
Func: TypeAlias = "pl_func_p"
Value: TypeAlias = "pl_value"
Values: TypeAlias = "pl_value_p"


def context_at(address: int) -> Context:
    """Return the store context at ``address`` (a ``wasmtime_context_t *``)."""
    return ffi.cast("pl_context *", address)


def values(count: int) -> Values:
    """Return room for ``count`` raw values (16 bytes each, zeroed)."""
    return ffi.new("pl_value[]", count)


_U32S = [struct.Struct("=" + "I12x" * count) for count in range(9)]


def u32s(raw: Values, count: int) -> tuple[int, ...]:
    """Return the first ``count`` (at most 8) raw values as unsigned numbers of 32 bits."""
    unpacked: tuple[int, ...] = _U32S[count].unpack(ffi.buffer(raw, count * 16))
    return unpacked


class Store:
    """A store of an engine, with bounds for each memory (bytes) and table (slots), negative for none. Freed with the object."""

    __slots__ = ("_pointer", "address", "context")

    def __init__(
        self, engine_address: int, *, memory: int, table: int, made: pl_store_p | None = None
    ) -> None:
        if made is None:
            made = lib.pl_store_new(ffi.cast("pl_engine *", engine_address), memory, table)
        self._pointer = ffi.gc(made, lib.pl_store_free)
        self.address = int(ffi.cast("uintptr_t", self._pointer))
        self.context: Context = lib.pl_store_context(self._pointer)


def extern_of_shared_memory(address: int) -> Extern:
    """Wrap a ``wasmtime_sharedmemory_t *`` as something that can be imported; the caller keeps the memory alive."""
    extern = ffi.new("pl_extern *")
    extern.kind = ExternKind.SHARED_MEMORY
    extern.of.shared_memory = ffi.cast("pl_shared_memory *", address)
    return extern


def func_of(extern: Extern) -> Func:
    """Return the function inside an extern; it stays valid on its own."""
    if extern.kind != ExternKind.FUNC:
        raise InternalError(f"extern of kind {extern.kind} is not a function")
    return ffi.new("pl_func *", extern.of.func)


def imports_of(externs: Sequence[Extern]) -> Extern:
    """Pack externs into the array that :func:`instantiate` takes."""
    packed = ffi.new("pl_extern[]", len(externs))
    for index, extern in enumerate(externs):
        packed[index] = extern[0]
    return packed


def instantiate(context: Context, module_address: int, externs: Sequence[Extern]) -> Instance:
    """Instantiate a compiled module with imports in its own order.

    Blocks while its start function runs.
    """
    instance = ffi.new("pl_instance *")
    failure = new_failure()
    module = ffi.cast("pl_module *", module_address)
    if lib.pl_instance_new(context, module, imports_of(externs), len(externs), instance, failure):
        raise Failure(failure)
    return instance


def export(context: Context, instance: Instance, name: str) -> Extern | None:
    """Return the export called ``name``, or None."""
    extern = ffi.new("pl_extern *")
    encoded = name.encode()
    return (
        extern if lib.pl_instance_export(context, instance, encoded, len(encoded), extern) else None
    )


def _signed(value: int) -> int:
    """Return the 32-bit pattern of ``value`` as C's int32_t."""
    value &= U32 - 1
    return value - U32 if value >> 31 else value


def _handle(extern: Extern, kind: int) -> pl_handle_p:
    if extern.kind != kind:
        raise InternalError(f"extern of kind {extern.kind} where {kind} is meant")
    handle: pl_handle_p = ffi.addressof(extern.of, "handle")
    return handle


def global_new(context: Context, type_address: int, value: int) -> Extern:
    """Make an i32 global of the given ``wasm_globaltype_t`` that holds the 32 bits of ``value``."""
    extern = ffi.new("pl_extern *")
    extern.kind = ExternKind.GLOBAL
    handle = ffi.addressof(extern.of, "handle")
    check(
        lib.pl_global_new_i32(context, ffi.cast("pl_type *", type_address), _signed(value), handle)
    )
    return extern


def global_get(context: Context, extern: Extern) -> int:
    """Return the value of an i32 global, unsigned."""
    return lib.pl_global_get_i32(context, _handle(extern, ExternKind.GLOBAL)) & (U32 - 1)


def global_set(context: Context, extern: Extern, value: int) -> None:
    """Store the 32 bits of ``value`` in a mutable i32 global."""
    check(lib.pl_global_set_i32(context, _handle(extern, ExternKind.GLOBAL), _signed(value)))


def table_new(context: Context, type_address: int) -> Extern:
    """Make a table of the given ``wasm_tabletype_t`` with all slots null."""
    extern = ffi.new("pl_extern *")
    extern.kind = ExternKind.TABLE
    check(
        lib.pl_table_new(
            context, ffi.cast("pl_type *", type_address), ffi.addressof(extern.of, "handle")
        )
    )
    return extern


def table_size(context: Context, table: Extern) -> int:
    """Return the number of slots."""
    return lib.pl_table_size(context, _handle(table, ExternKind.TABLE))


def table_grow(context: Context, table: Extern, delta: int) -> None:
    """Add ``delta`` null slots; raises :class:`Failure` past the table's maximum."""
    check(lib.pl_table_grow(context, _handle(table, ExternKind.TABLE), delta))


def same_function(one: Func, other: Func) -> bool:
    """Whether two are one function of one store."""
    return bytes(ffi.buffer(one)) == bytes(ffi.buffer(other))


def table_get(context: Context, table: Extern, index: int) -> Func | None:
    """Return the function in a slot, or None if the slot is null or does not exist."""
    func = ffi.new("pl_func *")
    return (
        func
        if lib.pl_table_get(context, _handle(table, ExternKind.TABLE), index, func) == 1
        else None
    )


def table_set(context: Context, table: Extern, index: int, func: Func | None) -> None:
    """Put a function into a slot; None empties it."""
    check(
        lib.pl_table_set(
            context, _handle(table, ExternKind.TABLE), index, ffi.NULL if func is None else func
        )
    )


def memory_new(context: Context, type_address: int) -> Extern:
    """Make a memory of the given ``wasm_memorytype_t``."""
    extern = ffi.new("pl_extern *")
    extern.kind = ExternKind.MEMORY
    check(
        lib.pl_memory_new(
            context, ffi.cast("pl_type *", type_address), ffi.addressof(extern.of, "handle")
        )
    )
    return extern


def memory_size(context: Context, memory: Extern) -> int:
    """Return the size in bytes."""
    return lib.pl_memory_size(context, memory)


def memory_grow(context: Context, memory: Extern, pages: int) -> int:
    """Add ``pages`` pages of 64 KiB and return the size before, in pages; raises :class:`Failure` past the maximum."""
    before = ffi.new("uint64_t *")
    check(lib.pl_memory_grow(context, memory, pages, before))
    return int(before[0])


def memory_buffer(context: Context, memory: Extern, keep_alive: object) -> memoryview:
    """Return all of a memory as a writable view of bytes.

    ``keep_alive`` (whatever owns the store) lives at least as long as the view. The view does not
    follow a later growth.
    """
    data = lib.pl_memory_data(context, memory)
    size = lib.pl_memory_size(context, memory)

    def release(_data: object, _owner: object = keep_alive) -> None:
        """Hold the owner until cffi drops the pointer."""

    return memoryview(ffi.buffer(ffi.gc(data, release), size))


def set_types(*, cell: int, constant: int, resolve: int, waits: Sequence[int]) -> None:
    """Tell the core the types it makes objects of, by address; they stay as long as the process."""
    types = ffi.new("pl_types *")
    types.cell, types.constant, types.resolve = (
        ffi.cast("pl_type *", each) for each in (cell, constant, resolve)
    )
    for index, each in enumerate(waits):
        types.waits[index] = ffi.cast("pl_type *", each)
    lib.pl_types_set(types)
