"""Definitions and imports of a module (``csrc/symbols.h``), and the lookup (``csrc/lookup.h``)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pylinker.native.core import ffi, lib, packer
from pylinker.native.enums import SymbolKind
from pylinker.native.recursive import RecursiveMutex
from pylinker.native.shared import Shared
from pylinker.native.sources import Sources

__all__ = [
    "SCOPE_ENTRY",
    "SYMBOL",
    "WANTED",
    "Found",
    "LoadedScope",
    "Names",
    "Resolved",
    "ScopeEntries",
    "Symbols",
]


class Names:
    """The names of a module's exports, or of its imports, in their order, as C reads them.

    ``text`` has one after the other, ``offsets`` (uint32) where each begins and the last ends.
    ValueError if they do not fit.
    """

    __slots__ = ("_offsets", "_text", "count", "offsets", "text")

    def __init__(self, text: memoryview, offsets: memoryview) -> None:
        self._text, self._offsets = text, offsets.cast("I")
        self.count = len(self._offsets) - 1
        self.text = ffi.from_buffer("char[]", text)
        self.offsets = ffi.from_buffer("uint32_t[]", offsets)
        if self.count < 0 or not lib.pl_symbols_fit(self.offsets, self.count, len(text)):
            raise ValueError("names do not fit")

    def __getitem__(self, position: int) -> str:
        begin, end = self._offsets[position], self._offsets[position + 1]
        return bytes(self._text[begin:end]).decode()

    def __iter__(self) -> Iterator[str]:
        text, offsets = bytes(self._text), self._offsets
        return (text[begin:end].decode() for begin, end in itertools.pairwise(offsets))


SYMBOL = packer("pl_symbol")
"""A ``pl_symbol``: position, kind, base, value, the place of its type, 0."""
WANTED = packer("pl_wanted")
"""A ``pl_wanted``: kind, the first import that is the same, type."""
SCOPE_ENTRY = packer("pl_scope_entry")
"""A ``pl_scope_entry``: the addresses of symbols and library, three bases, has_slots, 0."""
lib.pl_symbols_key(int.from_bytes(os.urandom(8), "little"), int.from_bytes(os.urandom(8), "little"))


class Symbols:
    """The definitions and imports of a module, by name (``csrc/symbols.h``).

    Args:
        names: The names of its exports.
        symbols: Packed ``pl_symbol`` records.
        wanted_names: The names of its imports.
        wanted: Packed ``pl_wanted`` records.
        types: Numbers, equal for equal types.

    Raises:
        ValueError: The records are malformed.
    """

    __slots__ = ("_kept", "_wanted_count", "address", "pointer")

    def __init__(
        self,
        names: Names,
        symbols: memoryview,
        wanted_names: Names,
        wanted: memoryview,
        types: Sequence[int],
    ) -> None:
        self._kept = names, wanted_names
        self._wanted_count = wanted_names.count
        parts = ffi.new("pl_symbols_parts *")
        parts.names, parts.offsets, parts.name_count = names.text, names.offsets, names.count
        parts.wanted_names, parts.wanted_offsets = wanted_names.text, wanted_names.offsets
        packed, packed_wanted = ffi.from_buffer(symbols), ffi.from_buffer(wanted)
        parts.symbols, parts.symbol_count = (
            ffi.cast("pl_symbol *", packed),
            len(symbols) // SYMBOL.size,
        )
        parts.wanted, parts.wanted_count = (
            ffi.cast("pl_wanted *", packed_wanted),
            wanted_names.count,
        )
        numbers = ffi.new("uint64_t[]", types)
        parts.types, parts.type_count = numbers, len(types)
        if len(wanted) != wanted_names.count * WANTED.size or not lib.pl_symbols_check(parts):
            raise ValueError("not the symbols of a module")
        self.pointer = ffi.gc(lib.pl_symbols_new(parts), lib.pl_symbols_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a module's symbols")
        self.address = int(ffi.cast("uintptr_t", self.pointer))

    def find(self, name: str) -> int | None:
        """Return the position of the export that defines a name, or None."""
        found = ScopeEntries(bytearray(SCOPE_ENTRY.pack(self.address, 0, 0, 0, 0, 0, 0))).find(name)
        return None if found is None else found.position

    def resolve(self, scope: ScopeEntries, memory_base: int, table_base: int) -> Resolved:
        """Decide the imports, as far as that is the core's."""
        count = self._wanted_count
        resolved = ffi.new("pl_resolved *")
        found = resolved.found = ffi.new("pl_definition[]", count)
        sources = resolved.sources = ffi.new("pl_source[]", count)
        numbers = resolved.rest = ffi.new("uint32_t[]", count + scope.count)
        resolved.used = numbers + count
        lazy = resolved.lazy = ffi.new("pl_lazy[]", count)
        scope.stamp += 1
        lib.pl_lookup_imports(
            self.pointer, scope.pointer, scope.count, memory_base, table_base, scope.stamp, resolved
        )
        left, lazy_count, used = resolved.rest_count, resolved.lazy_count, resolved.used_count
        return Resolved(
            sources,
            ffi.unpack(numbers, left) if left else (),
            memoryview(bytes(ffi.buffer(lazy[0:lazy_count]))).cast("I") if lazy_count else (),
            ffi.unpack(resolved.used, used) if used else (),
            found,
        )


class Resolved(NamedTuple):
    """The decisions of the core about the imports of a module (``pl_resolved``).

    ``sources`` of all; ``rest``, the indexes of those it has not decided; ``lazy``, three numbers
    for each that is bound lazily: the index of the import, the number of the module in the scope,
    and the position of its export; ``used``, the numbers of the modules that decided imports were
    found in; ``definitions``, what each import was found to be (:meth:`found`).
    """

    sources: Sources
    rest: Sequence[int]
    lazy: Sequence[int]
    used: Sequence[int]
    definitions: Any

    def number(self, index: int) -> int:
        """Return the number of the module that defines an import, or the number of modules."""
        number: int = self.definitions[index].number
        return number

    def found(self, index: int) -> Found:
        """Return the definition that an import was found to be."""
        return _found(self.definitions[index])


class Found(NamedTuple):
    """The definition of a name in a scope (``pl_definition``).

    The number of the module, the position of its export, its kind, the place of its type among
    those of the module, and its slot, address or offset in a thread-local block, if it has one.
    """

    number: int
    position: int
    kind: SymbolKind
    type: int
    value: int | None


_SYMBOL_KINDS = tuple(SymbolKind)


def _found(found: Any) -> Found:
    value = found.value if found.has_value else None
    return Found(found.number, found.position, _SYMBOL_KINDS[found.kind], found.type, value)


class ScopeEntries:
    """The modules of a scope, as the core looks names up in them.

    ``packed`` are SCOPE_ENTRY records of modules that live as long. One that several threads use is
    not changed.
    """

    __slots__ = ("_packed", "count", "pointer", "stamp")

    def __init__(self, packed: bytearray) -> None:
        self._packed = packed
        self.count = len(packed) // SCOPE_ENTRY.size
        self.pointer = ffi.cast("pl_scope_entry *", ffi.from_buffer(packed))
        self.stamp = 0

    def set(self, number: int, record: bytes) -> None:
        """Replace the record of a module."""
        self._packed[number * SCOPE_ENTRY.size : (number + 1) * SCOPE_ENTRY.size] = record

    def at_slot(self, slot: int) -> Found | None:
        """Return the exported function in a table slot, or None."""
        found = ffi.new("pl_definition *")
        number = lib.pl_lookup_slot(self.pointer, self.count, slot, found)
        return _found(found) if number < self.count else None

    def at_address(self, address: int, number: int) -> Found | None:
        """Return the data symbol of module ``number`` nearest at or below an address, or None."""
        found = ffi.new("pl_definition *")
        if not lib.pl_lookup_address(self.pointer + number, address, found):
            return None
        return _found(found)._replace(number=number)

    def find(self, name: str, start: int = 0) -> Found | None:
        """Return the definition of a name in the modules from number ``start`` on, or None.

        The number in it counts from there.
        """
        encoded = name.encode("utf-8", "surrogatepass")  # no module has a name with a surrogate
        found = ffi.new("pl_definition *")
        count = self.count - start
        return (
            _found(found)
            if lib.pl_lookup(self.pointer + start, count, encoded, len(encoded), found) < count
            else None
        )


class LoadedScope:
    """A scope of loaded modules as of one generation, for threads that hold no lock (``pl_scope``).

    Never blocks. Threads: any.
    """

    __slots__ = ("_kept", "_pointer")

    def __init__(
        self, shared: Shared, main_lock: RecursiveMutex, modules: ScopeEntries, generation: int
    ) -> None:
        self._kept = shared, main_lock, modules
        self._pointer = ffi.new("pl_scope *")
        self._pointer.shared, self._pointer.main_lock = shared.pointer, main_lock.pointer
        self._pointer.modules, self._pointer.count = modules.pointer, modules.count
        self._pointer.generation = generation

    def find(self, name: str) -> Found | None:
        """Return the definition of a name, or None.

        None: undefined, a stale scope, a cancelled linker, or the lookup would have to wait.
        """
        encoded = name.encode("utf-8", "surrogatepass")
        found = ffi.new("pl_definition *")
        return (
            _found(found)
            if lib.pl_lookup_now(self._pointer, encoded, len(encoded), found)
            else None
        )
