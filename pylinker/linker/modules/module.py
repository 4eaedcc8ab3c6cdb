"""A loaded module: what the linker decided about it, for all instance groups alike.

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
    from pylinker.wasm import Export, ExternType, ModuleInfo, TagType

__all__ = [
    "AtExit",
    "Cell",
    "Constant",
    "Definition",
    "Direct",
    "HostCall",
    "ImportSource",
    "LoadedModule",
    "OwnTag",
    "Plt",
    "PltEntry",
    "ProcedureLinkage",
    "PythonCall",
    "ThreadLocalCell",
    "WasiCall",
]


_MAKES_BLOCK = FuncType((), ("i32",))


class Definition:
    """What a symbol means: an export of a module, under its ``name``.

    ``position`` is its number among the exports, ``kind`` what it is, as a symbol.
    """

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
        """Whether it is data that each thread has for itself."""
        return self.kind is SymbolKind.THREAD_LOCAL

    @property
    def value(self) -> int | None:
        """The slot of a function, the address of data, or the offset in the thread-local block; None if it has none, or none yet."""
        if self._value is None and self.kind is SymbolKind.FUNCTION:
            return self.module.slots.get(self.export.index)
        return self._value

    @property
    def label(self) -> str:
        """What it is, for messages."""
        kind = self.export.kind
        return "data" if kind is Kind.GLOBAL else kind.label

    def __repr__(self) -> str:
        return f"{self.name}@{self.module.name}"


@dataclass(frozen=True, slots=True)
class Constant:
    """An immutable i32 global: ``__memory_base``, ``__table_base``."""

    value: int


@dataclass(frozen=True, slots=True)
class Cell:
    """An entry of the GOT: a mutable i32 global that holds an address or a table slot."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class ThreadLocalCell:
    """A GOT entry for thread-local data: ``offset`` bytes from the module's ``__tls_base``, another address in each group."""

    module: LoadedModule
    offset: int


@dataclass(frozen=True, slots=True)
class Direct:
    """An export of a module that is instantiated by then."""

    definition: Definition


@dataclass(frozen=True, slots=True)
class Plt:
    """A trampoline: entry ``index`` of the importing module's PLT."""

    index: int


@dataclass(frozen=True, slots=True)
class WasiCall:
    """A function of WASI preview 1."""

    name: str


@dataclass(frozen=True, slots=True)
class HostCall:
    """A function the linker itself provides, told which module calls: ``dlopen``, ``__cxa_atexit``, ..."""

    name: str
    type: FuncType


@dataclass(frozen=True, slots=True)
class OwnTag:
    """An exception tag that no module defines: one for each name in a group."""

    name: str
    type: TagType


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A Python function of the program's user, for one type: ``source`` as the core has it.

    It does not keep the function.
    """

    name: str
    type: FuncType
    source: bytes


ImportSource: TypeAlias = (
    Constant | Cell | ThreadLocalCell | Direct | Plt | WasiCall | HostCall | PythonCall | OwnTag
)


@dataclass(slots=True)
class PltEntry:
    """A function import bound at its first call, in each group by itself.

    ``definition`` is what it was found to mean, at load or at the first call of any group: the same
        for all.
    """

    module: str
    name: str
    type: FuncType
    definition: Definition | None = None


class ProcedureLinkage(Sequence[PltEntry]):
    """The entries of one module's PLT, by the numbers of its trampolines.

    The first are those that the core has decided (:meth:`decided`), of which there may be
    thousands: each is made when it is asked for. ``lazy`` is what the core said of them: for each
    the number of the import, that of the module it was found in, and the export's.
    """

    __slots__ = ("_count", "_entries", "_info", "_targets", "lazy")

    def __init__(self, info: ModuleInfo) -> None:
        self._info = info
        self._entries: dict[int, PltEntry] = {}
        self._count = 0
        self._targets: Mapping[int, LoadedModule] = {}
        self.lazy: Sequence[int] = ()

    def decided(self, lazy: Sequence[int], modules: Sequence[LoadedModule | None]) -> None:
        """Have the entries that the core has decided; ``modules`` are those of its scope.

        Before all others.
        """
        self.lazy = lazy
        # Not all of them: an entry keeps what it leads to.
        self._targets = {
            number: target for number in set(lazy[1::3]) if (target := modules[number]) is not None
        }
        self._count = len(lazy) // 3

    def append(self, entry: PltEntry) -> None:
        """Add an entry."""
        self._entries[self._count] = entry
        self._count += 1

    def signature(self) -> bytes:
        """Return bytes that, with the module's own, say of which functions the entries are, in their order."""
        decided = array("I", self.lazy[::3])
        others = "".join([f"{each.name!r} {each.type}" for each in self[len(decided) :]])
        return b"%d %b %b" % (len(decided), decided.tobytes(), others.encode())

    def types(self) -> Iterator[FuncType]:
        """Iterate over the types of the entries, none of which is made for it."""
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
            entry = self._entries.setdefault(
                number, made
            )  # two threads that ask for the same one get the same
        return entry


class AtExit(NamedTuple):
    """A destructor the module registered: a table slot, and its argument (None: the function takes none)."""

    slot: int
    argument: int | None


class LoadedModule:
    """One module of the program.

    Attributes, fixed once it is loaded: ``name``, ``path`` (of its file, or None), ``key`` (path,
    or digest of bytes that were given; opening the same key again is the same module), ``info``,
    ``outline`` and ``code``, ``number`` (order of loading), ``is_main``, ``memory_base`` and
    ``memory_size`` (bytes), ``table_base`` and ``table_size`` (slots), ``needed``, ``home`` (where
    its needs are searched for besides, or None), ``sources`` (one for each import, in order, as the
    core has them) and ``special`` (those that the core has not decided, by index), ``plt``,
    ``local_scope`` (what a lookup goes through after the global scope), ``ready`` (modules that are
    resolved later can import from it directly), ``native`` (what the core instantiates) and its
    ``address``, ``place`` (in every group's list), ``has_slots`` and ``slot_base`` (the slots of
    its exported functions), ``trampolines`` (their code, or None), ``plt_users`` (the modules that
    use them, too, and from which number on), ``host_handles`` (of host functions, by name),
    ``calls_wasi`` (whether it imports functions of the WASI process). Under the load lock:
    ``handles`` (open ``dlopen``). Under the linker's lock: ``permanent``, ``bound`` (modules whose
    definitions it uses), ``heap`` (what it finds as ``__heap_base`` and ``__heap_end``, or None),
    ``slots`` (function index -> table slot given out for it), ``at_exit``, ``initialized`` (order
    of construction,
    0: not yet), ``closing`` (its destructors run), ``lingering`` (they have run, but keys keep it),
    ``keys`` (of ``pthread_key_create``, whose destructor is a function of the module), ``texts``
    (strings in guest memory for ``dladdr``: address and size, by text).
    """

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
        "gone",
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
        "outline",
        "path",
        "permanent",
        "place",
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
        self.heap: tuple[int, int] | None = None
        self.memory_base = 0
        self.memory_size = self.info.dylink.memory_size if self.info.dylink else 0
        self.memory_reserved = False
        self.table_base = 0
        self.table_size = self.info.dylink.table_size if self.info.dylink else 0
        self.needed: list[LoadedModule] = []
        self.sources: Sources = NULL
        self.special: list[tuple[int, ImportSource]] = []
        self.plt = ProcedureLinkage(info)
        self.local_scope: Sequence[LoadedModule] = ()
        self.handles = 0
        self.home: Home | None = None
        self.calls_wasi = False
        self.permanent = False
        self.bound: set[LoadedModule] = set()
        self.slots: dict[int, int] = {}
        self.at_exit: list[AtExit] = []
        self.initialized = 0
        self.closing = False
        self.lingering = False
        self.keys: set[int] = set()
        self.texts: dict[str, tuple[int, int]] = {}
        self.gone = False
        self.native: Library
        self.ready = False
        self.address = 0
        self.place: int | None = None
        self.grants: list[Grant] = []
        self.has_slots = False
        self.slot_base = 0
        self.trampolines: Trampolines | None = None
        self.plt_users: Sequence[tuple[int, weakref.ref[LoadedModule]]] = ()
        self.host_handles: dict[str, int] = {}
        self._function_of: dict[int, int] | None = None
        self._bases: list[int | None] | None = None
        self._scope_entry: bytes | None = None

    def plt_user(self, index: int) -> tuple[LoadedModule, int]:
        """Return whose trampoline number ``index`` of this module is, and which of that module's."""
        module, base = self, 0
        place = bisect.bisect_right(self.plt_users, index, key=operator.itemgetter(0))
        if place:
            base, known = self.plt_users[place - 1]
            user = known()
            if user is None:
                raise InternalError(
                    f"trampoline {index} of {self.name} was called by a module that is gone"
                )
            module = user
        return module, index - base

    def __repr__(self) -> str:
        return f"<LoadedModule {self.name!r} memory={self.memory_base:#x}+{self.memory_size:#x} table={self.table_base}+{self.table_size}>"

    @property
    def scope_entry(self) -> bytes:
        """The module in a scope, as it is now, for the core.

        Once it has its record it stays like that.
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
        """The directory of the module's file: what ``$ORIGIN`` stands for."""
        return os.path.dirname(self.path) if self.path else None

    @property
    def is_position_independent(self) -> bool:
        """Whether the module lies where the linker puts it and not at addresses of its own choice."""
        return self.info.is_position_independent

    @property
    def brings_table(self) -> bool:
        """Whether the module defines the program's function table itself."""
        export = self.info.private.get("__indirect_function_table")
        return (
            export is not None
            and export.kind is Kind.TABLE
            and export.index == 0
            and not self.info.imported_tables
        )

    @property
    def fixed_slots(self) -> int:
        """Slots at the beginning of the table that the module uses by its own choice."""
        tables = (*self.info.imported_tables, *self.info.tables)
        chooses = tables and (self.brings_table or not self.is_position_independent)
        return max(self.info.fixed_slots, tables[0].limits.minimum if chooses else 0)

    def find(self, name: str) -> Definition | None:
        """Return the module's own definition of a symbol, or None."""
        found = ScopeEntries(bytearray(self.scope_entry)).find(name)
        return None if found is None else Definition(self, name, found)

    def leaves_to_linker(self, name: str) -> bool:
        """Whether the module is a library that registers a destructor with this function, which it does not define itself.

        The linker then runs the destructor, whichever module defines the function.
        """
        return name in DESTRUCTORS and not self.is_main and self.find(name) is None

    def _base(self, index: int) -> int | None:
        """Return the value of an imported global if it is one of the module's bases: what initial values are computed from."""
        if self._bases is None:
            values = {"__memory_base": self.memory_base, "__table_base": self.table_base}
            imported = [each for each in self.info.imports if each.kind is Kind.GLOBAL]
            self._bases = [
                values.get(each.name) if each.module == "env" else None for each in imported
            ]
        return self._bases[index] if index < len(self._bases) else None

    def _element_slots(self) -> dict[int, int]:
        """Return the slots of the functions in the module's own element segments, by function."""
        slots = {}
        for index, (offset, position) in self.info.element_slots.items():
            base = offset.evaluate(self._base)
            if base is not None:
                slots[index] = base + position
        return slots

    @property
    def slot_count(self) -> int:
        """Slots given to exported functions from ``slot_base`` on."""
        return len(self.outline.slot_exports) if self.has_slots else 0

    def definition_of(self, function: int) -> Definition | None:
        """Return an exported symbol that is the function with this index, or None."""
        for export in self.info.exports.values():
            if (
                export.kind is Kind.FUNC
                and export.index == function
                and (definition := self.find(export.name)) is not None
            ):
                return definition
        return None

    def function_at(self, slot: int) -> int | None:
        """Return the index of the function in one of the module's slots, or None."""
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
        """Size and alignment (bytes) of the module's thread-local block, or None if it has none that it can initialise."""
        return self.outline.thread_local

    @property
    def makes_thread_locals(self) -> bool:
        """Whether the module makes the thread-local blocks of other threads itself, as libraries of WASIX do: it shows no other way."""
        return (
            "__wasix_init_tls" in self.info.private
            and self.outline.thread_local is None
            and not self.is_main
            and self.lifecycle_function("__wasix_init_tls", _MAKES_BLOCK)
        )

    def check_thread_locals(self) -> None:
        """Refuse a module whose thread-local data a second thread could not have for itself.

        Raises UnsupportedError. Without a way to initialise a block, all threads would silently
        share one.
        """
        if (
            self.outline.thread_local is None
            and not self.makes_thread_locals
            and self.outline.has_thread_locals
        ):
            raise UnsupportedError(
                f"{self.name} has thread-local data but exports no way to initialise it in another thread; link it with "
                "--export=__wasm_init_tls --export=__tls_base --export=__tls_size --export=__tls_align",
                module=self.name,
            )

    def entry(self, name: str, type_: FuncType) -> int | None:
        """Return the number of a :meth:`lifecycle_function` among the exports, or None if the module has none of the name."""
        position = self.outline.entries.get(name)
        if position is None and self.lifecycle_function(name, type_):
            position = self.outline.entries[name] = self.outline.position(name)
        return position

    def lifecycle_function(self, name: str, type_: FuncType) -> bool:
        """Whether the module has this private export (a constructor, ``_start``, ...), which must be a function of the type."""
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
