"""A loaded module: the decisions of the linker about it, the same for all instance groups.

Nothing here belongs to one store. Bases, slots and import sources are decided once, when the module
is loaded, and every group instantiates from the same record, so a symbol cannot mean two things in
two groups.
"""

from __future__ import annotations

import bisect
import itertools
import operator
import os
import weakref
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, overload

from pylinker.errors import InternalError, ParseError, UnsupportedError
from pylinker.native.core import NULL
from pylinker.native.enums import SymbolKind
from pylinker.native.libraries import Library
from pylinker.native.sources import Sources
from pylinker.native.symbols import SCOPE_ENTRY, Found, ScopeEntries
from pylinker.runtime.outline import DESTRUCTORS, outline_of
from pylinker.wasm import FuncType, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pylinker.linker.modules.locator import Home
    from pylinker.linker.ranges import Grant
    from pylinker.runtime.code import Code, Trampolines
    from pylinker.runtime.outline import Outline
    from pylinker.wasm import Export, ExternType, ModuleInfo, TagType

__all__ = [
    "AtExit",
    "Constant",
    "Definition",
    "ExportRef",
    "GotEntry",
    "GroupTag",
    "HostCall",
    "ImportSource",
    "LoadedModule",
    "PltEntry",
    "PltSlot",
    "ProcedureLinkage",
    "PythonCall",
    "ThreadLocalGotEntry",
    "WasiCall",
]


_MAKES_BLOCK = FuncType((), ("i32",))


class Definition:
    """The definition of a symbol: an export of a module."""

    module: LoadedModule
    """The module that defines the symbol."""
    name: str
    """The name of the symbol, and of the export."""
    position: int
    """The number of the export among the exports of its module."""
    kind: SymbolKind
    """The kind of the symbol."""

    __slots__ = ("_type", "_value", "kind", "module", "name", "position")

    def __init__(self, module: LoadedModule, name: str, found: Found) -> None:
        self.module = module
        self.name = name
        self.position = found.position
        self.kind = found.kind
        self._type = found.type
        self._value = found.value

    @property
    def export(self) -> Export:
        """The export."""
        return self.module.outline.export_at(self.position, self.name)

    @property
    def type(self) -> ExternType:
        """The type of the definition."""
        return self.module.outline.types[self._type]

    @property
    def is_thread_local(self) -> bool:
        """Whether this is thread-local data."""
        return self.kind is SymbolKind.THREAD_LOCAL

    @property
    def value(self) -> int | None:
        """The table slot, address or offset of the definition; None if it has none, or none yet.

        The slot of a function, the address of data, or the offset in the thread-local block.
        """
        if self._value is None and self.kind is SymbolKind.FUNCTION:
            return self.module.slots.get(self.export.index)
        return self._value

    @property
    def label(self) -> str:
        """The kind of the definition, for messages."""
        kind = self.export.kind
        return "data" if kind is Kind.GLOBAL else kind.label

    def __repr__(self) -> str:
        return f"{self.name}@{self.module.name}"


@dataclass(frozen=True, slots=True)
class Constant:
    """An immutable i32 global: ``__memory_base``, ``__table_base``."""

    value: int


@dataclass(frozen=True, slots=True)
class GotEntry:
    """A GOT entry: a mutable i32 global that holds an address or a table slot."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class ThreadLocalGotEntry:
    """A GOT entry for thread-local data, whose value differs from group to group.

    It holds the address ``offset`` bytes after the ``__tls_base`` of the module.
    """

    module: LoadedModule
    offset: int


@dataclass(frozen=True, slots=True)
class ExportRef:
    """An export of a module that is instantiated before the importer."""

    definition: Definition


@dataclass(frozen=True, slots=True)
class PltSlot:
    """A PLT entry: trampoline number ``index`` of the importing module."""

    index: int


@dataclass(frozen=True, slots=True)
class WasiCall:
    """A function of WASI preview 1."""

    name: str


@dataclass(frozen=True, slots=True)
class HostCall:
    """A function of the linker that depends on its caller: ``dlopen``, ``__cxa_atexit``, ..."""

    name: str
    type: FuncType


@dataclass(frozen=True, slots=True)
class GroupTag:
    """An exception tag that no module defines: each group creates one for each name."""

    name: str
    type: TagType


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A Python function of the user, for one type.

    ``source`` is the import source in the form of the C core. It does not keep the function alive.
    """

    name: str
    type: FuncType
    source: bytes


ImportSource: TypeAlias = (
    Constant
    | GotEntry
    | ThreadLocalGotEntry
    | ExportRef
    | PltSlot
    | WasiCall
    | HostCall
    | PythonCall
    | GroupTag
)


@dataclass(slots=True)
class PltEntry:
    """A function import with lazy binding: each group binds it at the first call."""

    module: str
    """The import module."""
    name: str
    """The import name."""
    type: FuncType
    """The type that the import declares."""

    definition: Definition | None = None
    """The definition, found at load or at the first call in any group; the same for all groups."""


class ProcedureLinkage(Sequence[PltEntry]):
    """The PLT of one module: its entries by the numbers of their trampolines.

    The first entries are those that the C core bound (:meth:`decided`). There may be thousands of
    them, so each is created on demand.
    """

    lazy: Sequence[int]
    """The result of the core, three numbers for each entry: import, module in the scope, export."""

    __slots__ = ("_count", "_entries", "_info", "_targets", "lazy")

    def __init__(self, info: ModuleInfo) -> None:
        self._info = info
        self._entries: dict[int, PltEntry] = {}
        self._count = 0
        self._targets: Mapping[int, LoadedModule] = {}
        self.lazy = ()

    def decided(self, lazy: Sequence[int], modules: Sequence[LoadedModule | None]) -> None:
        """Set the entries that the core bound; ``modules`` are the modules of its scope.

        Call this before any :meth:`append`.
        """
        self.lazy = lazy
        # Only those that are used, since an entry keeps its target alive.
        self._targets = {
            number: target for number in set(lazy[1::3]) if (target := modules[number]) is not None
        }
        self._count = len(lazy) // 3

    def append(self, entry: PltEntry) -> None:
        """Add an entry."""
        self._entries[self._count] = entry
        self._count += 1

    def signature(self) -> bytes:
        """Return bytes that, with those of the module, identify the functions of the entries."""
        decided = array("I", self.lazy[::3])
        others = "".join([f"{each.name!r} {each.type}" for each in self[len(decided) :]])
        return b"%d %b %b" % (len(decided), decided.tobytes(), others.encode())

    def types(self) -> Iterator[FuncType]:
        """Iterate over the types of the entries without creating the entries."""
        for imported in self.lazy[::3]:
            type_ = self._info.import_at(imported).type
            assert isinstance(type_, FuncType)
            yield type_
        for number in range(len(self.lazy) // 3, self._count):
            yield self._entries[number].type

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> PltEntry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[PltEntry]: ...

    def __getitem__(self, index: int | slice) -> PltEntry | Sequence[PltEntry]:
        numbers = range(self._count)[index]
        if isinstance(numbers, range):
            return [self._at(number) for number in numbers]
        return self._at(numbers)

    def _at(self, number: int) -> PltEntry:
        entry = self._entries.get(number)
        if entry is None:
            imported, target, _ = self.lazy[3 * number : 3 * number + 3]
            space, name, _, type_ = self._info.import_at(imported)
            assert isinstance(type_, FuncType)
            made = PltEntry(space, name, type_, self._targets[target].find(name))
            entry = self._entries.setdefault(number, made)  # one object, if two threads race
        return entry


class AtExit(NamedTuple):
    """A destructor that a module registered."""

    slot: int
    """Its table slot."""
    argument: int | None
    """Its argument; None if the function takes none."""


class LoadedModule:
    """One module of a program.

    ``handles`` is guarded by the load lock, and the attributes from ``permanent`` to ``unloaded``
    by the linker's lock. All others are fixed once the module is loaded.
    """

    name: str
    """The name that other modules need it by."""
    path: str | None
    """The path of its file, None for bytes."""
    key: str | None
    """The path, or a digest of given bytes; opening the same key again yields the same module."""
    info: ModuleInfo
    """The parsed module."""
    outline: Outline
    """The metadata that follows from the bytes of the module alone."""
    code: Code | None
    """The compiled code; None until it is compiled."""
    number: int
    """The position in the order of loading, and the handle in the guest."""
    is_main: bool
    """Whether this is the main module."""
    memory_base: int
    """The address of its data."""
    memory_size: int
    """The size of its data in bytes."""
    memory_reserved: bool
    """Whether the linker allocated the memory of its data."""
    table_base: int
    """The first table slot of its own element segments."""
    table_size: int
    """The number of those slots."""
    needed: list[LoadedModule]
    """Its direct dependencies."""
    home: Home | None
    """An additional search directory for its dependencies."""
    sources: Sources
    """The import sources in the form of the C core, one for each import."""
    special: list[tuple[int, ImportSource]]
    """The import sources that the C core did not decide, by import number."""
    plt: ProcedureLinkage
    """Its PLT."""
    local_scope: Sequence[LoadedModule]
    """The modules that a lookup visits after the global scope."""
    ready: bool
    """Whether modules that are resolved later can import from it directly."""
    native: Library
    """The record from which the C core instantiates the module."""
    address: int
    """The address of ``native``; 0 before it exists."""
    ordinal: int | None
    """The index in the list of libraries of every group."""
    has_slots: bool
    """Whether its exported functions have table slots from ``slot_base`` on."""
    slot_base: int
    """The first of these slots."""
    trampolines: Trampolines | None
    """The code of its PLT entries."""
    plt_users: Sequence[tuple[int, weakref.ref[LoadedModule]]]
    """The modules that share its trampolines, and the number of the first trampoline of each."""
    host_handles: dict[str, int]
    """The handles of its host functions, by name."""
    calls_wasi: bool
    """Whether it imports functions of the WASI process."""
    handles: int
    """The number of open ``dlopen`` handles."""
    permanent: bool
    """Whether it is never unloaded."""
    bound: set[LoadedModule]
    """The modules whose definitions it uses."""
    heap: tuple[int, int] | None
    """Its values of ``__heap_base`` and ``__heap_end``."""
    grants: list[Grant]
    """Its allocations of memory and table slots."""
    slots: dict[int, int]
    """The table slots allocated for single functions, by function index."""
    at_exit: list[AtExit]
    """Its destructors."""
    initialized: int
    """The position in the order of construction, 0 before."""
    closing: bool
    """Whether its destructors are running."""
    lingering: bool
    """Whether its destructors have run and keys delay the unload."""
    keys: set[int]
    """The keys of ``pthread_key_create`` whose destructor is one of its functions."""
    texts: dict[str, tuple[int, int]]
    """The strings in guest memory for ``dladdr``: address and size, by text."""
    unloaded: bool
    """Whether it is unloaded."""

    __slots__ = (
        "__weakref__",
        "_bases",
        "_function_of",
        "_scope_entry",
        "address",
        "at_exit",
        "bound",
        "calls_wasi",
        "closing",
        "code",
        "grants",
        "handles",
        "has_slots",
        "heap",
        "home",
        "host_handles",
        "info",
        "initialized",
        "is_main",
        "key",
        "keys",
        "lingering",
        "local_scope",
        "memory_base",
        "memory_reserved",
        "memory_size",
        "name",
        "native",
        "needed",
        "number",
        "ordinal",
        "outline",
        "path",
        "permanent",
        "plt",
        "plt_users",
        "ready",
        "slot_base",
        "slots",
        "sources",
        "special",
        "table_base",
        "table_size",
        "texts",
        "trampolines",
        "unloaded",
    )

    def __init__(
        self,
        name: str,
        path: str | None,
        info: ModuleInfo,
        code: Code | None,
        number: int,
        *,
        is_main: bool = False,
        key: str | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.key = key or path
        self.info = info
        self.outline = outline_of(info)
        self.code = code
        self.number = number
        self.is_main = is_main
        self.heap = None
        self.memory_base = 0
        self.memory_size = self.info.dylink.memory_size if self.info.dylink else 0
        self.memory_reserved = False
        self.table_base = 0
        self.table_size = self.info.dylink.table_size if self.info.dylink else 0
        self.needed = []
        self.sources = NULL
        self.special = []
        self.plt = ProcedureLinkage(info)
        self.local_scope = ()
        self.handles = 0
        self.home = None
        self.calls_wasi = False
        self.permanent = False
        self.bound = set()
        self.slots = {}
        self.at_exit = []
        self.initialized = 0
        self.closing = False
        self.lingering = False
        self.keys = set()
        self.texts = {}
        self.unloaded = False
        self.ready = False
        self.address = 0
        self.ordinal = None
        self.grants = []
        self.has_slots = False
        self.slot_base = 0
        self.trampolines = None
        self.plt_users = ()
        self.host_handles = {}
        self._function_of: dict[int, int] | None = None
        self._bases: list[int | None] | None = None
        self._scope_entry: bytes | None = None

    def plt_user(self, index: int) -> tuple[LoadedModule, int]:
        """Return the module that uses a trampoline of this module, and its PLT entry number."""
        module, base = self, 0
        index_of_next = bisect.bisect_right(self.plt_users, index, key=operator.itemgetter(0))
        if index_of_next:
            base, known = self.plt_users[index_of_next - 1]
            user = known()
            if user is None:
                raise InternalError(
                    f"trampoline {index} of {self.name} was called by an unloaded module"
                )
            module = user
        return module, index - base

    def __repr__(self) -> str:
        memory = f"{self.memory_base:#x}+{self.memory_size:#x}"
        table = f"{self.table_base}+{self.table_size}"
        return f"<LoadedModule {self.name!r} memory={memory} table={table}>"

    @property
    def scope_entry(self) -> bytes:
        """The scope entry of the module for the C core.

        It does not change any more once the module has its record.
        """
        if self._scope_entry is not None:
            return self._scope_entry
        packed: bytes = SCOPE_ENTRY.pack(
            self.outline.native.address,
            self.address,
            self.memory_base,
            self.table_base,
            self.slot_base,
            self.has_slots,
            0,
        )
        if self.address:
            self._scope_entry = packed
        return packed

    @property
    def origin(self) -> str | None:
        """The directory of the file, which ``$ORIGIN`` stands for."""
        return os.path.dirname(self.path) if self.path else None

    @property
    def is_position_independent(self) -> bool:
        """Whether the linker, not the module itself, chooses the addresses."""
        return self.info.is_position_independent

    @property
    def brings_table(self) -> bool:
        """Whether the module defines the function table of the program."""
        export = self.info.private.get("__indirect_function_table")
        return (
            export is not None
            and export.kind is Kind.TABLE
            and export.index == 0
            and not self.info.imported_tables
        )

    @property
    def fixed_slots(self) -> int:
        """The number of slots at the beginning of the table that the module assigns by itself."""
        tables = (*self.info.imported_tables, *self.info.tables)
        chooses = tables and (self.brings_table or not self.is_position_independent)
        return max(self.info.fixed_slots, tables[0].limits.minimum if chooses else 0)

    def find(self, name: str) -> Definition | None:
        """Return the definition of a symbol in this module, or None."""
        found = ScopeEntries(bytearray(self.scope_entry)).find(name)
        return None if found is None else Definition(self, name, found)

    def leaves_to_linker(self, name: str) -> bool:
        """Whether the linker serves this registration of destructors for the module.

        True for a library that imports the function and does not define it. The linker then runs
        the destructor, even if another module defines the function.
        """
        return name in DESTRUCTORS and not self.is_main and self.find(name) is None

    def _base(self, index: int) -> int | None:
        """Return the value of an imported global if it is a base of the module, else None.

        Initial values are computed from it.
        """
        if self._bases is None:
            values = {"__memory_base": self.memory_base, "__table_base": self.table_base}
            imported = [each for each in self.info.imports if each.kind is Kind.GLOBAL]
            self._bases = [
                values.get(each.name) if each.module == "env" else None for each in imported
            ]
        return self._bases[index] if index < len(self._bases) else None

    def _element_slots(self) -> dict[int, int]:
        """Return the slots of the functions in the element segments of the module, by function."""
        slots = {}
        for index, (offset, position) in self.info.element_slots.items():
            base = offset.evaluate(self._base)
            if base is not None:
                slots[index] = base + position
        return slots

    @property
    def slot_count(self) -> int:
        """The number of slots of exported functions from ``slot_base`` on."""
        return len(self.outline.slot_exports) if self.has_slots else 0

    def definition_of(self, function: int) -> Definition | None:
        """Return an exported symbol for the function with this index, or None."""
        for export in self.info.exports.values():
            if (
                export.kind is Kind.FUNC
                and export.index == function
                and (definition := self.find(export.name)) is not None
            ):
                return definition
        return None

    def function_at(self, slot: int) -> int | None:
        """Return the index of the function in one of the slots of the module, or None."""
        if self.slot_base <= slot < self.slot_base + self.slot_count:
            position = self.outline.slot_exports[slot - self.slot_base]
            return next(itertools.islice(self.info.exports.values(), position, None)).index
        if self._function_of is None:
            self._function_of = {own: function for function, own in self._element_slots().items()}
        known = self._function_of.get(slot)
        return (
            known
            if known is not None
            else next((function for function, own in self.slots.items() if own == slot), None)
        )

    @property
    def thread_local(self) -> tuple[int, int] | None:
        """The size and alignment (bytes) of the thread-local block.

        None if there is none that the module can initialise.
        """
        return self.outline.thread_local

    @property
    def makes_thread_locals(self) -> bool:
        """Whether the module allocates the thread-local blocks of other threads itself.

        Libraries of WASIX do so if they export no other way.
        """
        return (
            "__wasix_init_tls" in self.info.private
            and self.outline.thread_local is None
            and not self.is_main
            and self.lifecycle_function("__wasix_init_tls", _MAKES_BLOCK)
        )

    def check_thread_locals(self) -> None:
        """Refuse a module whose thread-local data cannot be initialised in a second thread.

        Without a way to initialise a block, all threads would silently share one.

        Raises:
            UnsupportedError: The module has such data.
        """
        if (
            self.outline.thread_local is None
            and not self.makes_thread_locals
            and self.outline.has_thread_locals
        ):
            raise UnsupportedError(
                f"{self.name} has thread-local data but exports no way to initialise it in another "
                "thread; link it with --export=__wasm_init_tls --export=__tls_base "
                "--export=__tls_size --export=__tls_align",
                module=self.name,
            )

    def entry(self, name: str, type_: FuncType) -> int | None:
        """Return the export number of a :meth:`lifecycle_function`, or None."""
        position = self.outline.entries.get(name)
        if position is None and self.lifecycle_function(name, type_):
            position = self.outline.entries[name] = self.outline.position(name)
        return position

    def lifecycle_function(self, name: str, type_: FuncType) -> bool:
        """Whether the module has this private export, such as a constructor or ``_start``.

        Raises:
            ParseError: The export is not a function of the type.
        """
        export = self.info.private.get(name)
        if export is None:
            return False
        found = self.info.export_type(export)
        if found != type_:
            raise ParseError(
                f"exports {name} as {export.kind.label} {found}; it must be a function {type_}",
                module=self.name,
            )
        return True
