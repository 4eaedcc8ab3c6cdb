"""What of a module's exports follows from its bytes alone, as the linker and the C core count them. Shared by all programs."""

from __future__ import annotations

import array
import functools
import hashlib
import os
import weakref
from typing import TYPE_CHECKING

from pylinker import _native
from pylinker._native import NO_SLOT, SymbolKind, Wanted
from pylinker.linker.reuse import is_reusable
from pylinker.wasm import FuncType, GlobalType, Kind, MemoryType, SymbolFlags, has_thread_locals

if TYPE_CHECKING:
    from pylinker.wasm import Export, ModuleInfo

__all__ = ["DESTRUCTORS", "PRIVATE", "WASIX", "Outline", "outline_of"]

WASIX = "wasix_32v1"
"""The import module of WASIX."""

# Exports that belong to the module itself and are no symbols: every module may have its own, so they never satisfy an import of
# another (tool-conventions, DynamicLinking.md, and what wasm-ld exports in practice).
PRIVATE = frozenset(
    {
        "_initialize",
        "_start",
        "__indirect_function_table",
        "__memory_base",
        "__stack_pointer",
        "__table_base",
        "__tls_align",
        "__tls_base",
        "__tls_size",
        "__wasi_init_tp",
        "__wasix_init_tls",
        "__wasm_apply_data_relocs",
        "__wasm_apply_global_relocs",
        "__wasm_apply_tls_relocs",
        "__wasm_call_ctors",
        "__wasm_init_memory",
        "__wasm_init_tls",
        "memory",
        "wasi_thread_start",
    }
)


DESTRUCTORS = frozenset({"__cxa_atexit", "atexit"})
"""Functions with which a library registers a destructor: that is the linker's to run, whoever defines them."""

_BASE = GlobalType("i32", mutable=False)
_CELL = GlobalType("i32", mutable=True)
_GLOBALS = {
    ("env", "__stack_pointer", _CELL): Wanted.STACK_POINTER,
    ("env", "__memory_base", _BASE): Wanted.MEMORY_BASE,
    ("env", "__table_base", _BASE): Wanted.TABLE_BASE,
}
_CELLS = {"GOT.mem": Wanted.DATA, "GOT.func": Wanted.POINTER}
_KEY = os.urandom(16)


@functools.lru_cache(maxsize=4096)
def _number_of(type_: FuncType) -> int:
    """Return a number that only equal types have. With a key, since modules nobody trusts bring the types."""
    return int.from_bytes(hashlib.blake2b(repr(type_).encode(), digest_size=8, key=_KEY).digest(), "little")


class Outline:
    """The exports of a module, counted in their order, and what it imports only few of.

    Attributes: ``names``, ``positions`` (name -> number), ``symbols`` (what the module defines, by name), ``native`` (the same and the
    imports, for the core), ``slot_exports`` (numbers of the exported functions that need a table slot given out), ``slot_order`` (function
    index -> place among these), ``memories`` and ``tables`` (imported types), ``wasix`` (whether it imports anything of WASIX),
    ``thread_local`` (size and alignment, in bytes, of the thread-local block that the module can initialise, or None),
    ``has_thread_locals`` (as far as can be told), ``reusable`` (whether instances may be used again),
    ``shapes`` (:class:`pylinker._native.Shape`, as main and as library).
    """

    __slots__ = (
        "has_thread_locals",
        "memories",
        "names",
        "native",
        "positions",
        "reusable",
        "shapes",
        "slot_exports",
        "slot_order",
        "symbols",
        "tables",
        "thread_local",
        "wasix",
    )

    def __init__(self, info: ModuleInfo) -> None:
        exports = info.exports
        _, tables, memories, _, _ = info.spaces
        self.memories = memories[: info.imported_count(Kind.MEMORY)]
        self.tables = tables[: info.imported_count(Kind.TABLE)]
        self.wasix = any(each.module == WASIX for each in info.imports)
        self.symbols: dict[str, Export] = {}
        self.names = _native.Names(exports)
        self.positions = {name: position for position, name in enumerate(exports)}
        self.slot_exports = array.array("I")
        self.slot_order: dict[int, int] = {}
        imported, elements, order = info.imported_count(Kind.FUNC), info.element_slots, self.slot_order
        for position, export in enumerate(exports.values()):
            if export.kind is Kind.FUNC:
                index = export.index
                # An exported import is a symbol of somebody else, or of the host: it gets a slot only when it is asked for.
                if index >= imported and index not in elements and index not in order and export.name not in PRIVATE:
                    order[index] = len(order)
                    self.slot_exports.append(position)
        self.native = _native.Symbols(self.names, self._define(info), _native.Names([each.name for each in info.imports]), _wanted(info))
        self.thread_local = _thread_local(info)
        self.shapes: dict[bool, _native.Shape] = {}
        self.has_thread_locals = has_thread_locals(info)
        self.reusable = is_reusable(info)

    def _define(self, info: ModuleInfo) -> bytes:
        """Find out what the module defines; exports that are private or that somebody else's symbol lies behind are no definitions."""
        aliases = _aliases(info)
        most = max(info.imported_counts)  # what comes after these is not imported
        bases = [
            0 if each.module == "env" and each.name in ("__memory_base", "__table_base") else None
            for each in info.imports
            if each.kind is Kind.GLOBAL
        ]
        flags = info.dylink.export_flags if info.dylink else {}
        records = []
        functions, slot_of, number_of = info.spaces[0], self.slot_order.get, _number_of
        pack, function, data, other = _native.SYMBOL.pack, int(SymbolKind.FUNCTION), int(SymbolKind.DATA), int(SymbolKind.OTHER)
        for position, export in enumerate(info.exports.values()):
            name, kind, index = export
            if name in PRIVATE or (index < most and (kind, index) in aliases):
                continue
            if kind is Kind.FUNC:
                record = pack(position, function, slot_of(index, NO_SLOT), 0, 0, number_of(functions[index]))
            elif kind is not Kind.GLOBAL:
                record = pack(position, other, NO_SLOT, 0, 0, 0)
            else:
                record = pack(position, other, NO_SLOT, 0, 0, 0)
                init = info.global_init(index) if info.export_type(export) == _BASE else None
                value = None if init is None else init.evaluate(lambda base: bases[base] if base < len(bases) else None)
                if init is None or value is None:
                    continue
                own = init.evaluate(lambda _base: None)  # None: it depends on where the module lies in another way than by its offset
                if own is not None and not flags.get(name, 0) & SymbolFlags.TLS:
                    absolute = info.dylink is None or bool(flags.get(name, 0) & SymbolFlags.ABSOLUTE)
                    record = pack(position, data, NO_SLOT, own & 0xFFFFFFFF, not absolute, 0)
            self.symbols[name] = export
            records.append(record)
        return b"".join(records)


def _wanted(info: ModuleInfo) -> bytes:
    """Return what each import asks for, as the core looks it up."""
    pack = _native.WANTED.pack
    other = pack(Wanted.OTHER, 0)
    functions: dict[FuncType, bytes] = {}
    records = []
    for space, name, kind, type_ in info.imports:
        if kind is Kind.FUNC:
            record = other
            if space == "env" and name not in DESTRUCTORS:
                assert isinstance(type_, FuncType)
                record = functions.get(type_) or functions.setdefault(type_, pack(Wanted.FUNCTION, _number_of(type_)))
            records.append(record)
            continue
        wanted = Wanted.OTHER
        if kind is Kind.GLOBAL:
            assert isinstance(type_, GlobalType)
            wanted = _CELLS.get(space, Wanted.OTHER) if type_ == _CELL else Wanted.OTHER
            wanted = _GLOBALS.get((space, name, type_), wanted)
        elif space == "env" and name == "memory" and isinstance(type_, MemoryType) and not type_.limits.is64:
            wanted = Wanted.MEMORY
        elif space == "env" and name == "__indirect_function_table" and kind is Kind.TABLE:
            wanted = Wanted.TABLE
        records.append(pack(wanted, 0))
    return b"".join(records)


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
        outline = _outlines[info] = Outline(info)
    return outline
