"""Module metadata that follows from the bytes alone: export order, table slots, symbol records.

The numbering is that of the linker and the C core. Shared by all programs.
"""

from __future__ import annotations

import array
import functools
import hashlib
import itertools
import json
import os
import weakref
from typing import TYPE_CHECKING, Final

from pylinker.native.enums import SymbolBase, SymbolKind, WantedKind
from pylinker.native.libraries import ExportLayout
from pylinker.native.symbols import SYMBOL, WANTED, Names, Symbols
from pylinker.wasm import (
    GOT_FUNC,
    GOT_MEM,
    PRIVATE,
    Export,
    FuncType,
    GlobalType,
    Kind,
    MemoryType,
    SymbolFlags,
    has_thread_locals,
    is_reusable,
    names_of,
    pack_sections,
    pack_type,
    unpack_sections,
    unpack_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylinker.wasm import ConstExpr, ExternType, Import, ModuleInfo

__all__ = [
    "DESTRUCTORS",
    "HEAP",
    "KEYS",
    "PRIVATE_GLOBALS",
    "SYMBOL_SPACES",
    "WASIX",
    "HeapUse",
    "Outline",
    "adopt",
    "kind_of",
    "outline_of",
    "pack",
]

WASIX = "wasix_32v1"
"""The import module of WASIX."""

DESTRUCTORS = frozenset(
    {"__cxa_atexit", "__cxa_thread_atexit", "__cxa_thread_atexit_impl", "atexit"}
)
"""Functions that register a destructor: the linker provides them, even if a module defines them."""

HEAP = frozenset({"__heap_base", "__heap_end"})
"""Data symbols that differ by module: one module has the heap, all others an empty range."""

KEYS = frozenset({"pthread_key_create", "pthread_key_delete", "tss_create", "tss_delete"})
"""Functions of the C library that the linker wraps: a key keeps its destructor's library loaded."""

_WATCHED = DESTRUCTORS | KEYS
_BASE = GlobalType("i32", mutable=False)
_CELL = GlobalType("i32", mutable=True)
PRIVATE_GLOBALS = {"__stack_pointer": _CELL, "__memory_base": _BASE, "__table_base": _BASE}
"""Globals of ``env`` with the bases of a module: no symbols; the linker provides them."""
_GLOBALS = {
    "__stack_pointer": WantedKind.STACK_POINTER,
    "__memory_base": WantedKind.MEMORY_BASE,
    "__table_base": WantedKind.TABLE_BASE,
}
_CELLS = {GOT_MEM: WantedKind.DATA, GOT_FUNC: WantedKind.POINTER}
_KIND_WORDS = {GOT_MEM: "data", GOT_FUNC: "function pointer"}
SYMBOL_SPACES = frozenset({"env", *_CELLS})
"""The import modules whose names are symbols of other modules."""
_KINDS = tuple(Kind)
_PARTS = 10
_KEY = os.urandom(16)


def kind_of(wanted: Import) -> str:
    """Return the kind of an import for messages: a GOT entry is data or a function pointer."""
    return _KIND_WORDS.get(wanted.module, wanted.kind.label)


class HeapUse:
    """Bits for a module's imports and definitions of the heap.

    Not an enum, whose ``&`` is slow.
    """

    BASE: Final = 1  # imports GOT.mem.__heap_base
    END: Final = 2  # imports GOT.mem.__heap_end
    TAKES_ALL: Final = 4  # has Emscripten's sbrk, whose heap extends to memory.size
    MALLOC: Final = 8
    FREE: Final = 16
    SBRK: Final = 32
    SBRK_POINTER: Final = 64  # Emscripten's, the address for the next sbrk


_EMSCRIPTEN_GROWS = frozenset({"emscripten_notify_memory_growth", "emscripten_resize_heap"})
_TAKES = FuncType(("i32",), ("i32",))
_HEAP_FUNCTIONS = {
    "emscripten_get_sbrk_ptr": (FuncType((), ("i32",)), HeapUse.SBRK_POINTER | HeapUse.TAKES_ALL),
    "emscripten_resize_heap": (_TAKES, HeapUse.TAKES_ALL),
    "free": (FuncType(("i32",), ()), HeapUse.FREE),
    "malloc": (_TAKES, HeapUse.MALLOC),
    "sbrk": (_TAKES, HeapUse.SBRK),
}


@functools.lru_cache(maxsize=4096)
def _number_of(type_: ExternType) -> int:
    """Return a number that is equal for equal types only.

    It is keyed, as the types come from untrusted modules.
    """
    return int.from_bytes(
        hashlib.blake2b(repr(type_).encode(), digest_size=8, key=_KEY).digest(), "little"
    )


class Outline:
    """The metadata of a module: its exports in order, and rarely used facts about its imports.

    It is made from ``packed``, the result of :func:`pack`; ValueError if that is malformed.
    """

    names: Names
    """Names of the exports, in order."""
    native: Symbols
    """Definitions and imports of the module, for the core."""
    slot_exports: array.array[int]
    """Numbers of the exported functions that need a table slot of their own."""
    types: list[ExternType]
    """Types of the definitions and of the imported functions."""
    wasix: bool
    """Whether the module imports anything of WASIX."""
    thread_local: tuple[int, int] | None
    """Size and alignment in bytes of the thread-local block that the module can initialise."""
    has_thread_locals: bool
    """Whether it has thread-local variables, as far as that can be determined."""
    is_shared: bool
    """Whether all threads share all of it: it has nothing thread-local."""
    reusable: bool
    """Whether its instances may be pooled."""
    layouts: dict[bool, ExportLayout]
    """Export layouts, as main module and as library."""
    entries: dict[str, int]
    """Numbers of the entry functions that were checked, by name."""
    heap: int
    """Use of the heap, as bits of :class:`HeapUse`."""

    def __init__(self, packed: memoryview) -> None:
        parts = unpack_sections(packed)
        if len(parts) != _PARTS:
            raise ValueError("not an outline")
        head = json.loads(str(parts[0], "utf-8"))
        self.wasix = head["wasix"]
        self.has_thread_locals = head["has_thread_locals"]
        self.reusable = head["reusable"]
        self.heap = head["heap"]
        self.thread_local = None if head["thread_local"] is None else tuple(head["thread_local"])
        self._private: dict[str, int] = head["private"]
        self.is_shared = (
            self.thread_local is None
            and not self.has_thread_locals
            and "__wasix_init_tls" not in self._private
        )
        self.entries = {}
        self.types = [unpack_type(each) for each in head["types"]]
        numbers = [_number_of(each) for each in self.types]
        self.names = Names(parts[1], parts[2])
        self._kinds, self._indexes, self._symbols = parts[3], parts[4].cast("I"), parts[5]
        self.slot_exports = array.array("I", bytes(parts[6]))
        self.native = Symbols(self.names, parts[5], Names(parts[7], parts[8]), parts[9], numbers)
        self.layouts = {}

    def export_at(self, position: int, name: str) -> Export:
        """Return an export, with the ``name`` that the caller knows."""
        return Export(name, _KINDS[self._kinds[position]], self._indexes[position])

    def position(self, name: str) -> int:
        """Return the number of an export; KeyError if there is none of this name."""
        position = self._private.get(name)
        if position is None:
            found = self.native.find(name)
            position = (
                found
                if found is not None
                else dict(zip(self.names, itertools.count(), strict=False))[name]
            )
        return position

    def symbols(self) -> Iterator[tuple[str, SymbolKind, int, int]]:
        """Iterate over the definitions, in export order: name, kind, position, offset from base."""
        names = list(self.names)
        for position, kind, _, value, *_ in SYMBOL.iter_unpack(self._symbols):
            yield names[position], SymbolKind(kind), position, value


def pack(info: ModuleInfo) -> bytes:
    """Return the packed metadata of a module, for :class:`Outline`."""
    exports = info.exports
    slot_exports, slot_order = array.array("I"), dict[int, int]()
    imported, elements = info.imported_count(Kind.FUNC), info.element_slots
    for position, export in enumerate(exports.values()):
        if export.kind is Kind.FUNC:
            index = export.index
            # An exported import is a symbol of another module, or of the host: it gets a slot
            # only on demand.
            if (
                index >= imported
                and index not in elements
                and index not in slot_order
                and export.name not in PRIVATE
            ):
                slot_order[index] = len(slot_order)
                slot_exports.append(position)
    types: dict[ExternType, int] = {}
    symbols, wanted = _define(info, slot_order, types), _wanted(info, types)
    head = {
        "wasix": any(each.module == WASIX for each in info.imports),
        "has_thread_locals": has_thread_locals(info),
        "reusable": is_reusable(info),
        "heap": _heap_use(info),
        "thread_local": _thread_local(info),
        "private": {name: position for position, name in enumerate(exports) if name in PRIVATE},
        "types": [pack_type(each) for each in types],
    }
    return pack_sections(
        [
            json.dumps(head).encode(),
            *names_of(exports),
            bytes([export.kind for export in exports.values()]),
            array.array("I", [export.index for export in exports.values()]).tobytes(),
            symbols,
            slot_exports.tobytes(),
            *names_of(each.name for each in info.imports),
            wanted,
        ]
    )


def _define(info: ModuleInfo, slot_order: dict[int, int], types: dict[ExternType, int]) -> bytes:
    """Return the symbol records; private exports and exported imports are no definitions."""
    aliases = _aliases(info)
    places = _Places(info)
    flags = info.dylink.export_flags if info.dylink else {}
    elements = info.element_slots
    records = []
    for position, export in enumerate(info.exports.values()):
        name, kind, index = export
        if name in PRIVATE or (kind, index) in aliases:
            continue
        type_ = info.export_type(export)
        symbol, base, value = SymbolKind.OTHER, SymbolBase.NOWHERE, 0
        if kind is Kind.FUNC:
            symbol = SymbolKind.FUNCTION
            place = places.of(elements[index][0]) if index in elements else None
            if place is not None:
                base, value = place[0], place[1] + elements[index][1]
            elif index in slot_order:
                base, value = SymbolBase.SLOTS, slot_order[index]
        elif kind is Kind.GLOBAL:
            init = info.global_init(index) if type_ == ("i32", False) else None
            place = None if init is None else places.of(init)
            if place is None:
                continue
            base, value = place
            flag = flags.get(name, 0) if info.dylink else SymbolFlags.ABSOLUTE
            symbol = (
                SymbolKind.THREAD_LOCAL
                if flag & SymbolFlags.TLS and info.dylink
                else SymbolKind.DATA
            )
            if base is SymbolBase.ABSOLUTE and not flag & (SymbolFlags.ABSOLUTE | SymbolFlags.TLS):
                base = SymbolBase.MEMORY
            if symbol is SymbolKind.THREAD_LOCAL:
                if base is not SymbolBase.ABSOLUTE:
                    continue
                base = SymbolBase.BLOCK
        records.append(
            SYMBOL.pack(
                position, symbol, base, value & 0xFFFFFFFF, types.setdefault(type_, len(types)), 0
            )
        )
    return b"".join(records)


def _unknown(_index: int) -> None:
    """Return None, for a global in an expression that must be constant."""


class _Places:
    """Initial values as linkers write them: offsets from a base of the module, or from 0."""

    _TRIED = ((0, 0), (1, 0), (0, 1), (0x12345679, 0x9ABCDEF1), (0x2468ACE1, 0xFDB97531))

    def __init__(self, info: ModuleInfo) -> None:
        names = {"__memory_base": 0, "__table_base": 1}
        self._bases = [
            names.get(each.name) if each.module == "env" else None
            for each in info.imports
            if each.kind is Kind.GLOBAL
        ]
        self._known: dict[ConstExpr, tuple[SymbolBase, int] | None] = {}

    def of(self, init: ConstExpr) -> tuple[SymbolBase, int] | None:
        """Return base and offset of a value; None if it is unknown or has another form."""
        constant = init.evaluate(_unknown)
        if constant is not None:
            return SymbolBase.ABSOLUTE, constant
        if init not in self._known:
            values = [self._evaluate(init, bases) for bases in self._TRIED]
            self._known[init] = None
            for base in (SymbolBase.MEMORY, SymbolBase.TABLE):
                number = values[0]
                if number is not None and values == [
                    (number + (memory if base is SymbolBase.MEMORY else table)) & 0xFFFFFFFF
                    for memory, table in self._TRIED
                ]:
                    self._known[init] = base, number
        return self._known[init]

    def _evaluate(self, init: ConstExpr, bases: tuple[int, int]) -> int | None:
        def value_of(index: int) -> int | None:
            base = self._bases[index] if index < len(self._bases) else None
            return None if base is None else bases[base]

        return init.evaluate(value_of)


def _wanted(info: ModuleInfo, types: dict[ExternType, int]) -> bytes:
    """Return the import records, for the core's lookup."""
    pack, function = WANTED.pack, int(WantedKind.FUNCTION)
    records = []
    first: dict[Import, int] = {}
    for index, wanted_import in enumerate(info.imports):
        space, name, kind, type_ = wanted_import
        if kind is Kind.FUNC:
            assert isinstance(type_, FuncType)
            simple = space == "env" and name not in _WATCHED
            same = first.setdefault(wanted_import, index) if simple else index
            other = WantedKind.SYMBOL if space == "env" else WantedKind.OTHER
            records.append(
                pack(function, same, types.setdefault(type_, len(types)))
                if simple
                else pack(other, same, 0)
            )
            continue
        wanted = WantedKind.SYMBOL if space in SYMBOL_SPACES else WantedKind.OTHER
        if kind is Kind.GLOBAL:
            assert isinstance(type_, GlobalType)
            if type_ == _CELL and name not in HEAP and not (space == GOT_FUNC and name in _WATCHED):
                wanted = _CELLS.get(space, wanted)
            if space == "env" and type_ == PRIVATE_GLOBALS.get(name):
                wanted = _GLOBALS[name]
        elif (
            space == "env"
            and name == "memory"
            and isinstance(type_, MemoryType)
            and not type_.limits.is64
        ):
            wanted = WantedKind.MEMORY
        elif space == "env" and name == "__indirect_function_table" and kind is Kind.TABLE:
            wanted = WantedKind.TABLE
        records.append(pack(wanted, index, 0))
    return b"".join(records)


def _heap_use(info: ModuleInfo) -> int:
    """Return the use of the heap, as bits of :class:`HeapUse`."""
    use = 0
    for space, name, kind, _ in info.imports:
        if space == GOT_MEM and name in HEAP:
            use |= HeapUse.BASE if name == "__heap_base" else HeapUse.END
        elif space == "env" and kind is Kind.FUNC and name in _EMSCRIPTEN_GROWS:
            use |= HeapUse.TAKES_ALL
    imported = info.imported_count(Kind.FUNC)
    for name, (type_, flag) in _HEAP_FUNCTIONS.items():
        export = info.exports.get(name)
        if (
            export is not None
            and export.kind is Kind.FUNC
            and export.index >= imported
            and info.export_type(export) == type_
        ):
            use |= flag
    return use


def _thread_local(info: ModuleInfo) -> tuple[int, int] | None:
    """Return size and alignment of a thread-local block that the module can initialise, or None."""
    exports = info.exports
    if "__wasm_init_tls" not in exports or "__tls_size" not in exports:
        return None
    values = [1, 1]
    for index, name in enumerate(("__tls_size", "__tls_align")):
        export = exports.get(name)
        init = (
            info.global_init(export.index)
            if export is not None and export.kind is Kind.GLOBAL
            else None
        )
        value = init.evaluate(lambda _base: None) if init is not None else None
        values[index] = value if value is not None else 1
    return (values[0], max(1, values[1])) if values[0] else None


def _aliases(info: ModuleInfo) -> set[tuple[Kind, int]]:
    """Return the imports, by kind and index, that are symbols.

    Exports of them are no definitions: they would be resolved to themselves.
    """
    counts = dict.fromkeys(Kind, 0)
    aliases = set()
    for module, _, kind, _ in info.imports:
        if module in SYMBOL_SPACES:
            aliases.add((kind, counts[kind]))
        counts[kind] += 1
    return aliases


_outlines: weakref.WeakKeyDictionary[ModuleInfo, Outline] = weakref.WeakKeyDictionary()


def outline_of(info: ModuleInfo) -> Outline:
    """Return the metadata of a parsed module, made once."""
    outline = _outlines.get(info)
    if outline is None:
        outline = _outlines[info] = Outline(memoryview(pack(info)))
    return outline


def adopt(info: ModuleInfo, packed: memoryview) -> None:
    """Attach packed metadata to a parsed module. ValueError if it is malformed."""
    _outlines[info] = Outline(packed)
