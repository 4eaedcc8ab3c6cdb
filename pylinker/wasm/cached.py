"""Cached module info: a parsed module in packed form, so that it need not be parsed again.

Parsing a module of thousands of symbols takes milliseconds, and most of the result is rarely used.
So the packed form has a head, with the facts that are used of every module, and tables of the
imports, from which single ones are made on demand. The rest is the module itself without code and
data, which is parsed when anything else is used.

The bytes depend on this machine and this version of pylinker, and are trusted: the cache checks
that they are complete.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, overload

from pylinker.wasm.dylink import parse_dylink, parse_legacy_dylink
from pylinker.wasm.module import ModuleInfo, parse_module
from pylinker.wasm.reader import Reader, sections
from pylinker.wasm.types import (
    PRIVATE,
    Export,
    ExternType,
    FuncType,
    GlobalType,
    Import,
    Kind,
    Limits,
    MemoryType,
    TableType,
    TagType,
)
from pylinker.wasm.waits import WAITS_EXPORT
from pylinker.wasm.writer import module, section

__all__ = [
    "CachedInfo",
    "names_of",
    "pack_info",
    "pack_sections",
    "pack_type",
    "unpack_sections",
    "unpack_type",
]

_ASKED = PRIVATE | {WAITS_EXPORT}
_KINDS = tuple(Kind)
_OUTSIDE = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 13})  # sections of a module without code and data
_SIZE = struct.Struct("=Q")
_PARTS = 8
_READ_AGAIN = frozenset({"_functions", "_global_inits", "_globals", "_tags", "element_slots"})

_Packed = Sequence[Any]


def pack_sections(parts: Sequence[bytes]) -> bytes:
    """Return sections as one, each at a multiple of eight bytes."""
    padded = [part + bytes(-len(part) % 8) for part in parts]
    return b"".join([_SIZE.pack(len(parts)), *[_SIZE.pack(len(part)) for part in parts], *padded])


def unpack_sections(whole: memoryview) -> list[memoryview]:
    """Return the sections that :func:`pack_sections` packed; they refer to ``whole``.

    ValueError if they are out of bounds.
    """
    if len(whole) < 8 or 8 * ((count := _SIZE.unpack_from(whole)[0]) + 1) > len(whole):
        raise ValueError("not parts")
    sizes = struct.unpack_from(f"={count}Q", whole, 8)
    start = 8 * (count + 1)
    parts = []
    for size in sizes:
        parts.append(whole[start : start + size])
        if len(parts[-1]) != size:
            raise ValueError("parts are cut off")
        start += size + -size % 8
    return parts


def names_of(names: Iterable[str]) -> tuple[bytes, bytes]:
    """Return the concatenated names, and the offset of each and of their end (uint32)."""
    encoded = [name.encode() for name in names]
    return b"".join(encoded), array("I", accumulate(map(len, encoded), initial=0)).tobytes()


def pack_info(info: ModuleInfo, data: bytes) -> bytes:
    """Return the packed form of ``info``, for :class:`CachedInfo`; ``data`` is the module."""
    types: dict[ExternType, int] = {}
    spaces: dict[str, int] = {}
    asked = {name: info.exports[name] for name in info.exports if name in _ASKED}
    dylink, outside = b"", []
    whole = Reader(data)
    for each in sections(data, info.name):
        if each.id in _OUTSIDE:
            outside.append(section(each.id, data[each.start : each.end]))
        elif not each.id and info.dylink is not None and not dylink:  # it is the first section
            whole.position = each.start
            whole.name()
            dylink = data[whole.position : each.end]
    text, offsets = names_of(each.name for each in info.imports)
    columns = [
        array(
            "I", [spaces.setdefault(each.module, len(spaces)) for each in info.imports]
        ).tobytes(),
        bytes([each.kind for each in info.imports]),
        array("I", [types.setdefault(each.type, len(types)) for each in info.imports]).tobytes(),
    ]
    special = {
        each.name: (
            int(each.kind),
            each.index,
            types.setdefault(info.export_type(each), len(types)),
        )
        for each in asked.values()
    }
    head = {
        "module_name": info.module_name,
        "start": info.start,
        "start_body": None if info.start_body is None else info.start_body.decode("latin-1"),
        "imported": [info.imported_count(kind) for kind in _KINDS],
        "exports": len(info.exports),
        "dynamic": info.dylink is not None,
        "legacy": info.has_legacy_dylink,
        "position_independent": info.is_position_independent,
        "data_range": info.data_range,
        "fixed_slots": info.fixed_slots,
        "may_drop_segments": info.may_drop_segments,
        "memories": [pack_type(each) for each in (*info.imported_memories, *info.memories)],
        "tables": [pack_type(each) for each in (*info.imported_tables, *info.tables)],
        "spaces": list(spaces),
        "types": [pack_type(each) for each in types],
        "special": special,
    }
    return pack_sections(
        [json.dumps(head).encode(), dylink, module(outside), text, offsets, *columns]
    )


class CachedInfo(ModuleInfo):
    """A :class:`ModuleInfo` from its packed form, with a ``name`` of its own.

    It keeps the bytes. Raises ValueError, or another error of their kind (KeyError, TypeError,
    IndexError), if they are malformed.
    """

    __slots__ = (
        "_columns",
        "_import_names",
        "_outside",
        "_packed_types",
        "_spaces",
        "_special",
        "_types",
        "export_count",
    )

    def __init__(self, packed: memoryview, *, name: str) -> None:
        parts = unpack_sections(packed)
        if len(parts) != _PARTS:
            raise ValueError("not a packed module")
        head = json.loads(str(parts[0], "utf-8"))
        self.name = name
        self.module_name = head["module_name"]
        self.has_legacy_dylink = head["legacy"]
        parse = parse_legacy_dylink if self.has_legacy_dylink else parse_dylink
        self.dylink = parse(Reader(bytes(parts[1]), module=name)) if head["dynamic"] else None
        self.is_position_independent = head["position_independent"]
        self.fixed_slots = head["fixed_slots"]
        self.data_range = (
            None if head["data_range"] is None else (head["data_range"][0], head["data_range"][1])
        )
        self.start = head["start"]
        self.start_body = (
            None if head["start_body"] is None else head["start_body"].encode("latin-1")
        )
        self.may_drop_segments = head["may_drop_segments"]
        self._imported = head["imported"]
        self.export_count: int = head["exports"]
        memories: list[Any] = [unpack_type(each) for each in head["memories"]]
        tables: list[Any] = [unpack_type(each) for each in head["tables"]]
        self._memories, self._tables = memories, tables
        self.memories = tuple(memories[self._imported[Kind.MEMORY] :])
        self.tables = tuple(tables[self._imported[Kind.TABLE] :])
        self._spaces: list[str] = head["spaces"]
        self._packed_types: list[_Packed] = head["types"]
        self._types: dict[int, ExternType] = {}
        self._special: dict[str, tuple[int, int, int]] = head["special"]  # kind, index, type
        self._outside = parts[2]
        self._import_names = parts[3]
        self._columns = parts[4].cast("I"), parts[5].cast("I"), parts[6], parts[7].cast("I")
        self.private = {
            name: Export(name, _KINDS[kind], index)
            for name, (kind, index, _) in self._special.items()
            if name in PRIVATE
        }
        self.imports = _Imports(self)
        self.exports = _Exports(self)

    def __getattr__(self, name: str) -> Any:
        """Parse the module for an attribute that is not in the packed form."""
        if name not in _READ_AGAIN:
            raise AttributeError(name)
        self._read_again()
        return getattr(self, name)

    def _read_again(self) -> None:
        read = parse_module(bytes(self._outside), name=self.name)
        self._functions, self._globals, self._global_inits, self._tags = read.index_spaces
        self.element_slots = read.element_slots
        self.exports = read.exports

    def all_exports(self) -> Mapping[str, Export]:
        """Return all exports in the order of the module."""
        if isinstance(self.exports, _Exports):
            self._read_again()
        return self.exports

    def export_type(self, export: Export) -> ExternType:
        """Return the type of one of the module's exports."""
        special = self._special.get(export.name)
        if special is not None and (special[0], special[1]) == (export.kind, export.index):
            return self._type(special[2])
        return super().export_type(export)

    def special_export(self, name: str) -> Export | None:
        """Return one of the exports that are looked up in every module, or None."""
        special = self._special.get(name)
        return None if special is None else Export(name, _KINDS[special[0]], special[1])

    def _type(self, number: int) -> ExternType:
        type_ = self._types.get(number)
        if type_ is None:
            type_ = self._types[number] = unpack_type(self._packed_types[number])
        return type_

    def import_at(self, index: int) -> Import:
        """Return one import."""
        offsets, spaces, kinds, types = self._columns
        name = str(self._import_names[offsets[index] : offsets[index + 1]], "utf-8")
        number = types[index]
        type_ = self._types.get(number) or self._type(number)
        return Import(self._spaces[spaces[index]], name, _KINDS[kinds[index]], type_)


class _Imports(Sequence[Import]):
    """The imports of a packed module, made on demand."""

    __slots__ = ("_info",)

    def __init__(self, info: CachedInfo) -> None:
        self._info = info

    def __len__(self) -> int:
        return sum(self._info._imported)

    @overload
    def __getitem__(self, index: int) -> Import: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Import]: ...

    def __getitem__(self, index: int | slice) -> Import | Sequence[Import]:
        if isinstance(index, slice):
            return [self._info.import_at(each) for each in range(*index.indices(len(self)))]
        return self._info.import_at(range(len(self))[index])

    def __iter__(self) -> Iterator[Import]:
        return map(self._info.import_at, range(len(self)))


class _Exports(Mapping[str, Export]):
    """The exports of a packed module: private ones at once, others once the module is parsed."""

    __slots__ = ("_info",)

    def __init__(self, info: CachedInfo) -> None:
        self._info = info

    def __len__(self) -> int:
        return self._info.export_count

    def __getitem__(self, name: str) -> Export:
        if name in _ASKED:
            export = self._info.special_export(name)
            if export is None:
                raise KeyError(name)
            return export
        return self._info.all_exports()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._info.all_exports())


def pack_type(type_: ExternType) -> _Packed:
    """Return a type in a form for JSON."""
    if isinstance(type_, FuncType):
        return ["function", type_.params, type_.results]
    if isinstance(type_, TagType):
        return ["tag", type_.type.params, type_.type.results]
    if isinstance(type_, GlobalType):
        return ["global", type_.value, type_.mutable]
    if isinstance(type_, MemoryType):
        return ["memory", type_.limits, type_.page_size_log2]
    return ["table", type_.element, type_.limits]


def unpack_type(packed: _Packed) -> ExternType:
    """Return a type from the form that :func:`pack_type` makes."""
    kind, first, second = packed
    if kind == "function":
        return FuncType(tuple(first), tuple(second))
    if kind == "tag":
        return TagType(FuncType(tuple(first), tuple(second)))
    if kind == "global":
        return GlobalType(first, second)
    return (
        MemoryType(Limits(*first), second)
        if kind == "memory"
        else TableType(first, Limits(*second))
    )
