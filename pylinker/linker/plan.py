"""From "load these" to a LoadModules operation: locate, order, place, resolve. Nothing of this runs guest code or touches a store.

A plan changes nothing that :meth:`LoadPlan.undo` does not put back: the linker calls it on any failure, up to and including a trap
in the last constructor.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pylinker import _native
from pylinker.errors import (
    LibraryNotFoundError,
    LimitError,
    NotDynamicError,
    SignatureMismatchError,
    UndefinedSymbol,
    UndefinedSymbolError,
    UnsupportedError,
)
from pylinker.linker import wasix
from pylinker.linker.dlfcn import PROVIDED, SAFEPOINT, THREAD_SPAWN
from pylinker.linker.imports import NewPointers, UnknownTypeError
from pylinker.linker.locator import read_regular
from pylinker.linker.module import (
    Cell,
    Constant,
    Definition,
    Direct,
    GroupObject,
    HostCall,
    ImportSource,
    LoadedModule,
    OwnTag,
    Plt,
    PltEntry,
    PythonCall,
    ThreadLocalCell,
    WasiCall,
)
from pylinker.linker.operation import LoadModules, SlotPatch
from pylinker.linker.record import native_library
from pylinker.linker.state import LinkerState
from pylinker.wasm import WASI_PREVIEW1, FuncType, GlobalType, Import, Kind, MemoryType, SymbolFlags, TableType, TagType

if TYPE_CHECKING:
    from pylinker.linker.locator import Located, Locator
    from pylinker.linker.record import HostCalls
    from pylinker.runtime.code import CodeCache

__all__ = ["LoadPlan", "Request", "check_alignment", "read_file"]

logger = logging.getLogger("pylinker.linker")

_PAGE = 1 << 16
_WASI = "wasi_snapshot_preview1"
_FEW = 64
"""Imports of a load up to which each is looked for from module to module."""

_DESTRUCTORS = frozenset({"__cxa_atexit", "atexit"})
_CELL = GlobalType("i32", mutable=True)
_NUMBERS = frozenset({"i32", "i64", "f32", "f64"})
_TAGS = {"__cpp_exception", "__c_longjmp"}


class Request:
    """A library somebody asks for: its ``name``, who asks, whether the host wrote the name itself, and where to search for it.

    ``search`` are directories of the guest that take the place of its ``LD_LIBRARY_PATH``, or None.
    """

    __slots__ = ("name", "requester", "search", "trusted")

    def __init__(
        self, name: str, requester: LoadedModule | None = None, *, trusted: bool = False, search: Sequence[str] | None = None
    ) -> None:
        self.name = name
        self.requester = requester
        self.trusted = trusted
        self.search = search


class LoadPlan:
    """One load: the modules it brings, in which order, and what each of their imports means.

    Attributes: ``state``, ``scope`` (all modules reached, breadth-first), ``new`` (those not loaded before, dependencies first),
    ``following`` (modules that another load brings right afterwards: what they define comes before what the program's user gives),
    ``pointers`` (to functions of the program's user).
    """

    def __init__(self, state: LinkerState, locator: Locator, cache: CodeCache, host_calls: HostCalls) -> None:
        self.state = state
        self._locator = locator
        self._cache = cache
        self._host_calls = host_calls
        self._names: dict[str, LoadedModule] = {}
        self._paths: dict[str, LoadedModule] = {}
        self._added: list[LoadedModule] = []
        self._given: list[tuple[LoadedModule, int]] = []
        self.pointers = NewPointers(state.imports, state.table)
        self.following: Sequence[LoadedModule] = ()
        self.scope: list[LoadedModule] = []
        self.new: list[LoadedModule] = []

    # 1. Find

    def discover(self, roots: Sequence[LoadedModule | Request]) -> list[LoadedModule]:
        """Find the roots and everything they need, breadth-first; returns the roots. Raises LinkError children."""
        found = [root if isinstance(root, LoadedModule) else self._find(root) for root in roots]
        for root in found:
            if root not in self.state.known and root not in self._added:
                self._names.setdefault(root.name, root)
                self._added.append(root)
        queue = deque(dict.fromkeys(found))
        seen = set(queue)
        while queue:
            module = queue.popleft()
            self.scope.append(module)
            if module not in self.state.known and module.info.dylink is not None:
                names = dict.fromkeys(module.info.dylink.needed)
                module.needed = [self._find(Request(name, module)) for name in names]
            for each in module.needed:
                if each not in seen:
                    seen.add(each)
                    queue.append(each)
        self._order(found)
        return found

    def find_loaded(self, request: Request) -> LoadedModule | None:
        """Return the module a request means if it is loaded already (or about to be), by name only."""
        return self._names.get(request.name) or self.state.by_name(request.name)

    def locate(self, request: Request) -> Located:
        """Return the file a request means. Raises LibraryNotFoundError."""
        requester = request.requester
        dylink = requester.info.dylink if requester else None
        return self._locator.find(
            request.name,
            origin=requester.origin if requester else None,
            runtime_path=dylink.runtime_path if dylink else (),
            requester=requester.name if requester else None,
            search=request.search,
            trusted=request.trusted,
        )

    def _find(self, request: Request) -> LoadedModule:
        module = self.find_loaded(request)
        if module is not None:
            return module
        located = self.locate(request)
        module = self._paths.get(located.path) or self.state.by_path(located.path)
        if module is None:
            name = os.path.basename(request.name) if request.trusted else request.name
            module = self._read(name, located.path)
            self._paths[located.path] = module
            self._names[module.name] = module
            self._added.append(module)
        self._names.setdefault(request.name, module)
        return module

    def _read(self, name: str, path: str) -> LoadedModule:
        data = read_file(name, path, self.state.limits.library_size)
        code = self._cache.load(data, name=name, rewrite=self.state.rewrite_waits)
        module = LoadedModule(name, path, code.info, code, self.state.next_number())
        if not module.info.is_dynamic:
            raise NotDynamicError(
                f"{name} ({path}) is not a dynamic library: it has no dylink.0 section (link it with -shared)", module=name
            )
        count = len(self.state.modules) + len(self._added)
        if count >= self.state.limits.modules:
            raise LimitError(f"{name}: the limit of {self.state.limits.modules} modules is reached", module=name)
        return module

    def _order(self, roots: Sequence[LoadedModule]) -> None:
        """Fill ``new``: dependencies first; in a cycle, the module reached first comes last, as with ``ld.so``."""
        if len(self.scope) == 1:
            self.new += self._added
            return
        done: set[LoadedModule] = set()
        added = set(self._added)
        for root in roots:
            if root in done:
                continue
            done.add(root)
            stack: list[tuple[LoadedModule, Iterator[LoadedModule]]] = [(root, iter(root.needed))]
            while stack:  # not recursive: a chain of libraries may be longer than Python's stack
                module, rest = stack[-1]
                following = next((each for each in rest if each not in done), None)
                if following is None:
                    stack.pop()
                    if module in added:
                        self.new.append(module)
                else:
                    done.add(following)
                    stack.append((following, iter(following.needed)))

    # 2. Place

    def make_room(self, memory_size: int) -> None:
        """Grow the memory, of ``memory_size`` bytes now, for all new modules at once; LimitError before it has grown."""
        wanted = []
        for module in self.new:
            check_alignment(module)
            if module.info.dylink is not None:
                wanted.append((module.info.dylink.memory_size, module.info.dylink.memory_alignment))
        self.state.memory.make_room(wanted, memory_size=memory_size, module=self.scope[0].name)

    def place(self, module: LoadedModule, *, memory_base: int | None = None) -> None:
        """Give a module its memory (unless the caller chose ``memory_base``) and its table slots."""
        dylink = module.info.dylink
        if dylink is None:
            return
        check_alignment(module)
        if memory_base is not None:
            module.memory_base = memory_base
        else:
            module.memory_base = self.state.memory.allocate(dylink.memory_size, dylink.memory_alignment, module=module.name)
        try:
            module.table_base = self.state.table.allocate(dylink.table_size, dylink.table_alignment, module=module.name)
        except BaseException:
            if memory_base is None:
                self.state.memory.release(module.memory_base, dylink.memory_size)
            raise
        module.memory_reserved = memory_base is None
        self._place_functions(module)

    def _place_functions(self, module: LoadedModule) -> None:
        """Give the exported functions of a module their table slots, so that no pointer to one of them ever needs a rendezvous.

        Where there is no room for all of them, they get slots one by one as they are asked for.
        """
        count = len(module.outline.slot_exports)
        if count:
            try:
                module.slot_base = self.state.table.allocate(count, 1, module=module.name)
            except LimitError as error:
                logger.debug("%s: functions get slots when they are asked for: %s", module.name, error)
            else:
                module.has_slots = True

    # 3. Resolve

    def resolve(self, *, bind_now: bool) -> LoadModules:
        """Decide what every import of the new modules means, and return the operation that carries the load out.

        Raises UndefinedSymbolError, which lists everything that is missing, SignatureMismatchError, UnsupportedError, LimitError.
        """
        undefined: list[UndefinedSymbol] = []
        notes: list[str] = []
        patches: list[SlotPatch] = []
        ready = set(self.state.known)
        wanted = sum(len(module.info.imports) for module in self.new)
        scope = _Scope(dict.fromkeys((*self.state.global_scope, *self.scope)), wanted, ready)
        for module in self.new:
            resolver = _Resolver(self, module, scope, ready, undefined, patches, notes, bind_now=bind_now)
            module.sources = resolver.sources()
            if not undefined:
                self._write_down(module)
                if module in scope.providers:
                    scope.providers[module].become_ready()
            ready.add(module)
        if undefined:
            raise UndefinedSymbolError(undefined, note="; ".join(notes))
        self._aim()
        return LoadModules(tuple(self.new), self._table_size(), tuple(patches), hosts=tuple(self.pointers.slots))

    def _write_down(self, module: LoadedModule) -> None:
        """Make the record from which all groups instantiate a new module."""
        for source in module.sources:
            if isinstance(source, OwnTag):
                self.state.tags.setdefault(source, len(self.state.tags))
        module.place = self.state.take_place()
        module.native = native_library(module, self.state.tags, self._cache, self._host_calls)

    def _aim(self) -> None:
        """Let the trampolines lead to what was found."""
        for module in self.new:
            for index, entry in enumerate(module.plt):
                if entry.definition is not None:
                    target, export = entry.definition
                    module.native.aim(index, target.native, target.outline.positions[export.name])

    def _table_size(self) -> int:
        """Return how large the table must be: for what was given out, and for what the modules say they import."""
        wanted = self.state.table.size
        for module in self.new:
            for table in module.outline.tables:
                if table.limits.minimum > wanted:
                    wanted = table.limits.minimum
                    if wanted > self.state.limits.table:
                        raise LimitError(
                            f"{module.name}: imports a table of {wanted} slots; the limit is {self.state.limits.table}",
                            module=module.name,
                        )
        return wanted

    def slot_for(self, definition: Definition, patches: list[SlotPatch]) -> int:
        """Return the table slot of a function, giving it one if it has none yet."""
        module, export = definition
        slot = module.slot_of(export.index)
        if slot is None:
            slot = self.state.table.allocate(1, 1, module=module.name)
            module.slots[export.index] = slot
            self._given.append((module, export.index))
            patches.append(SlotPatch(slot, definition))
        return slot

    @property
    def given_slots(self) -> list[int]:
        """The table slots that the plan gave to functions, of new modules and of others."""
        given = [module.slots[function] for module, function in self._given if function in module.slots]
        return given + [each.slot for each in self.pointers.slots]

    def undo(self) -> None:
        """Give back memory and slots."""
        self.pointers.undo()
        for module, function in self._given:
            slot = module.slots.pop(function, None)
            if slot is not None:
                self.state.table.release(slot, 1)
        self._given.clear()
        for module in self._added:
            self.state.release(module)


class _Provider:
    """A module in a scope, with what many imports ask of it close at hand; ``ready`` once it is instantiated by then."""

    __slots__ = ("address", "data", "functions", "memory_base", "module", "ready", "slot_base", "used")

    def __init__(self, module: LoadedModule) -> None:
        self.module = module
        self.functions = module.outline.functions
        self.data = module.outline.data
        self.memory_base = module.memory_base
        self.slot_base = module.slot_base if module.has_slots else None
        self.address = 0
        self.ready = False
        self.used = False

    def become_ready(self) -> None:
        """Note that modules which come later can import from this one directly."""
        self.address = self.module.native.address
        self.ready = True


class _Scope:
    """Where a load's symbols are looked up: modules in order, and for a load with many imports, who defines each name first."""

    __slots__ = ("_modules", "owners", "providers")

    def __init__(self, modules: Iterable[LoadedModule], wanted: int, ready: set[LoadedModule]) -> None:
        self._modules = list(modules)
        self.owners: dict[str, _Provider] | None = None
        self.providers: dict[LoadedModule, _Provider] = {}
        if wanted > _FEW:
            self.owners = {}
            for module in reversed(self._modules):
                provider = self.providers[module] = _Provider(module)
                if module in ready:
                    provider.become_ready()
                self.owners.update(dict.fromkeys(module.outline.symbols, provider))

    def lookup(self, name: str) -> Definition | None:
        """Return the first definition of a name, or None."""
        if self.owners is not None:
            owner = self.owners.get(name)
            return None if owner is None else owner.module.find(name)
        return LinkerState.lookup(name, self._modules)


class _Resolver:
    """Decides the imports of one module."""

    def __init__(
        self,
        plan: LoadPlan,
        module: LoadedModule,
        scope: _Scope,
        ready: set[LoadedModule],
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
        self._ready = ready
        self._undefined = undefined
        self._patches = patches
        self._bind_now = bind_now
        self._scope = scope
        self._plt: dict[tuple[str, str, FuncType], int] = {}

    def sources(self) -> list[ImportSource]:
        """Return what all imports mean.

        Most imports of a large program are functions and data that a module defines which is there already: these are packed for the core
        right here, and everything else goes to :meth:`source`.
        """
        owners = None if self._undefined else self._scope.owners
        if owners is None:
            return [self.source(each) for each in self._module.info.imports]
        sources: list[ImportSource] = []
        find, append, pack = owners.get, sources.append, _native.SOURCE.pack
        export, cell, func = int(_native.Source.EXPORT), int(_native.Source.CELL), Kind.FUNC
        for each in self._module.info.imports:
            space, name, kind, type_ = each
            if space == "env" and kind is func and name not in _DESTRUCTORS:
                owner = find(name)
                if owner is not None and owner.ready:
                    function = owner.functions.get(name)
                    if function is not None and function[1] == type_:
                        owner.used = True
                        append(pack(export, function[0], 0, owner.address, 0, 0))
                        continue
            elif space == "GOT.mem" and type_ == _CELL:
                owner = find(name)
                if owner is not None and (datum := owner.data.get(name)) is not None:
                    owner.used = True
                    value = datum[0] + owner.memory_base if datum[1] else datum[0]
                    append(pack(cell, 0, value & 0xFFFFFFFF, 0, 0, 0))
                    continue
            elif space == "GOT.func" and type_ == _CELL:
                owner = find(name)
                if owner is not None and owner.slot_base is not None:
                    function = owner.functions.get(name)
                    if function is not None and function[2] is not None:
                        owner.used = True
                        append(pack(cell, 0, owner.slot_base + function[2], 0, 0, 0))
                        continue
            append(self.source(each))
        for module, provider in self._scope.providers.items():
            if provider.used and module is not self._module:
                self._module.bound.add(module)
            provider.used = False
        return sources

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
            if wanted.module == "env" and wanted.name == "memory":
                return GroupObject("memory")
        if wanted.kind is Kind.TABLE:
            assert isinstance(wanted.type, TableType)
            if wanted.module == "env" and wanted.name == "__indirect_function_table":
                return GroupObject("table")
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

    def _is_destructor_call(self, name: str) -> bool:
        """Whether a library registers a destructor with this function: that is the linker's to run, whoever defines it."""
        return name in _DESTRUCTORS and not self._module.is_main and self._module.find(name) is None

    def _given(self, wanted: Import) -> bool:
        """Whether the program's user gives a function for an import, and no module that comes later defines it."""
        if (wanted.module, wanted.name) not in self._state.imports:
            return False
        return wanted.module != "env" or self._state.lookup(wanted.name, self._plan.following) is None

    def _python(self, wanted: Import, type_: FuncType) -> ImportSource:
        callback = self._state.imports.callback(wanted.module, wanted.name, type_, importer=self._module)
        return PythonCall(wanted.name, type_, callback.source)

    def _function(self, wanted: Import, type_: FuncType) -> ImportSource:
        if wanted.module != "env" and self._given(wanted):
            return self._python(wanted, type_)
        if wanted.module == _WASI and wanted.name in WASI_PREVIEW1:
            self._same(wanted, type_, WASI_PREVIEW1[wanted.name], "WASI preview 1")
            return WasiCall(wanted.name)
        if wanted.module == wasix.WASIX and (found := self._wasix(wanted, type_)) is not None:
            return found
        definition = None
        if wanted.module == "env":
            provided = PROVIDED.get(wanted.name)
            definition = None if self._is_destructor_call(wanted.name) else self._lookup(wanted.name)
            if definition is None and self._given(wanted):
                return self._python(wanted, type_)
            if definition is None and provided is not None:
                self._same(wanted, type_, provided, "pylinker")
                return HostCall(wanted.name, provided)
        if (wanted.module, wanted.name) == ("wasi", "thread-spawn") and self._state.threaded:
            self._same(wanted, type_, THREAD_SPAWN, "pylinker")
            return HostCall(wanted.name, THREAD_SPAWN)
        if (wanted.module, wanted.name) == ("pylinker", "safepoint"):
            self._same(wanted, type_, SAFEPOINT, "pylinker")
            return HostCall(wanted.name, SAFEPOINT)
        if definition is None:
            if self._bind_now and not self._is_weak(wanted):
                return self._missing(wanted, "function")
        else:
            self._same(wanted, type_, definition.type, definition.module.name)
            self._use(definition)
            if definition.module in self._ready:
                return Direct(definition)
        key = (wanted.module, wanted.name, type_)
        if key not in self._plt:
            self._plt[key] = len(self._module.plt)
            self._module.plt.append(PltEntry(wanted.module, wanted.name, type_, definition))
        return Plt(self._plt[key])

    def _wasix(self, wanted: Import, type_: FuncType) -> ImportSource | None:
        """Return what a function of WASIX comes from: one that is there, or one that says it is not; None if no function can be made."""
        provided = wasix.PROVIDED.get(wanted.name)
        if provided is not None:
            self._same(wanted, type_, provided, "WASIX")
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
                self._same(wanted, type_, GlobalType("i32", mutable=True), "pylinker")
                return GroupObject("stack_pointer")
            constants = {"__memory_base": self._module.memory_base, "__table_base": self._module.table_base}
            if wanted.name in constants:
                self._same(wanted, type_, GlobalType("i32", mutable=False), "pylinker")
                return Constant(constants[wanted.name])
            definition = self._lookup(wanted.name)
            if definition is not None and definition.module in self._ready:
                self._same(wanted, type_, definition.type, definition.module.name)
                self._use(definition)
                return Direct(definition)
        return self._missing(wanted, "global")

    def _data_cell(self, wanted: Import, type_: GlobalType) -> ImportSource:
        self._same(wanted, type_, GlobalType("i32", mutable=True), "pylinker")
        definition = self._lookup(wanted.name)
        if definition is None:
            value = self._state.linker_symbols.get(wanted.name)
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

    def _function_cell(self, wanted: Import, type_: GlobalType) -> ImportSource:
        self._same(wanted, type_, GlobalType("i32", mutable=True), "pylinker")
        definition = self._lookup(wanted.name)
        if definition is None:
            if ("env", wanted.name) in self._state.imports:
                return self._host_cell(wanted)
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
            if definition.module in self._ready:
                self._use(definition)
                return Direct(definition)
        if wanted.module == "env" and wanted.name in _TAGS:
            return OwnTag(wanted.name, type_)
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
        found = "function" if definition.export.kind is Kind.FUNC else "data"
        return SignatureMismatchError(
            module=self._module.name, symbol=wanted.name, wanted=what, provider=definition.module.name, found=found
        )


def check_alignment(module: LoadedModule) -> None:
    """Refuse alignments beyond a page: no compiler asks for one, and a hostile one would waste gigabytes. Raises LimitError."""
    dylink = module.info.dylink
    if dylink is not None and max(dylink.memory_alignment, dylink.table_alignment) > _PAGE:
        raise LimitError(
            f"{module.name}: asks for data aligned to {dylink.memory_alignment} bytes and slots aligned to {dylink.table_alignment}; "
            f"the limit is {_PAGE}",
            module=module.name,
        )


def read_file(name: str, path: str, limit: int) -> bytes:
    """Return a module's bytes; LimitError beyond ``limit`` bytes, LibraryNotFoundError if it cannot be read."""
    try:
        data = read_regular(path, limit)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LibraryNotFoundError(name, searched=[(path, reason)]) from error
    if data is None:
        raise LimitError(f"{name}: {path} has more than {limit} bytes", module=name)
    return data
