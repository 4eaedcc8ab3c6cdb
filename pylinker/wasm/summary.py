"""What was read of a module, as bytes: to be kept beside its compiled code, where reading it back costs a tenth of parsing.

Columns of plain values in the format of :mod:`marshal`, which the same Python reads; a type is its number in a list of all. Not for
bytes of strangers: :mod:`marshal` trusts what it reads.
"""

from __future__ import annotations

import array
import marshal
import typing
from typing import TYPE_CHECKING, Any

from pylinker.wasm.constexpr import ConstExpr
from pylinker.wasm.dylink import DylinkInfo
from pylinker.wasm.module import ModuleInfo
from pylinker.wasm.types import Export, ExternType, FuncType, GlobalType, Import, Kind, Limits, MemoryType, TableType, TagType

if TYPE_CHECKING:
    from pylinker.wasm.module import Spaces

__all__ = ["SUMMARY_FORMAT", "read_summary", "write_summary"]

SUMMARY_FORMAT = f"summary 2, marshal {marshal.version}"
"""Changes whenever older bytes are not to be read any more."""

_KINDS = tuple(Kind)


def write_summary(info: ModuleInfo) -> bytes:
    """Return a module's outside as bytes."""
    types: dict[ExternType, int] = {}
    number = types.setdefault
    imports, exports = info.imports, info.exports.values()
    spaces = {space: index for index, space in enumerate(dict.fromkeys(each.module for each in imports))}
    expressions: dict[ConstExpr, int] = {}
    slots = info.element_slots
    columns: Any = (
        info.module_name,
        list(spaces),
        _packed([spaces[each.module] for each in imports]),
        [each.name for each in imports],
        bytes([each.kind for each in imports]),
        _packed([number(each.type, len(types)) for each in imports]),
        [each.name for each in exports],
        bytes([each.kind for each in exports]),
        _packed([each.index for each in exports]),
        [_packed([number(each, len(types)) for each in space]) for space in info.spaces],
        info.imported_counts,
        _packed([expressions.setdefault(each, len(expressions)) for each in info.global_inits]),
        _packed(list(slots)),
        _packed([expressions.setdefault(each, len(expressions)) for each, _ in slots.values()]),
        _packed([place for _, place in slots.values()]),
        info.start,
        info.start_body,
        info.may_drop_segments,
        [_plain(each) for each in types],
        [tuple(each) for each in expressions],
        _plain_dylink(info.dylink),
    )
    return marshal.dumps(columns)


def read_summary(data: bytes | memoryview, *, name: str) -> ModuleInfo:
    """Return the module whose bytes :func:`write_summary` gave; ``name`` is what messages call it."""
    (
        module_name,
        space_names,
        import_spaces,
        import_names,
        import_kinds,
        import_types,
        export_names,
        export_kinds,
        export_indexes,
        spaces,
        imported_counts,
        inits,
        slot_functions,
        slot_expressions,
        slot_places,
        start,
        start_body,
        may_drop_segments,
        plain_types,
        plain_expressions,
        dylink,
    ) = marshal.loads(data)  # noqa: S302 - see above
    types = [_type_of(each) for each in plain_types]
    expressions = [ConstExpr(*each) for each in plain_expressions]
    type_at, kind_at, space_at, expression_at = types.__getitem__, _KINDS.__getitem__, space_names.__getitem__, expressions.__getitem__
    imported = zip(
        map(space_at, _unpacked(import_spaces)),
        import_names,
        map(kind_at, import_kinds),
        map(type_at, _unpacked(import_types)),
        strict=True,
    )
    exported = map(Export._make, zip(export_names, map(kind_at, export_kinds), _unpacked(export_indexes), strict=True))
    slots = zip(map(expression_at, _unpacked(slot_expressions)), _unpacked(slot_places), strict=True)
    return ModuleInfo(
        name=name,
        module_name=module_name,
        imports=tuple(map(Import._make, imported)),
        exports=dict(zip(export_names, exported, strict=True)),
        dylink=None if dylink is None else DylinkInfo(*dylink),
        start=start,
        start_body=start_body,
        may_drop_segments=may_drop_segments,
        spaces=typing.cast("Spaces", tuple([list(map(type_at, _unpacked(each))) for each in spaces])),
        imported_counts=imported_counts,
        global_inits=list(map(expression_at, _unpacked(inits))),
        element_slots=dict(zip(_unpacked(slot_functions), slots, strict=True)),
    )


def _packed(numbers: list[int]) -> bytes:
    return array.array("I", numbers).tobytes()


def _unpacked(data: bytes) -> array.array[int]:
    numbers = array.array("I")
    numbers.frombytes(data)
    return numbers


def _plain(type_: ExternType) -> tuple[Any, ...]:
    """Return a type as marshal takes it: named tuples are tuples of another class."""
    if isinstance(type_, FuncType):
        return (Kind.FUNC.value, *type_)
    if isinstance(type_, TableType):
        return (Kind.TABLE.value, type_.element, tuple(type_.limits))
    if isinstance(type_, MemoryType):
        return (Kind.MEMORY.value, tuple(type_.limits), type_.page_size_log2)
    if isinstance(type_, GlobalType):
        return (Kind.GLOBAL.value, *type_)
    return (Kind.TAG.value, *type_.type)


def _type_of(plain: tuple[Any, ...]) -> ExternType:
    kind, first, second = plain
    if kind == Kind.FUNC:
        return FuncType(first, second)
    if kind == Kind.TABLE:
        return TableType(first, Limits(*second))
    if kind == Kind.MEMORY:
        return MemoryType(Limits(*first), second)
    if kind == Kind.GLOBAL:
        return GlobalType(first, second)
    return TagType(FuncType(first, second))


def _plain_dylink(dylink: DylinkInfo | None) -> tuple[Any, ...] | None:
    if dylink is None:
        return None
    return (
        dylink.memory_size,
        dylink.memory_alignment,
        dylink.table_size,
        dylink.table_alignment,
        dylink.needed,
        dylink.runtime_path,
        {name: int(flags) for name, flags in dylink.export_flags.items()},
        {key: int(flags) for key, flags in dylink.import_flags.items()},
    )
