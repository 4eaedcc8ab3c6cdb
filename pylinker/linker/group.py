"""InstanceGroup: one instance of every module, in one store, with one function table, over the program's memory.

A group carries operations out (:meth:`InstanceGroup.apply`); it decides nothing. What differs between groups is here: instances,
table contents, stack, thread-local blocks. One thread at a time uses a group.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import wasmtime

from pylinker.errors import InitializationError, InternalError, LimitError, LinkError, NotDynamicError, UnsupportedError
from pylinker.linker.module import (
    Cell,
    Constant,
    Direct,
    GroupObject,
    HostCall,
    OwnTag,
    Plt,
    ThreadLocalCell,
    WasiCall,
)
from pylinker.linker.operation import AllocateFunctionTable, LoadModules, ResolveFunction, UnloadModule
from pylinker.runtime.failures import summary
from pylinker.runtime.store import PAGE_SIZE
from pylinker.wasm import FuncType, GlobalType, Kind, Limits, MemoryType, invoker_module, trampoline_module

if TYPE_CHECKING:
    from pylinker._native import Extern, Func, HostFunction, Instance, Values
    from pylinker.linker.module import Definition, ImportSource, LoadedModule
    from pylinker.linker.operation import DlOperation, SlotPatch, ThreadLocalBlock
    from pylinker.runtime.code import CodeCache
    from pylinker.runtime.store import GuestStore
    from pylinker.runtime.wasi import Wasi
    from pylinker.sync import InstanceGroupState
    from pylinker.wasm import TagType

__all__ = ["HostCalls", "InstanceGroup"]

logger = logging.getLogger("pylinker.linker")

_NOTHING = FuncType((), ())
_RESOLVE = FuncType(("i32",), ())
_ONE_ADDRESS = FuncType(("i32",), ())
_MUTABLE_ADDRESS = GlobalType("i32", mutable=True)

HostCalls = Callable[["LoadedModule | None", str], Callable[["Values"], None]]
"""Answers the function behind a HostCall (by its name), or behind ``resolve``, for one module; ``finalize`` is no module's."""


class _ModuleInstance:
    """One module in this group."""

    __slots__ = ("exports", "host_functions", "instance", "resolver", "tls_base", "trampolines")

    def __init__(self) -> None:
        self.instance: Instance = None
        self.trampolines: Instance = None
        self.resolver: HostFunction | None = None
        self.host_functions: list[HostFunction] = []
        self.exports: dict[str, Extern] = {}
        self.tls_base = 0


class InstanceGroup:
    """The instances of one thread.

    ``state`` is its part in the rendezvous, ``stack`` the address and size (bytes) of a stack that is its own, ``dl_error`` what
    ``dlerror`` answers next and ``dl_error_address`` where it puts that. ``memory``, ``table`` and ``stack_pointer`` are made by the
    linker, or taken from the main module once it is instantiated. ``host_calls`` connects what the linker provides to the guest.
    """

    def __init__(
        self, state: InstanceGroupState[DlOperation], store: GuestStore, wasi: Wasi, cache: CodeCache, host_calls: HostCalls
    ) -> None:
        self.state = state
        self.store = store
        self._wasi = wasi
        self._cache = cache
        self._host_calls = host_calls
        self._memory: Extern | None = None
        self.memory_is_shared = False
        self.stack = (0, 0)
        self.is_replaying = False
        self.dl_error: str | None = None
        self.dl_error_address = 0
        self._table: Extern | None = None
        self._stack_pointer: Extern | None = None
        self._instances: dict[LoadedModule, _ModuleInstance] = {}
        self._cells: dict[tuple[str, int], Extern] = {}
        self._tags: dict[tuple[str, TagType], Extern] = {}
        self._invoker: Instance | None = None

    def __repr__(self) -> str:
        return f"<InstanceGroup of {len(self._instances)} modules>"

    # What all instances share

    def make_memory(self, type_: MemoryType) -> None:
        """Make the memory, for a program whose modules import it."""
        try:
            self._memory = self.store.new_memory(type_)
        except wasmtime.WasmtimeError as error:
            raise LimitError(f"no memory of {type_} pages can be made: {summary(error)}") from error
        self._connect(shared=type_.limits.shared)

    def share_memory(self, other: InstanceGroup) -> None:
        """Use the shared memory of another group."""
        self._memory = other.memory
        self._connect(shared=True)

    def _connect(self, *, shared: bool) -> None:
        assert self._memory is not None
        self.memory_is_shared = shared
        self._wasi.connect(self._memory, shared=shared)

    def make_table(self, limits: Limits) -> None:
        """Make the function table, for a program whose modules import it."""
        try:
            self._table = self.store.new_table(limits)
        except wasmtime.WasmtimeError as error:
            raise LimitError(f"no table of {limits} slots can be made: {summary(error)}") from error

    def make_stack_pointer(self, value: int) -> None:
        """Make the stack pointer, for a program whose modules import it."""
        self._stack_pointer = self.store.new_global(value, mutable=True)

    def adopt(self, main: LoadedModule) -> None:
        """Take memory, table and stack pointer from an instantiated main module where it defines and exports them."""
        exports = main.info.exports
        if self._memory is None:
            export = exports.get("memory")
            if export is not None and export.kind is Kind.MEMORY:
                type_ = main.info.export_type(export)
                assert isinstance(type_, MemoryType)
                self._memory = self.export(main, "memory")
                self._connect(shared=type_.limits.shared)
        if self._table is None:
            export = exports.get("__indirect_function_table")
            if export is not None and export.kind is Kind.TABLE:
                self._table = self.export(main, export.name)
        if self._stack_pointer is None:
            export = exports.get("__stack_pointer")
            if export is not None and main.info.export_type(export) == _MUTABLE_ADDRESS:
                self._stack_pointer = self.export(main, export.name)

    @property
    def memory(self) -> Extern:
        """The program's memory; NotDynamicError if the main module keeps it to itself."""
        return self._shared(self._memory, "memory", "-Wl,--export-memory")

    @property
    def table(self) -> Extern:
        """The function table; NotDynamicError if the main module keeps it to itself."""
        return self._shared(self._table, "function table", "-Wl,--export-table -Wl,--growable-table")

    def _shared(self, extern: Extern | None, what: str, flags: str) -> Extern:
        if extern is None:
            main = next((module.name for module in self._instances if module.is_main), None)
            raise NotDynamicError(
                f"{main or 'the main module'} does not export its {what}, so libraries cannot use it; link it with {flags}",
                module=main,
            )
        return extern

    @property
    def table_size(self) -> int:
        """Slots of the table, 0 if there is none."""
        return self.store.table_size(self._table) if self._table is not None else 0

    @property
    def memory_size(self) -> int:
        """Bytes of the memory, 0 if there is none."""
        return self.store.memory_size(self._memory) if self._memory is not None else 0

    def grow_memory(self, pages: int) -> int | None:
        """Add pages of 64 KiB; returns the first new address, or None if the memory cannot grow that far."""
        try:
            return self.store.memory_grow(self.memory, pages) * PAGE_SIZE
        except wasmtime.WasmtimeError:
            return None

    @property
    def has_table(self) -> bool:
        """Whether there is a table that libraries can use."""
        return self._table is not None

    @property
    def stack_top(self) -> int | None:
        """The stack pointer, or None if there is none to be seen."""
        return self.store.global_get(self._stack_pointer) if self._stack_pointer is not None else None

    @stack_top.setter
    def stack_top(self, value: int | None) -> None:
        if self._stack_pointer is not None and value is not None:
            self.store.global_set(self._stack_pointer, value)

    # Carrying out operations

    def apply(self, operation: DlOperation) -> None:
        """Carry an operation out. On failure the caller undoes the rest of a load with :meth:`forget`."""
        logger.debug("%r", operation)
        if isinstance(operation, LoadModules):
            self._grow_table(operation.table_size)
            blocks = {block.module: block for block in operation.blocks if block.group == self.state.number}
            for module in operation.modules:
                self._instantiate(module, blocks.get(module))
            for patch in operation.patches:
                self._set_slot(patch.slot, patch.definition)
        elif isinstance(operation, ResolveFunction):
            self._grow_table(operation.table_size)
            self._set_slot(operation.patch.slot, operation.patch.definition)
        elif isinstance(operation, AllocateFunctionTable):
            self._grow_table(operation.table_size)
            if operation.finalizer is not None:
                self.place_host_function(operation.finalizer, _ONE_ADDRESS, self._host_calls(None, "finalize"))
        else:
            assert isinstance(operation, UnloadModule)
            for slot in operation.slots:
                if self._table is not None and slot < self.store.table_size(self._table):
                    self.store.table_set(self._table, slot, None)
            for module, index in operation.unbind:
                self._unbind(module, index)
            for module in operation.modules:
                self._forget(module)

    def replay(self, number: int, operation: DlOperation) -> None:
        """Carry out an operation that another group has decided. InternalError if this group's table disagrees with the leader's.

        A group that was parked may replay the load of a module that has been unloaded since. Its memory may be another's by now, so it
        must not be instantiated; whatever else concerns it comes to nothing as well.
        """
        logger.debug("group %d replays operation %d", self.state.number, number)
        operation = _without_gone(operation)
        self.is_replaying = True
        try:
            self._replay(number, operation)
        finally:
            self.is_replaying = False

    def _replay(self, number: int, operation: DlOperation) -> None:
        for patch in self._patches(operation):
            if patch.slot < self.table_size and self.store.table_get(self.table, patch.slot) is not None:
                raise InternalError(
                    f"operation {number}: slot {patch.slot} is free in the leader's table, but taken in group {self.state.number}"
                )
        self.apply(operation)

    @staticmethod
    def _patches(operation: DlOperation) -> tuple[SlotPatch, ...]:
        if isinstance(operation, LoadModules):
            return operation.patches
        return (operation.patch,) if isinstance(operation, ResolveFunction) else ()

    def _grow_table(self, size: int) -> None:
        if self._table is None:
            return
        missing = size - self.store.table_size(self._table)
        if missing > 0:
            try:
                self.store.table_grow(self._table, missing)
            except wasmtime.WasmtimeError as error:
                raise NotDynamicError(
                    f"the main module's table cannot grow to {size} slots: link it with -Wl,--growable-table ({error})"
                ) from error

    def _set_slot(self, slot: int, definition: Definition) -> None:
        self.store.table_set(self.table, slot, self.function(definition.module, definition.export.name))

    def _instantiate(self, module: LoadedModule, block: ThreadLocalBlock | None) -> None:
        record = _ModuleInstance()
        self._instances[module] = record
        if module.plt:
            data = trampoline_module([(entry.name, entry.type) for entry in module.plt])
            code = self._cache.load(data, name=f"trampolines of {module.name}")
            record.resolver = self.store.new_host_function(_RESOLVE, self._host_calls(module, "resolve"))
            record.trampolines = self.store.instantiate(code, [record.resolver.extern])
        externs = [self._extern(module, record, source) for source in module.sources]
        try:
            assert module.code is not None
            record.instance = self.store.instantiate(module.code, externs)
        except wasmtime.ExitTrap:
            raise
        except wasmtime.Trap as error:
            raise InitializationError(f"{module.name}: trap while it was instantiated: {summary(error)}", module=module.name) from error
        except wasmtime.WasmtimeError as error:
            text = " ".join(str(error).split())
            raise LinkError(f"{module.name}: cannot be instantiated: {text}", module=module.name) from error
        if module.is_main:
            self.adopt(module)
        self._start_thread_locals(module, block)
        logger.debug("instantiated %r", module)

    def _extern(self, module: LoadedModule, record: _ModuleInstance, source: ImportSource) -> Extern:
        if isinstance(source, Direct):
            return self.export(source.definition.module, source.definition.export.name)
        if isinstance(source, Plt):
            trampoline = self.store.export(record.trampolines, f"t{source.index}")
            assert trampoline is not None
            return trampoline
        if isinstance(source, Cell):
            key = (source.name, source.value)
            if key not in self._cells:
                self._cells[key] = self.store.new_global(source.value, mutable=True)
            return self._cells[key]
        if isinstance(source, ThreadLocalCell):
            base = self.tls_base(source.module) if self.has(source.module) else 0
            if not base:
                raise UnsupportedError(
                    f"{module.name}: thread-local data of {source.module.name} is used before it exists", module=module.name
                )
            return self.store.new_global(base + source.offset, mutable=True)
        if isinstance(source, WasiCall):
            return self._wasi.function(source.name)
        if isinstance(source, HostCall):
            host = self.store.new_host_function(source.type, self._host_calls(module, source.name))
            record.host_functions.append(host)
            return host.extern
        if isinstance(source, GroupObject):
            return self._group_object(module, source.what)
        if isinstance(source, Constant):
            return self.store.new_global(source.value, mutable=False)
        assert isinstance(source, OwnTag)
        tag = (source.name, source.type)
        if tag not in self._tags:
            self._tags[tag] = self.store.new_tag(source.type)
        return self._tags[tag]

    def _group_object(self, module: LoadedModule, what: str) -> Extern:
        if what == "memory":
            return self.memory
        if what == "table":
            return self.table
        if self._stack_pointer is None:
            raise NotDynamicError(
                f"{module.name} needs the stack, but the main module does not export it; link it with -Wl,--export=__stack_pointer",
                module=module.name,
            )
        return self._stack_pointer

    def _forget(self, module: LoadedModule) -> None:
        """Drop a module's instance (wasmtime frees it with the store)."""
        record = self._instances.pop(module, None)
        if record is None:
            return
        for host in (record.resolver, *record.host_functions):
            if host is not None:
                self.store.keep(host)
                host.release()

    # Life of a module

    def relocate(self, module: LoadedModule) -> None:
        """Apply a module's relocations. Runs guest code of the module."""
        for name in ("__wasm_apply_data_relocs", "__wasm_apply_tls_relocs"):
            self._run(module, name)

    def _start_thread_locals(self, module: LoadedModule, block: ThreadLocalBlock | None) -> None:
        """Give the module its thread-local block of this group, unless it uses its initial copy.

        The start function of a threaded module initialises memory in its first instance only, and points ``__tls_base`` of that instance
        at the initial copy of the block: what wasm-ld means for the main thread serves the group that loads the module. In any other
        group the start function does nothing, and the block is ours to make (tool-conventions, Linking.md, "Thread Local Storage").
        """
        if block is None:
            return
        name = module.thread_local_initializer
        if name is None or not module.lifecycle_function(name, _ONE_ADDRESS):
            raise InternalError(f"{module.name} has a thread-local block and no way to initialise it")
        self.call(self.function(module, name), block.address)
        self._instances[module].tls_base = block.address
        self._run(module, "__wasm_apply_tls_relocs")

    def construct(self, module: LoadedModule) -> None:
        """Run a module's constructors."""
        if not self._run(module, "_initialize"):
            self._run(module, "__wasm_call_ctors")

    def _run(self, module: LoadedModule, name: str) -> bool:
        if not module.lifecycle_function(name, _NOTHING):
            return False
        logger.debug("calling %s of %s", name, module.name)
        try:
            self.call(self.function(module, name))
        except wasmtime.Trap as error:
            raise InitializationError(f"{module.name}: {name} trapped: {summary(error)}", module=module.name, symbol=name) from error
        return True

    # Access

    def instance_of(self, module: LoadedModule) -> _ModuleInstance:
        """Return the group's record of a module."""
        try:
            return self._instances[module]
        except KeyError:
            raise InternalError(f"{module.name} has no instance in this group") from None

    def has(self, module: LoadedModule) -> bool:
        """Whether a module is instantiated in this group."""
        record = self._instances.get(module)
        return record is not None and record.instance is not None

    def empty_slot(self, slot: int) -> None:
        """Empty a table slot."""
        self.store.table_set(self.table, slot, None)

    def place_host_function(self, slot: int, type_: FuncType, function: Callable[[Values], None]) -> None:
        """Make a host function that lives as long as the store, and put it into a table slot."""
        host = self.store.new_host_function(type_, function)
        self.store.keep(host)
        self.store.table_set(self.table, slot, self.store.func_of(host.extern))

    def export(self, module: LoadedModule, name: str) -> Extern:
        """Return an export of a module's instance."""
        record = self.instance_of(module)
        extern = record.exports.get(name)
        if extern is None:
            extern = self.store.export(record.instance, name)
            if extern is None:
                raise InternalError(f"{module.name} has lost its export {name}")
            record.exports[name] = extern
        return extern

    def function(self, module: LoadedModule, name: str) -> Func:
        """Return an exported function of a module's instance."""
        return self.store.func_of(self.export(module, name))

    def tls_base(self, module: LoadedModule) -> int:
        """Return the address of the module's thread-local block in this group, 0 if it has none.

        The module's own ``__tls_base`` knows best: a guest thread may bring a block of its own for main.
        """
        base = module.info.exports.get("__tls_base")
        if base is None or base.kind is not Kind.GLOBAL or module.info.export_type(base) != _MUTABLE_ADDRESS:
            return self.instance_of(module).tls_base
        return self.store.global_get(self.export(module, "__tls_base"))

    def bind(self, module: LoadedModule, index: int, definition: Definition) -> None:
        """Let PLT entry ``index`` of a module lead straight to a definition."""
        record = self.instance_of(module)
        table = self.store.export(record.trampolines, "plt")
        assert table is not None
        self.store.table_set(table, index, self.function(definition.module, definition.export.name))
        logger.debug("binding %s: %s -> %r", module.name, module.plt[index].name, definition)

    def _unbind(self, module: LoadedModule, index: int) -> None:
        """Put the lazy stub back into PLT entry ``index``."""
        record = self._instances.get(module)
        if record is None or record.trampolines is None:
            return
        table = self.store.export(record.trampolines, "plt")
        stub = self.store.export(record.trampolines, f"s{index}")
        assert table is not None
        assert stub is not None
        self.store.table_set(table, index, self.store.func_of(stub))

    def resolver_entries(self, module: LoadedModule) -> int:
        """Return how often calls of this module had to be resolved."""
        resolver = self.instance_of(module).resolver
        return resolver.entries if resolver else 0

    def call(self, func: Func, *arguments: int) -> int:
        """Call a function of i32 parameters; like :meth:`call_raw`."""
        top = self.stack_top
        try:
            return self.store.call_plain(func, *arguments)
        except BaseException:
            self.stack_top = top
            raise

    def call_raw(self, func: Func, raw: Values, count: int) -> None:
        """Call a function with raw values. A trap or an exit leaves the stack pointer as it was before the call."""
        top = self.stack_top
        try:
            self.store.call(func, raw, count)
        except BaseException:
            self.stack_top = top
            raise

    def call_slot(self, slot: int, *arguments: int) -> None:
        """Call a function pointer of the guest's, with at most one argument, for no result.

        A null or foreign one, or one of another type, raises Trap as it would in the guest: the host's own calls check nothing.
        """
        if self._invoker is None:
            self._invoker = self.store.instantiate(self._cache.load(invoker_module(), name="invoker"), [self.table])
        invoke = self.store.export(self._invoker, "call_with" if arguments else "call")
        assert invoke is not None
        self.call(self.store.func_of(invoke), slot, *arguments)


def _without_gone(operation: DlOperation) -> DlOperation:
    """Return what is left of an operation without modules that were unloaded since. Under a read lock: the state does not change."""
    if isinstance(operation, LoadModules):
        return LoadModules(
            tuple(module for module in operation.modules if not module.gone),
            operation.table_size,
            tuple(patch for patch in operation.patches if not patch.definition.module.gone),
            tuple(block for block in operation.blocks if not block.module.gone),
        )
    if isinstance(operation, ResolveFunction) and operation.patch.definition.module.gone:
        return AllocateFunctionTable(operation.table_size)
    return operation
