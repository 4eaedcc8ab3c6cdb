"""What a module defines and imports, by name (``csrc/symbols.h``)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pylinker.native.core import ffi, lib, packer
from pylinker.native.sources import Sources

__all__ = ["CANDIDATE", "SYMBOL", "WANTED", "Candidates", "Names", "Resolved", "Symbols"]


class Names:
    """The names of a module's exports, or of its imports, in their order, as C reads them.

    ``text`` has one after the other, ``offsets`` (uint32) where each begins and the last ends. ValueError if they do not fit.
    """

    __slots__ = ("_offsets", "_text", "count", "offsets", "text")

    def __init__(self, text: memoryview, offsets: memoryview) -> None:
        self._text, self._offsets = text, offsets.cast("I")
        self.count = len(self._offsets) - 1
        self.text = ffi.from_buffer("char[]", text)
        self.offsets = ffi.from_buffer("uint32_t[]", offsets)
        if self.count < 0 or not lib.pl_symbols_fit(self.offsets, self.count, len(text)):
            raise ValueError("names do not fit")

    def __iter__(self) -> Iterator[str]:
        text, offsets = bytes(self._text), self._offsets
        return (text[begin:end].decode() for begin, end in itertools.pairwise(offsets))


SYMBOL = packer("pl_symbol")
"""A ``pl_symbol``: position, kind, slot, value, relative, type."""
WANTED = packer("pl_wanted")
"""A ``pl_wanted``: kind, the first import that is the same, type."""
CANDIDATE = packer("pl_candidate")
"""A ``pl_candidate``: the addresses of symbols and library, memory base, slot base, has_slots, 0."""
lib.pl_symbols_key(int.from_bytes(os.urandom(8), "little"), int.from_bytes(os.urandom(8), "little"))


class Symbols:
    """What a module defines and imports, by name (``csrc/symbols.h``): ``symbols`` and ``wanted`` are packed records.

    Functions have the number in ``types`` of their type. ValueError if the records say what cannot be.
    """

    __slots__ = ("_kept", "_wanted_count", "address", "pointer")

    def __init__(self, names: Names, symbols: memoryview, wanted_names: Names, wanted: memoryview, types: Sequence[int]) -> None:
        self._kept = names, wanted_names
        self._wanted_count = wanted_names.count
        parts = ffi.new("pl_symbols_parts *")
        parts.names, parts.offsets, parts.name_count = names.text, names.offsets, names.count
        parts.wanted_names, parts.wanted_offsets = wanted_names.text, wanted_names.offsets
        packed, packed_wanted = ffi.from_buffer(symbols), ffi.from_buffer(wanted)
        parts.symbols, parts.symbol_count = ffi.cast("pl_symbol *", packed), len(symbols) // SYMBOL.size
        parts.wanted, parts.wanted_count = ffi.cast("pl_wanted *", packed_wanted), wanted_names.count
        numbers = ffi.new("uint64_t[]", types)
        parts.types, parts.type_count = numbers, len(types)
        if len(wanted) != wanted_names.count * WANTED.size or not lib.pl_symbols_check(parts):
            raise ValueError("not the symbols of a module")
        self.pointer = ffi.gc(lib.pl_symbols_new(parts), lib.pl_symbols_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a module's symbols")
        self.address = int(ffi.cast("uintptr_t", self.pointer))

    def resolve(self, scope: Candidates, memory_base: int, table_base: int) -> Resolved:
        """Decide the imports, as far as that is the core's."""
        count = self._wanted_count
        resolved = ffi.new("pl_resolved *")
        sources = resolved.sources = ffi.new("pl_source[]", count)
        numbers = resolved.rest = ffi.new("uint32_t[]", count + scope.count)
        resolved.used = numbers + count
        late = resolved.late = ffi.new("pl_late[]", count)
        scope.stamp += 1
        lib.pl_symbols_resolve(self.pointer, scope.pointer, scope.count, memory_base, table_base, scope.stamp, resolved)
        left, late_count, used = resolved.rest_count, resolved.late_count, resolved.used_count
        return Resolved(
            sources,
            ffi.unpack(numbers, left) if left else (),
            memoryview(bytes(ffi.buffer(late[0:late_count]))).cast("I") if late_count else (),
            ffi.unpack(resolved.used, used) if used else (),
        )


class Resolved(NamedTuple):
    """What the core found out about the imports of a module (``pl_resolved``).

    ``sources`` of all; ``rest``, the indexes of those it has not decided; ``late``, three numbers for each that is bound late: the index of
    the import, the number of the module in the scope, and the position of its export; ``used``, the numbers of the modules that imports
    were found in.
    """

    sources: Sources
    rest: Sequence[int]
    late: Sequence[int]
    used: Sequence[int]


class Candidates:
    """The modules of a scope, as the core looks names up in them; ``packed`` are CANDIDATE records of modules that live as long."""

    __slots__ = ("_packed", "count", "pointer", "stamp")

    def __init__(self, packed: bytearray) -> None:
        self._packed = packed
        self.count = len(packed) // CANDIDATE.size
        self.pointer = ffi.cast("pl_candidate *", ffi.from_buffer(packed))
        self.stamp = 0

    def set(self, number: int, record: bytes) -> None:
        """Say what a module is from now on."""
        self._packed[number * CANDIDATE.size : (number + 1) * CANDIDATE.size] = record

    def find(self, name: str) -> int | None:
        """Return the number of the first module that defines a name, or None."""
        encoded = name.encode()
        number = lib.pl_symbols_find(self.pointer, self.count, encoded, len(encoded))
        return number if number < self.count else None
