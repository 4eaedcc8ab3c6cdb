"""Resolution of imports: symbols, GOT entries, PLT entries, functions that pylinker provides.

Nothing here touches a store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from pylinker.errors import SignatureMismatchError, UndefinedSymbol, UnsupportedError
from pylinker.linker.guests import wasix
from pylinker.linker.guests.table import host_type, key_of, provided_type, watched
from pylinker.linker.modules.module import (
    Constant,
    Definition,
    ExportRef,
    GotEntry,
    GroupTag,
    HostCall,
    ImportSource,
    LoadedModule,
    PltEntry,
    PltSlot,
    PythonCall,
    ThreadLocalGotEntry,
    WasiCall,
)
from pylinker.linker.plan.imports import UnknownTypeError
from pylinker.native.enums import SymbolKind
from pylinker.runtime.outline import HEAP, PRIVATE_GLOBALS, SYMBOL_SPACES
from pylinker.runtime.wasi import WASI_MODULE
from pylinker.wasm import (
    GOT_FUNC,
    GOT_MEM,
    WASI_PREVIEW1,
    ExternType,
    FuncType,
    GlobalType,
    Import,
    Kind,
    MemoryType,
    SymbolFlags,
    TagType,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pylinker.linker.modules.scope import LoadScope
    from pylinker.linker.plan.imports import NewPointers
    from pylinker.linker.plan.operation import SlotPatch
    from pylinker.linker.plan.state import LinkerState
    from pylinker.native.symbols import Resolved

__all__ = ["Bindings", "Resolver", "Symbol"]

_GOT_ENTRY = GlobalType("i32", mutable=True)
_NUMBERS = frozenset({"i32", "i64", "f32", "f64"})
_TAGS = frozenset({"__cpp_exception", "__c_longjmp"})
_THROWN = TagType(FuncType(("i32",), ()))
"""The type of the tags: they carry the address of the thrown object."""


class Symbol(NamedTuple):
    """An import that is a symbol."""

    number: int
    """The number of the import."""
    wanted: Import
    """The import."""
    definition: Definition | None
    """Its definition.

    None if it is undefined, if the user provides it, or if it is left to the linker.
    """
    is_host_import: bool
    """Whether the user provides it."""
    is_left_to_linker: bool
    """Whether it is left to the linker: the registration of destructors."""


class Bindings(Protocol):
    """The load, as its resolvers use it."""

    @property
    def state(self) -> LinkerState:
        """The state of the program, which the resolvers only read."""

    @property
    def new(self) -> list[LoadedModule]:
        """The modules of the load that were not loaded before."""

    @property
    def pointers(self) -> NewPointers:
        """The pointers to functions of the host that the load creates."""

    @property
    def is_dry_run(self) -> bool:
        """Whether no decision is kept."""

    def slot_for(self, definition: Definition, patches: list[SlotPatch]) -> int:
        """Return the slot of a function, a new one if it has none."""

    def set_target_later(
        self, module: LoadedModule, index: int, target: LoadedModule, position: int
    ) -> None:
        """Set the target of a PLT entry once the modules of the load have their records."""


class Resolver:
    """Binds the imports of one module."""

    unbound: list[int]
    """The weak undefined imports, by number; functions only if calls are bound at load."""

    def __init__(
        self,
        plan: Bindings,
        module: LoadedModule,
        scope: LoadScope,
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
        self._resolved: Resolved
        self.unbound = []
        self._plt: dict[tuple[str, str, FuncType], int] = {}

    def look_up(self) -> Sequence[LoadedModule | None]:
        """Look up all imports, and return the modules of the scope by number.

        The core has then decided all imports but :attr:`rest`.
        """
        self._resolved, modules = self._scope.resolve(self._module)
        return modules

    @property
    def rest(self) -> Sequence[int]:
        """The numbers of the imports that the core has not decided."""
        return self._resolved.rest

    def resolve(self) -> None:
        """Bind all imports: most by name and type alone, in the core, the others one by one."""
        module = self._module
        modules = self.look_up()
        resolved = self._resolved
        module.sources = resolved.sources
        if resolved.lazy:
            module.plt.decided(resolved.lazy, modules)
        import_at = module.info.import_at
        module.special = [(index, self.source(index, import_at(index))) for index in resolved.rest]

    def symbols(self) -> Iterator[Symbol]:
        """Iterate over the imports that are symbols.

        Other imports are memory, table and bases, or functions of the host.
        """
        rest = set(self._resolved.rest)
        for index, wanted in enumerate(self._module.info.imports):
            if wanted.module in SYMBOL_SPACES and (
                index in rest or self._scope.has(self._resolved, index)
            ):
                is_host_import = self.is_host_import(wanted)
                definition = None if is_host_import else self._found(index, wanted)
                yield Symbol(
                    index, wanted, definition, is_host_import, self._is_left_to_linker(wanted)
                )

    def is_host_import(self, wanted: Import) -> bool:
        """Whether the user provides a function for an import.

        It precedes the definitions of all modules.
        """
        if not self._state.imports:
            return False
        space = "env" if wanted.module == GOT_FUNC else wanted.module
        return _is_function(wanted) and (space, wanted.name) in self._state.imports

    def is_weak(self, wanted: Import) -> bool:
        """Whether an import is weak: it may be undefined."""
        dylink = self._module.info.dylink
        return bool(
            dylink and dylink.flags_of_import(wanted.module, wanted.name) & SymbolFlags.BINDING_WEAK
        )

    def source(self, index: int, wanted: Import) -> ImportSource:
        """Return the source of import ``index``, which the core has not decided."""
        if wanted.kind is Kind.FUNC:
            assert isinstance(wanted.type, FuncType)
            return self._function(index, wanted, wanted.type)
        if wanted.kind is Kind.GLOBAL:
            assert isinstance(wanted.type, GlobalType)
            return self._global(index, wanted, wanted.type)
        if wanted.kind is Kind.MEMORY:
            assert isinstance(wanted.type, MemoryType)
            if wanted.type.limits.is64:
                raise UnsupportedError(
                    f"{self._module.name}: 64-bit memories are not supported",
                    module=self._module.name,
                )
        if wanted.kind is Kind.TAG:
            assert isinstance(wanted.type, TagType)
            return self._tag(index, wanted, wanted.type)
        return self._missing(wanted, wanted.kind.label)

    def _found(self, index: int, wanted: Import) -> Definition | None:
        """Return the definition that the core found, unless the linker serves the import."""
        return (
            None
            if self._is_left_to_linker(wanted)
            else self._scope.definition(self._resolved, index, wanted.name)
        )

    def _is_left_to_linker(self, wanted: Import) -> bool:
        return _is_function(wanted) and self._module.leaves_to_linker(wanted.name)

    def _use(self, definition: Definition) -> None:
        if definition.module is not self._module:
            self._module.bound.add(definition.module)

    def _python(self, wanted: Import, type_: FuncType) -> ImportSource:
        imports = self._state.imports
        if self._plan.is_dry_run:
            imports.check(wanted.module, wanted.name, type_, importer=self._module)
            return PythonCall(wanted.name, type_, b"")
        callback = imports.callback(wanted.module, wanted.name, type_, importer=self._module)
        return PythonCall(wanted.name, type_, callback.source)

    def _function(self, index: int, wanted: Import, type_: FuncType) -> ImportSource:
        space, name = wanted.module, wanted.name
        if self.is_host_import(wanted):
            return self._python(wanted, type_)
        definition = self._found(index, wanted) if space == "env" else None
        if definition is not None:
            return self._function_of_module(wanted, type_, definition)
        found = provided_type(space, name, threaded=self._state.threaded)
        if found is not None and not self._fits(wanted, type_, *found):
            return self._trampoline(wanted, type_, None)
        if space == WASI_MODULE and name in WASI_PREVIEW1:
            return WasiCall(name)
        if space == wasix.WASIX and (source := self._wasix(wanted, type_)) is not None:
            return source
        if found is not None:
            return HostCall(key_of(space, name), type_)
        if self._bind_now:
            if not self.is_weak(wanted):
                return self._missing(wanted, "function")
            self.unbound.append(index)
        if self._is_watched(wanted, type_):
            return HostCall(name, type_)
        return self._trampoline(wanted, type_, None)

    def _is_watched(self, wanted: Import, type_: FuncType) -> bool:
        """Whether a library imports a function for thread keys from another module.

        The linker forwards the call and records the key.
        """
        return wanted.module == "env" and watched(wanted.name) == type_ and not self._module.is_main

    def _function_of_module(
        self, wanted: Import, type_: FuncType, definition: Definition
    ) -> ImportSource:
        if definition.kind is not SymbolKind.FUNCTION:
            raise self._mismatch(wanted, str(type_), definition)
        if not self._fits(wanted, type_, definition.type, definition.module.name):
            return self._trampoline(wanted, type_, None)
        self._use(definition)
        if definition.module is not self._module and self._is_watched(wanted, type_):
            return HostCall(wanted.name, type_)
        if definition.module.ready:
            return ExportRef(definition)
        return self._trampoline(wanted, type_, definition)

    def _trampoline(
        self, wanted: Import, type_: FuncType, definition: Definition | None
    ) -> ImportSource:
        """Return a lazy call; without a definition the call raises an error that says why."""
        key = (wanted.module, wanted.name, type_)
        if key not in self._plt:
            self._plt[key] = len(self._module.plt)
            self._module.plt.append(PltEntry(wanted.module, wanted.name, type_, definition))
            if definition is not None:
                self._plan.set_target_later(
                    self._module, self._plt[key], definition.module, definition.position
                )
        return PltSlot(self._plt[key])

    def _fits(self, wanted: Import, type_: FuncType, found: ExternType, provider: str) -> bool:
        """Whether a function has the type of the import.

        Raises:
            SignatureMismatchError: It has not, and calls are bound at load.
        """
        if self._bind_now:
            self._same(wanted, type_, found, provider)
        return type_ == found

    def _wasix(self, wanted: Import, type_: FuncType) -> ImportSource | None:
        """Return the source of a function of WASIX, a stub if it is not supported.

        None if there can be no stub of the type.
        """
        source = wasix.import_source(wanted.name, type_)
        if source is None and not self._bind_now and {*type_.params, *type_.results} <= _NUMBERS:
            return HostCall(wasix.UNSUPPORTED, type_)
        return source

    def _global(self, index: int, wanted: Import, type_: GlobalType) -> ImportSource:
        if wanted.module == GOT_MEM:
            return self._data_entry(index, wanted, type_)
        if wanted.module == GOT_FUNC:
            return self._function_entry(index, wanted, type_)
        if wanted.module == "env":
            private = PRIVATE_GLOBALS.get(wanted.name)
            if private is not None:
                # Raises: the core has decided those of the right type.
                self._same(wanted, type_, private, "pylinker")
            definition = self._found(index, wanted)
            if definition is not None and definition.module.ready:
                self._same(wanted, type_, definition.type, definition.module.name)
                self._use(definition)
                return ExportRef(definition)
        return self._missing(wanted, "global")

    def _data_entry(self, index: int, wanted: Import, type_: GlobalType) -> ImportSource:
        self._same(wanted, type_, _GOT_ENTRY, "pylinker")
        definition = self._found(index, wanted)
        heap = wanted.name in HEAP and self._state.heap.owner is not self._module
        if definition is None or (heap and definition.module is self._state.heap.owner):
            value = self._linker_symbol(wanted.name)
            if value is not None:
                return GotEntry(wanted.name, value)
            if self.is_weak(wanted):
                self.unbound.append(index)
                return GotEntry(wanted.name, 0)
            return self._missing(wanted, "data")
        value = definition.value
        if value is None or definition.kind is SymbolKind.FUNCTION:
            raise self._mismatch(wanted, "data", definition)
        self._use(definition)
        if definition.is_thread_local:
            return ThreadLocalGotEntry(definition.module, value)
        return GotEntry(wanted.name, value)

    def _linker_symbol(self, name: str) -> int | None:
        """Return the address of a symbol that the linker defines (stack, data, heap), or None."""
        if name not in HEAP:
            return self._state.linker_symbols.get(name)
        heap = self._module.heap
        return None if heap is None else heap[name == "__heap_end"]

    def _function_entry(self, index: int, wanted: Import, type_: GlobalType) -> ImportSource:
        self._same(wanted, type_, _GOT_ENTRY, "pylinker")
        if self.is_host_import(wanted):
            return self._host_entry(wanted)
        definition = self._found(index, wanted)
        if definition is None:
            type_of_function = host_type("env", wanted.name)
            if type_of_function is not None:
                return GotEntry(
                    wanted.name, self._plan.pointers.provided(wanted.name, type_of_function)
                )
            if self.is_weak(wanted):
                self.unbound.append(index)
                return GotEntry(wanted.name, 0)
            return self._missing(wanted, "function pointer")
        if definition.kind is not SymbolKind.FUNCTION:
            raise self._mismatch(wanted, "function", definition)
        self._use(definition)
        return GotEntry(wanted.name, self._plan.slot_for(definition, self._patches))

    def _host_entry(self, wanted: Import) -> ImportSource:
        everything = (*self._state.modules, *self._plan.new)
        try:
            return GotEntry(
                wanted.name,
                self._plan.pointers.slot_for(
                    wanted.name, importer=self._module, modules=everything
                ),
            )
        except UnknownTypeError as error:
            self._notes.append(str(error))
            return self._missing(wanted, "function pointer")

    def _tag(self, index: int, wanted: Import, type_: TagType) -> ImportSource:
        definition = self._found(index, wanted) if wanted.module == "env" else None
        if definition is not None:
            self._same(wanted, type_, definition.type, definition.module.name)
            if definition.module.ready:
                self._use(definition)
                return ExportRef(definition)
        if wanted.module == "env" and wanted.name in _TAGS:
            self._same(wanted, type_, _THROWN, "the linker")
            tag = GroupTag(wanted.name, type_)
            if not self._plan.is_dry_run:
                self._state.tags.setdefault(tag, len(self._state.tags))
            return tag
        return self._missing(wanted, "tag")

    def _missing(self, wanted: Import, kind: str) -> ImportSource:
        name = wanted.name if wanted.module in SYMBOL_SPACES else f"{wanted.module}.{wanted.name}"
        self._undefined.append(UndefinedSymbol(self._module.name, name, kind))
        return Constant(0)

    def _same(self, wanted: Import, type_: object, found: object, provider: str) -> None:
        if type_ != found or type(type_) is not type(found):
            raise SignatureMismatchError(
                module=self._module.name,
                symbol=wanted.name,
                wanted=str(type_),
                provider=provider,
                found=str(found),
            )

    def _mismatch(
        self, wanted: Import, what: str, definition: Definition
    ) -> SignatureMismatchError:
        return SignatureMismatchError(
            module=self._module.name,
            symbol=wanted.name,
            wanted=what,
            provider=definition.module.name,
            found=definition.label,
        )


def _is_function(wanted: Import) -> bool:
    """Whether an import is a function, or a pointer to one."""
    return wanted.kind is Kind.FUNC or wanted.module == GOT_FUNC
