"""What of a module's exports follows from its bytes alone, as the linker and the C core count them. Shared by all programs."""

from __future__ import annotations

import array
import functools
import hashlib
import json
import os
import weakref
from typing import TYPE_CHECKING, Final

from pylinker.native.enums import NO_SLOT, SymbolKind, WantedKind
from pylinker.native.libraries import Shape
from pylinker.native.symbols import SYMBOL, WANTED, Names, Symbols
from pylinker.runtime.once import made_once
from pylinker.wasm import (
    PRIVATE,
    Export,
    FuncType,
    GlobalType,
    Kind,
    MemoryType,
    SymbolFlags,
    has_thread_locals,
    is_reusable,
    join,
    names_of,
    split,
)

if TYPE_CHECKING:
    from pylinker.wasm import Import, ModuleInfo

__all__ = ["DESTRUCTORS", "HEAP", "KEYS", "WASIX", "HeapUse", "Outline", "adopt", "outline_of", "pack"]

WASIX = "wasix_32v1"
"""The import module of WASIX."""

DESTRUCTORS = frozenset({"__cxa_atexit", "__cxa_thread_atexit", "__cxa_thread_atexit_impl", "atexit"})
"""Functions with which a library registers a destructor: that is the linker's to run, whoever defines them."""

HEAP = frozenset({"__heap_base", "__heap_end"})
"""Data symbols that differ from module to module: one has the heap, all others an empty range."""

KEYS = frozenset({"pthread_key_create", "pthread_key_delete", "tss_create", "tss_delete"})
"""Functions of the C library that the linker watches: a key keeps the library of its destructor in memory."""

_WATCHED = DESTRUCTORS | KEYS
_BASE = GlobalType("i32", mutable=False)
_CELL = GlobalType("i32", mutable=True)
_GLOBALS = {
    ("env", "__stack_pointer", _CELL): WantedKind.STACK_POINTER,
    ("env", "__memory_base", _BASE): WantedKind.MEMORY_BASE,
    ("env", "__table_base", _BASE): WantedKind.TABLE_BASE,
}
_CELLS = {"GOT.mem": WantedKind.DATA, "GOT.func": WantedKind.POINTER}
_KINDS = tuple(Kind)
_PARTS = 10
_KEY = os.urandom(16)


class HeapUse:
    """Bits for what a module has to do with the heap: what it imports of it, and what it defines. Not an enum, whose ``&`` is slow."""

    BASE: Final = 1  # imports GOT.mem.__heap_base
    END: Final = 2  # imports GOT.mem.__heap_end
    TAKES_ALL: Final = 4  # has Emscripten's sbrk, whose heap goes on to memory.size
    MALLOC: Final = 8
    FREE: Final = 16
    SBRK: Final = 32
    SBRK_POINTER: Final = 64  # Emscripten's, which says where the next sbrk begins


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
def _number_of(type_: FuncType) -> int:
    """Return a number that only equal types have. With a key, since modules nobody trusts bring the types."""
    return int.from_bytes(hashlib.blake2b(repr(type_).encode(), digest_size=8, key=_KEY).digest(), "little")


class Outline:
    """The exports of a module, counted in their order, and what it imports only few of.

    Made from ``packed``, what :func:`pack` gave for the module; ValueError if it is nothing like that.

    Attributes: ``names``, ``native`` (what the module defines and imports, for the core), ``slot_exports`` (numbers of the exported
    functions that need a table slot given out), ``slot_order`` (function index -> place among these), ``symbols`` (what the module defines,
    by name), ``positions`` (of all exports, by name), ``wasix`` (whether it imports anything of WASIX), ``thread_local`` (size and
    alignment, in bytes, of the thread-local block that the module can initialise, or None), ``has_thread_locals`` (as far as can be told),
    ``is_shared`` (whether all threads have the same of it: there is nothing thread-local), ``reusable`` (whether instances may be used
    again), ``shapes`` (:class:`Shape`, as main and as library), ``entries`` (functions of the module's life that were
    checked, by name: their numbers), ``heap`` (what it has to do with the heap).
    Those that few ask for are made when they are.
    """

    def __init__(self, packed: memoryview) -> None:
        parts = split(packed)
        if len(parts) != _PARTS:
            raise ValueError("not an outline")
        head = json.loads(str(parts[0], "utf-8"))
        self.wasix: bool = head["wasix"]
        self.has_thread_locals: bool = head["has_thread_locals"]
        self.reusable: bool = head["reusable"]
        self.heap: int = head["heap"]
        self.thread_local: tuple[int, int] | None = None if head["thread_local"] is None else tuple(head["thread_local"])
        self._private: dict[str, int] = head["private"]
        self.is_shared = self.thread_local is None and not self.has_thread_locals and "__wasix_init_tls" not in self._private
        self.entries: dict[str, int] = {}
        types = [_number_of(FuncType(tuple(params), tuple(results))) for params, results in head["types"]]
        self.names = Names(parts[1], parts[2])
        self._kinds, self._indexes, self._symbols = parts[3], parts[4].cast("I"), parts[5]
        self.slot_exports = array.array("I", bytes(parts[6]))
        self.native = Symbols(self.names, parts[5], Names(parts[7], parts[8]), parts[9], types)
        self.shapes: dict[bool, Shape] = {}

    def export_at(self, position: int, name: str) -> Export:
        """Return an export, whose ``name`` the caller knows."""
        return Export(name, _KINDS[self._kinds[position]], self._indexes[position])

    def position(self, name: str) -> int:
        """Return the number of an export; KeyError if there is none of this name."""
        position = self._private.get(name)
        return self.positions[name] if position is None else position

    @made_once
    def positions(self) -> dict[str, int]:
        """The number of each export."""
        return {name: position for position, name in enumerate(self.names)}

    @made_once
    def symbols(self) -> dict[str, Export]:
        """What the module defines."""
        names = list(self.positions)
        positions = [each[0] for each in SYMBOL.iter_unpack(self._symbols)]
        return {names[position]: self.export_at(position, names[position]) for position in positions}

    @made_once
    def slot_order(self) -> dict[int, int]:
        """The place of a function among ``slot_exports``, by its index."""
        indexes = self._indexes
        return {indexes[position]: place for place, position in enumerate(self.slot_exports)}


def pack(info: ModuleInfo) -> bytes:
    """Return what an :class:`Outline` is made from."""
    exports = info.exports
    slot_exports, slot_order = array.array("I"), dict[int, int]()
    imported, elements = info.imported_count(Kind.FUNC), info.element_slots
    for position, export in enumerate(exports.values()):
        if export.kind is Kind.FUNC:
            index = export.index
            # An exported import is a symbol of somebody else, or of the host: it gets a slot only when it is asked for.
            if index >= imported and index not in elements and index not in slot_order and export.name not in PRIVATE:
                slot_order[index] = len(slot_order)
                slot_exports.append(position)
    types: dict[FuncType, int] = {}
    symbols, wanted = _define(info, slot_order, types), _wanted(info, types)
    head = {
        "wasix": any(each.module == WASIX for each in info.imports),
        "has_thread_locals": has_thread_locals(info),
        "reusable": is_reusable(info),
        "heap": _heap_use(info),
        "thread_local": _thread_local(info),
        "private": {name: position for position, name in enumerate(exports) if name in PRIVATE},
        "types": list(types),
    }
    return join(
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


def _define(info: ModuleInfo, slot_order: dict[int, int], types: dict[FuncType, int]) -> bytes:
    """Find out what the module defines; exports that are private or that somebody else's symbol lies behind are no definitions."""
    aliases = _aliases(info)
    bases = [
        0 if each.module == "env" and each.name in ("__memory_base", "__table_base") else None
        for each in info.imports
        if each.kind is Kind.GLOBAL
    ]
    flags = info.dylink.export_flags if info.dylink else {}
    records = []
    record, function, data, other = SYMBOL.pack, int(SymbolKind.FUNCTION), int(SymbolKind.DATA), int(SymbolKind.OTHER)
    for position, export in enumerate(info.exports.values()):
        name, kind, index = export
        if name in PRIVATE or (kind, index) in aliases:
            continue
        packed = record(position, other, NO_SLOT, 0, 0, 0)
        type_ = info.export_type(export)
        if kind is Kind.FUNC:
            assert isinstance(type_, FuncType)
            packed = record(position, function, slot_order.get(index, NO_SLOT), 0, 0, types.setdefault(type_, len(types)))
        elif kind is Kind.GLOBAL:
            init = info.global_init(index) if type_ == ("i32", False) else None
            value = None if init is None else init.evaluate(lambda base: bases[base] if base < len(bases) else None)
            if init is None or value is None:
                continue
            own = init.evaluate(lambda _base: None)  # None: it depends on where the module lies in another way than by its offset
            if own is not None and not flags.get(name, 0) & SymbolFlags.TLS:
                absolute = info.dylink is None or bool(flags.get(name, 0) & SymbolFlags.ABSOLUTE)
                packed = record(position, data, NO_SLOT, own & 0xFFFFFFFF, not absolute, 0)
        records.append(packed)
    return b"".join(records)


def _wanted(info: ModuleInfo, types: dict[FuncType, int]) -> bytes:
    """Return what each import asks for, as the core looks it up."""
    pack, function = WANTED.pack, int(WantedKind.FUNCTION)
    records = []
    first: dict[Import, int] = {}
    for index, wanted_import in enumerate(info.imports):
        space, name, kind, type_ = wanted_import
        if kind is Kind.FUNC:
            assert isinstance(type_, FuncType)
            simple = space == "env" and name not in _WATCHED
            same = first.setdefault(wanted_import, index) if simple else index
            records.append(pack(function, same, types.setdefault(type_, len(types))) if simple else pack(WantedKind.OTHER, same, 0))
            continue
        wanted = WantedKind.OTHER
        if kind is Kind.GLOBAL:
            assert isinstance(type_, GlobalType)
            if type_ == _CELL and name not in HEAP and not (space == "GOT.func" and name in _WATCHED):
                wanted = _CELLS.get(space, WantedKind.OTHER)
            wanted = _GLOBALS.get((space, name, type_), wanted)
        elif space == "env" and name == "memory" and isinstance(type_, MemoryType) and not type_.limits.is64:
            wanted = WantedKind.MEMORY
        elif space == "env" and name == "__indirect_function_table" and kind is Kind.TABLE:
            wanted = WantedKind.TABLE
        records.append(pack(wanted, index, 0))
    return b"".join(records)


def _heap_use(info: ModuleInfo) -> int:
    """Return what the module has to do with the heap: bits of HeapUse."""
    use = 0
    for space, name, kind, _ in info.imports:
        if space == "GOT.mem" and name in HEAP:
            use |= HeapUse.BASE if name == "__heap_base" else HeapUse.END
        elif space == "env" and kind is Kind.FUNC and name in _EMSCRIPTEN_GROWS:
            use |= HeapUse.TAKES_ALL
    imported = info.imported_count(Kind.FUNC)
    for name, (type_, flag) in _HEAP_FUNCTIONS.items():
        export = info.exports.get(name)
        if export is not None and export.kind is Kind.FUNC and export.index >= imported and info.export_type(export) == type_:
            use |= flag
    return use


def _thread_local(info: ModuleInfo) -> tuple[int, int] | None:
    """Return size and alignment of the thread-local block, or None if there is none that the module can initialise."""
    exports = info.exports
    if "__wasm_init_tls" not in exports or "__tls_size" not in exports:
        return None
    values = [1, 1]
    for index, name in enumerate(("__tls_size", "__tls_align")):
        export = exports.get(name)
        init = info.global_init(export.index) if export is not None and export.kind is Kind.GLOBAL else None
        value = init.evaluate(lambda _base: None) if init is not None else None
        values[index] = value if value is not None else 1
    return (values[0], max(1, values[1])) if values[0] else None


def _aliases(info: ModuleInfo) -> set[tuple[Kind, int]]:
    """Return the imports, by kind and index, that are themselves symbols to be resolved: exported again, they would find themselves."""
    counts = dict.fromkeys(Kind, 0)
    aliases = set()
    for module, _, kind, _ in info.imports:
        if module in ("env", "GOT.mem", "GOT.func"):
            aliases.add((kind, counts[kind]))
        counts[kind] += 1
    return aliases


_outlines: weakref.WeakKeyDictionary[ModuleInfo, Outline] = weakref.WeakKeyDictionary()


def outline_of(info: ModuleInfo) -> Outline:
    """Return a module's outline, made once for each module that was read."""
    outline = _outlines.get(info)
    if outline is None:
        outline = _outlines[info] = Outline(memoryview(pack(info)))
    return outline


def adopt(info: ModuleInfo, packed: memoryview) -> None:
    """Make a module's outline from what was packed before. ValueError if it is nothing like that."""
    _outlines[info] = Outline(packed)
