"""What each import of a module means: symbols, cells of the GOT, trampolines, what pylinker provides. Nothing here touches a store."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pylinker.errors import SignatureMismatchError, UndefinedSymbol, UnsupportedError
from pylinker.linker import wasix
from pylinker.linker.hostcalls import host_type, key_of, provided_type, watched
from pylinker.linker.imports import UnknownTypeError
from pylinker.linker.module import (
    Cell,
    Constant,
    Definition,
    Direct,
    HostCall,
    ImportSource,
    LoadedModule,
    OwnTag,
    Plt,
    PythonCall,
    ThreadLocalCell,
    WasiCall,
)
from pylinker.linker.plt import PltEntry
from pylinker.linker.state import LinkerState
from pylinker.native.symbols import Candidates
from pylinker.runtime.outline import HEAP
from pylinker.wasm import WASI_PREVIEW1, ExternType, FuncType, GlobalType, Import, Kind, MemoryType, SymbolFlags, TagType

if TYPE_CHECKING:
    from pylinker.linker.operation import SlotPatch
    from pylinker.linker.plan import LoadPlan
    from pylinker.native.symbols import Resolved

__all__ = ["Resolver", "Scope"]

_WASI = "wasi_snapshot_preview1"
_BASES = frozenset({"__memory_base", "__table_base"})
_BASE = GlobalType("i32", mutable=False)
_NUMBERS = frozenset({"i32", "i64", "f32", "f64"})
_TAGS = frozenset({"__cpp_exception", "__c_longjmp"})
_THROWN = TagType(FuncType(("i32",), ()))
"""What the tags carry: the address of what was thrown."""


class Scope:
    """Where a load's symbols are looked up: functions of the program's user, the global scope, then what the load has reached.

    The core finds a name of the user's first, and leaves the import to the caller.
    """

    __slots__ = ("_candidates", "_modules", "_numbers")

    def __init__(self, state: LinkerState, reached: Sequence[LoadedModule]) -> None:
        known, packed = state.candidates
        local = [module for module in reached if module not in known]
        given = state.imports.candidate
        self._modules: list[LoadedModule | None] = [*([None] if given else []), *state.global_scope, *local]
        self._candidates = Candidates(bytearray(b"".join((given, packed, *[module.candidate for module in local]))))
        self._numbers: dict[LoadedModule, int] | None = None

    def addresses(self) -> array[int]:
        """Where the core's libraries of the modules are, by number; all of them have their records by now."""
        return array("Q", [0 if module is None else module.address for module in self._modules])

    def become_ready(self, module: LoadedModule) -> None:
        """Let modules that come later import from this one directly."""
        if self._numbers is None:
            self._numbers = {each: number for number, each in enumerate(self._modules) if each is not None}
        number = self._numbers.get(module)
        if number is not None:
            self._candidates.set(number, module.candidate)

    def resolve(self, module: LoadedModule) -> tuple[Resolved, Sequence[LoadedModule | None]]:
        """Decide what can be decided by name and type alone; returns that, and the modules it counts by number."""
        resolved = module.outline.native.resolve(self._candidates, module.memory_base, module.table_base)
        modules = self._modules
        for number in resolved.used:
            used = modules[number]
            if used is not None and used is not module:
                module.bound.add(used)
        return resolved, modules

    def lookup(self, name: str) -> Definition | None:
        """Return the first definition of a name in a module, or None."""
        number = self._candidates.find(name)
        found = None if number is None else self._modules[number]
        if number is not None and found is None:  # it is the user's, too
            return LinkerState.lookup(name, [module for module in self._modules if module is not None])
        return None if found is None else found.find(name)


class Resolver:
    """Decides the imports of one module."""

    def __init__(
        self,
        plan: LoadPlan,
        module: LoadedModule,
        scope: Scope,
        undefined: list[UndefinedSymbol],
        patches: list[SlotPatch],
        notes: list[str],
        *,
        bind_now: bool,
    ) -> None:
        self._notes = notes
        self._plan = plan
        self._state = plan.state
        self._module = module
        self._undefined = undefined
        self._patches = patches
        self._bind_now = bind_now
        self._scope = scope
        self._plt: dict[tuple[str, str, FuncType], int] = {}

    def resolve(self) -> None:
        """Decide what all imports mean: most by name and type alone, in the core, the others one by one."""
        module = self._module
        resolved, modules = self._scope.resolve(module)
        module.sources = resolved.sources
        if resolved.late:
            module.plt.decided(resolved.late, modules)
        import_at = module.info.import_at
        module.special = [(index, self.source(import_at(index))) for index in resolved.rest]

    def source(self, wanted: Import) -> ImportSource:
        """Return what one import means."""
        if wanted.kind is Kind.FUNC:
            assert isinstance(wanted.type, FuncType)
            return self._function(wanted, wanted.type)
        if wanted.kind is Kind.GLOBAL:
            assert isinstance(wanted.type, GlobalType)
            return self._global(wanted, wanted.type)
        if wanted.kind is Kind.MEMORY:
            assert isinstance(wanted.type, MemoryType)
            if wanted.type.limits.is64:
                raise UnsupportedError(f"{self._module.name}: 64-bit memories are not supported", module=self._module.name)
        if wanted.kind is Kind.TAG:
            assert isinstance(wanted.type, TagType)
            return self._tag(wanted, wanted.type)
        return self._missing(wanted, wanted.kind.label)

    def _lookup(self, name: str) -> Definition | None:
        return self._scope.lookup(name)

    def _use(self, definition: Definition) -> None:
        if definition.module is not self._module:
            self._module.bound.add(definition.module)

    def _is_weak(self, wanted: Import) -> bool:
        dylink = self._module.info.dylink
        return bool(dylink and dylink.flags_of_import(wanted.module, wanted.name) & SymbolFlags.BINDING_WEAK)

    def _python(self, wanted: Import, type_: FuncType) -> ImportSource:
        imports = self._state.imports
        if self._plan.rehearses:
            imports.check(wanted.module, wanted.name, type_, importer=self._module)
            return PythonCall(wanted.name, type_, b"")
        callback = imports.callback(wanted.module, wanted.name, type_, importer=self._module)
        return PythonCall(wanted.name, type_, callback.source)

    def _function(self, wanted: Import, type_: FuncType) -> ImportSource:
        space, name = wanted.module, wanted.name
        if (space, name) in self._state.imports:
            return self._python(wanted, type_)
        definition = None
        if space == "env" and not self._module.leaves_to_linker(name):
            definition = self._lookup(name)
        if definition is not None:
            return self._function_of_module(wanted, type_, definition)
        found = provided_type(space, name, threaded=self._state.threaded)
        if found is not None and not self._fits(wanted, type_, *found):
            return self._trampoline(wanted, type_, None)
        if space == _WASI and name in WASI_PREVIEW1:
            return WasiCall(name)
        if space == wasix.WASIX and (source := self._wasix(wanted, type_)) is not None:
            return source
        if found is not None:
            return HostCall(key_of(space, name), type_)
        if self._bind_now and not self._is_weak(wanted):
            return self._missing(wanted, "function")
        if self._is_watched(wanted, type_):
            return HostCall(name, type_)
        return self._trampoline(wanted, type_, None)

    def _is_watched(self, wanted: Import, type_: FuncType) -> bool:
        """Whether a library calls another module's function for keys of threads; the linker passes the call on, and notes the key."""
        return wanted.module == "env" and watched(wanted.name) == type_ and not self._module.is_main

    def _function_of_module(self, wanted: Import, type_: FuncType, definition: Definition) -> ImportSource:
        if definition.export.kind is not Kind.FUNC:
            raise self._mismatch(wanted, str(type_), definition)
        if not self._fits(wanted, type_, definition.type, definition.module.name):
            return self._trampoline(wanted, type_, None)
        self._use(definition)
        if definition.module is not self._module and self._is_watched(wanted, type_):
            return HostCall(wanted.name, type_)
        if definition.module.ready:
            return Direct(definition)
        return self._trampoline(wanted, type_, definition)

    def _trampoline(self, wanted: Import, type_: FuncType, definition: Definition | None) -> ImportSource:
        """Return a call that is bound when it is made; without a definition it is an error then, which says why."""
        key = (wanted.module, wanted.name, type_)
        if key not in self._plt:
            self._plt[key] = len(self._module.plt)
            self._module.plt.append(PltEntry(wanted.module, wanted.name, type_, definition))
            if definition is not None:
                target, export = definition
                self._plan.aim_later(self._module, self._plt[key], target, target.outline.position(export.name))
        return Plt(self._plt[key])

    def _fits(self, wanted: Import, type_: FuncType, found: ExternType, provider: str) -> bool:
        """Whether a function has the type that it is imported with; SignatureMismatchError if calls are bound now."""
        if self._bind_now:
            self._same(wanted, type_, found, provider)
        return type_ == found

    def _wasix(self, wanted: Import, type_: FuncType) -> ImportSource | None:
        """Return what a function of WASIX comes from: one that is there, or one that says it is not; None if no function can be made."""
        source = wasix.source_of(wanted.name, type_)
        if source is None and not self._bind_now and {*type_.params, *type_.results} <= _NUMBERS:
            return HostCall(wasix.UNSUPPORTED, type_)
        return source

    def _global(self, wanted: Import, type_: GlobalType) -> ImportSource:
        if wanted.module == "GOT.mem":
            return self._data_cell(wanted, type_)
        if wanted.module == "GOT.func":
            return self._function_cell(wanted, type_)
        if wanted.module == "env":
            if wanted.name == "__stack_pointer":
                self._same(wanted, type_, GlobalType("i32", mutable=True), "pylinker")  # raises: the right one is decided by the core
            if wanted.name in _BASES:
                self._same(wanted, type_, _BASE, "pylinker")
                return Constant(self._module.memory_base if wanted.name == "__memory_base" else self._module.table_base)
            definition = self._lookup(wanted.name)
            if definition is not None and definition.module.ready:
                self._same(wanted, type_, definition.type, definition.module.name)
                self._use(definition)
                return Direct(definition)
        return self._missing(wanted, "global")

    def _data_cell(self, wanted: Import, type_: GlobalType) -> ImportSource:
        self._same(wanted, type_, GlobalType("i32", mutable=True), "pylinker")
        definition = self._lookup(wanted.name)
        heap = wanted.name in HEAP and self._state.heap.owner is not self._module
        if definition is None or (heap and definition.module is self._state.heap.owner):
            value = self._linker_symbol(wanted.name)
            if value is not None:
                return Cell(wanted.name, value)
            if self._is_weak(wanted):
                return Cell(wanted.name, 0)
            return self._missing(wanted, "data")
        value = definition.module.data_value(definition.export) if definition.export.kind is Kind.GLOBAL else None
        if value is None:
            raise self._mismatch(wanted, "data", definition)
        self._use(definition)
        if definition.module.is_thread_local(definition.export):
            return ThreadLocalCell(definition.module, value)
        return Cell(wanted.name, value)

    def _linker_symbol(self, name: str) -> int | None:
        """Return the address of a symbol that the linker defines: where stack, data and heap are."""
        if name not in HEAP:
            return self._state.linker_symbols.get(name)
        heap = self._module.heap
        return None if heap is None else heap[name == "__heap_end"]

    def _function_cell(self, wanted: Import, type_: GlobalType) -> ImportSource:
        self._same(wanted, type_, GlobalType("i32", mutable=True), "pylinker")
        if ("env", wanted.name) in self._state.imports:
            return self._host_cell(wanted)
        definition = None if self._module.leaves_to_linker(wanted.name) else self._lookup(wanted.name)
        if definition is None:
            type_of_function = host_type("env", wanted.name)
            if type_of_function is not None:
                return Cell(wanted.name, self._plan.pointers.provided(wanted.name, type_of_function))
            if self._is_weak(wanted):
                return Cell(wanted.name, 0)
            return self._missing(wanted, "function pointer")
        if definition.export.kind is not Kind.FUNC:
            raise self._mismatch(wanted, "function", definition)
        self._use(definition)
        return Cell(wanted.name, self._plan.slot_for(definition, self._patches))

    def _host_cell(self, wanted: Import) -> ImportSource:
        everything = (*self._state.modules, *self._plan.new)
        try:
            return Cell(wanted.name, self._plan.pointers.slot_for(wanted.name, importer=self._module, modules=everything))
        except UnknownTypeError as error:
            self._notes.append(str(error))
            return self._missing(wanted, "function pointer")

    def _tag(self, wanted: Import, type_: TagType) -> ImportSource:
        definition = self._lookup(wanted.name) if wanted.module == "env" else None
        if definition is not None:
            self._same(wanted, type_, definition.type, definition.module.name)
            if definition.module.ready:
                self._use(definition)
                return Direct(definition)
        if wanted.module == "env" and wanted.name in _TAGS:
            self._same(wanted, type_, _THROWN, "the linker")
            tag = OwnTag(wanted.name, type_)
            if not self._plan.rehearses:
                self._state.tags.setdefault(tag, len(self._state.tags))
            return tag
        return self._missing(wanted, "tag")

    def _missing(self, wanted: Import, kind: str) -> ImportSource:
        name = wanted.name if wanted.module in ("env", "GOT.mem", "GOT.func") else f"{wanted.module}.{wanted.name}"
        self._undefined.append(UndefinedSymbol(self._module.name, name, kind))
        return Constant(0)

    def _same(self, wanted: Import, type_: object, found: object, provider: str) -> None:
        if type_ != found or type(type_) is not type(found):
            raise SignatureMismatchError(
                module=self._module.name, symbol=wanted.name, wanted=str(type_), provider=provider, found=str(found)
            )

    def _mismatch(self, wanted: Import, what: str, definition: Definition) -> SignatureMismatchError:
        kind = definition.export.kind
        found = "data" if kind is Kind.GLOBAL else kind.label
        return SignatureMismatchError(
            module=self._module.name, symbol=wanted.name, wanted=what, provider=definition.module.name, found=found
        )
