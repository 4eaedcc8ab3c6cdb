"""The parser: the facts about a module that a linker uses, read from its bytes in one pass.

Code, data and custom sections other than ``dylink.0`` are skipped by their size, so the time
depends on the number of imports, exports, functions, globals and table entries. The parser is no
validator: it skips everything else, such as the bodies of functions; wasmtime finds errors there
when the module is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pylinker.errors import ParseError
from pylinker.wasm.constexpr import ConstExpr, read_const_expr
from pylinker.wasm.dylink import DylinkInfo, parse_dylink, parse_legacy_dylink
from pylinker.wasm.reader import Reader, Section, quoted, sections
from pylinker.wasm.types import (
    PRIVATE,
    Export,
    ExternType,
    FuncType,
    GlobalType,
    Import,
    Kind,
    MemoryType,
    TableType,
    TagType,
)
from pylinker.wasm.typesection import (
    read_global_type,
    read_memory_type,
    read_reference_type,
    read_table_type,
    read_type_section,
)

__all__ = ["ConstExpr", "ModuleInfo", "parse_module"]

_TABLE_WITH_INITIALIZER = 0x40
_KINDS = tuple(Kind)

# Bits of the flags of an element segment
# (https://webassembly.github.io/spec/core/binary/modules.html#element-section); a data segment has
# the first two, of which at most one is set.
_SEGMENT_PASSIVE, _SEGMENT_EXPLICIT, _SEGMENT_EXPRESSIONS = 1, 2, 4
_SEGMENT_FLAGS = 7  # all of them


class ModuleInfo:
    """The interface of a module: imports, exports, types, and its ``dylink.0`` section.

    It keeps no reference to the bytes.
    """

    __slots__ = (
        "__weakref__",
        "_functions",
        "_global_inits",
        "_globals",
        "_imported",
        "_memories",
        "_tables",
        "_tags",
        "data_range",
        "dylink",
        "element_slots",
        "exports",
        "fixed_slots",
        "has_legacy_dylink",
        "imports",
        "is_position_independent",
        "may_drop_segments",
        "memories",
        "module_name",
        "name",
        "private",
        "start",
        "start_body",
        "tables",
    )

    name: str
    """Name as given to :func:`parse_module`."""
    module_name: str | None
    """Name in the name section."""
    imports: Sequence[Import]
    exports: Mapping[str, Export]
    """Exports by name."""
    private: dict[str, Export]
    """Exports that are no symbols, by name (``PRIVATE``)."""
    dylink: DylinkInfo | None
    """Contents of the ``dylink.0`` (or the older ``dylink``) section; None if there is none."""
    has_legacy_dylink: bool
    """Whether it was the older section."""
    is_position_independent: bool
    """Whether the linker chooses the addresses of its data; False: they are fixed."""
    data_range: tuple[int, int] | None
    """First address and end of its data, if all of it is at constant addresses of memory 0."""
    fixed_slots: int
    """End of the slots that it fills at constant positions of an imported table, or 0."""
    start: int | None
    """Index of the start function."""
    start_body: bytes | None
    """Locals and instructions of the start function; None if it is imported or there is none."""
    may_drop_segments: bool
    """Whether its code may drop segments."""
    element_slots: dict[int, tuple[ConstExpr, int]]
    """Where functions are in table 0 after instantiation, by index of the function.

    The value is the offset of an active segment and the position of the function in it. The first
    occurrence counts.
    """
    memories: tuple[MemoryType, ...]
    """Types of the memories that it defines, without imported ones."""
    tables: tuple[TableType, ...]
    """Types of the tables that it defines, without imported ones."""

    def __init__(self, parsed: _Parser) -> None:
        self.name = parsed.name
        self.module_name = parsed.module_name
        self.imports = tuple(parsed.imports)
        self.exports = parsed.exports
        self.private = {name: parsed.exports[name] for name in PRIVATE if name in parsed.exports}
        self.dylink = parsed.dylink
        self.has_legacy_dylink = parsed.has_legacy_dylink
        self.is_position_independent = parsed.is_position_independent
        self.data_range = parsed.data_range
        self.fixed_slots = parsed.fixed_slots
        self.start = parsed.start
        self.start_body = parsed.start_body
        self.may_drop_segments = parsed.may_drop_segments
        self.element_slots = parsed.element_slots
        self.memories = tuple(parsed.memories[parsed.imported[Kind.MEMORY] :])
        self.tables = tuple(parsed.tables[parsed.imported[Kind.TABLE] :])
        self._imported = parsed.imported
        self._functions = parsed.functions
        self._tables = parsed.tables
        self._memories = parsed.memories
        self._globals = parsed.globals
        self._tags = parsed.tags
        self._global_inits = parsed.global_inits

    def __repr__(self) -> str:
        kind = "dynamic" if self.is_dynamic else "static"
        imports, exports = len(self.imports), len(self.exports)
        return f"<ModuleInfo {self.name!r}: {kind}, {imports} imports, {exports} exports>"

    @property
    def is_dynamic(self) -> bool:
        """Whether the module has a ``dylink.0`` (or the older ``dylink``) section."""
        return self.dylink is not None

    def import_at(self, index: int) -> Import:
        """Return one import, by its place in ``imports``."""
        return self.imports[index]

    @property
    def imported_memories(self) -> Sequence[MemoryType]:
        """The types of the imported memories."""
        return self._memories[: self._imported[Kind.MEMORY]]

    @property
    def imported_tables(self) -> Sequence[TableType]:
        """The types of the imported tables."""
        return self._tables[: self._imported[Kind.TABLE]]

    def imported_count(self, kind: Kind) -> int:
        """Return the number of imports of a kind, which is the index of the first definition."""
        return self._imported[kind]

    @property
    def spaces(
        self,
    ) -> tuple[list[FuncType], list[TableType], list[MemoryType], list[GlobalType], list[TagType]]:
        """The types of the five index spaces, by Kind, imports first."""
        return self._functions, self._tables, self._memories, self._globals, self._tags

    @property
    def index_spaces(
        self,
    ) -> tuple[list[FuncType], list[GlobalType], list[ConstExpr], list[TagType]]:
        """Types of functions and globals, initial values of defined globals, and types of tags."""
        return self._functions, self._globals, self._global_inits, self._tags

    def export_type(self, export: Export) -> ExternType:
        """Return the type of one of the module's exports."""
        return (self._functions, self._tables, self._memories, self._globals, self._tags)[
            export.kind
        ][export.index]

    def function_type(self, index: int) -> FuncType:
        """Return the type of a function by index. ParseError if the module has no such function."""
        if not 0 <= index < len(self._functions):
            raise ParseError(f"there is no function {index}", module=self.name)
        return self._functions[index]

    def global_init(self, index: int) -> ConstExpr | None:
        """Return the initial value of a global; None for an imported global.

        Raises:
            ParseError: The module has no such global.
        """
        if not 0 <= index < len(self._globals):
            raise ParseError(f"there is no global {index}", module=self.name)
        defined = index - self._imported[Kind.GLOBAL]
        return self._global_inits[defined] if defined >= 0 else None


def _unknown(_index: int) -> None:
    """Return None, for a global in an expression that must be constant."""


_DROPS = (b"\xfc\x09", b"\xfc\x0d", b"\xfc\x89", b"\xfc\x8d")
"""Prefixes of ``data.drop`` and ``elem.drop``, also with opcodes in more bytes than necessary."""


def parse_module(data: bytes, *, name: str = "module") -> ModuleInfo:
    """Parse a module.

    The section ``dylink.0`` "should be the very first section in the module", say the conventions;
    it is refused elsewhere, as other linkers would not see it there. So is the older section
    ``dylink``, unless the module has the newer one.

    Args:
        data: The bytes of the module.
        name: Its name, for messages.

    Raises:
        ParseError: The module is malformed; no other error, whatever the bytes are.
    """
    data = bytes(data)
    parser = _Parser(name)
    whole = Reader(data, module=name)
    for number, section in enumerate(sections(data, name)):
        if section.id:
            parser.read_section(section, data)
            continue
        title, start = _custom_section_title(whole, section.start, section.end)
        if title == "dylink.0":
            if number:
                raise whole.error(
                    "section dylink.0 is not the first section of the module", section.header
                )
            parser.dylink = parse_dylink(
                Reader(data[start : section.end], base=start, module=name, section=title)
            )
        elif title == "dylink" and (parser.dylink is None or parser.has_legacy_dylink):
            if number:
                raise whole.error(
                    "section dylink is not the first section of the module", section.header
                )
            parser.dylink = parse_legacy_dylink(
                Reader(data[start : section.end], base=start, module=name, section=title)
            )
            parser.has_legacy_dylink = True
        elif title == "name":
            parser.module_name = _module_name(
                Reader(data[start : section.end], base=start, module=name, section=title)
            )
    return ModuleInfo(parser)


def _custom_section_title(whole: Reader, start: int, end: int) -> tuple[str, int]:
    """Return the name of a custom section, and the position of its contents."""
    whole.position = start
    size = whole.u32()
    # Bounded by the section, not by the file: else each of many short sections could have a name as
    # long as the file.
    if whole.position + size > end:
        raise whole.error("name of a custom section does not fit in the section", start)
    whole.position = start
    return whole.name(), whole.position


def _module_name(reader: Reader) -> str | None:
    """Return the module's name from the name section, where it is the first entry if present.

    A malformed section is ignored.
    """
    try:
        return reader.sub(reader.u32()).name() if reader.byte() == 0 else None
    except ParseError:
        return None


class _Parser:
    """Reads the sections of one module.

    The lists of types are its index spaces: imports are first.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.module_name: str | None = None
        self.imports: list[Import] = []
        self.imported = [0] * len(_KINDS)
        self.exports: dict[str, Export] = {}
        self.dylink: DylinkInfo | None = None
        self.has_legacy_dylink = False
        self.start: int | None = None
        self.start_body: bytes | None = None
        self.may_drop_segments = False
        self.element_slots: dict[int, tuple[ConstExpr, int]] = {}
        self.constant_data: tuple[int, int] | None = (
            None  # of the active segments at constant addresses of memory 0
        )
        self.other_data = False  # segments that are passive, or at other addresses
        self.constant_slots = 0  # the end of the active segments at constant slots of table 0
        self.types: list[FuncType | None] = []
        self.functions: list[FuncType] = []
        self.tables: list[TableType] = []
        self.memories: list[MemoryType] = []
        self.globals: list[GlobalType] = []
        self.tags: list[TagType] = []
        self.global_inits: list[ConstExpr] = []  # of defined globals only

    def read_section(self, section: Section, data: bytes) -> None:
        """Read a section of the file ``data`` if a linker uses it."""
        read = {
            1: self._read_types,
            2: self._read_imports,
            3: self._read_functions,
            4: self._read_tables,
            5: self._read_memories,
            6: self._read_globals,
            7: self._read_exports,
            8: self._read_start,
            9: self._read_elements,
            10: self._read_code,
            11: self._read_data,
            13: self._read_tags,
        }.get(section.id)
        if read is not None:
            reader = section.reader(data, self.name)
            read(reader)
            reader.finish()

    def _read_types(self, reader: Reader) -> None:
        self.types = read_type_section(reader)

    def _function_type(self, reader: Reader, index: int, position: int) -> FuncType:
        """Return the type with this index; ``position`` is that of the index, for errors."""
        function = self.types[index] if index < len(self.types) else None
        if function is None:
            raise reader.error(f"type {index} is not a function type of the module", position)
        return function

    def _read_tag_type(self, reader: Reader) -> TagType:
        if reader.byte() != 0:
            raise reader.error("attribute of a tag is not 0", reader.position - 1)
        position = reader.position
        return TagType(self._function_type(reader, reader.u32(), position))

    def _read_imports(self, reader: Reader) -> None:
        for _ in range(reader.count(4)):
            module = reader.name()
            name = reader.name()
            position = reader.position
            code = reader.byte()
            kind: ExternType
            if code == Kind.FUNC:
                kind = self._function_type(reader, reader.u32(), position + 1)
                self.functions.append(kind)
            elif code == Kind.GLOBAL:
                kind = read_global_type(reader)
                self.globals.append(kind)
            elif code == Kind.MEMORY:
                kind = read_memory_type(reader)
                self.memories.append(kind)
            elif code == Kind.TABLE:
                kind = read_table_type(reader)
                self.tables.append(kind)
            elif code == Kind.TAG:
                kind = self._read_tag_type(reader)
                self.tags.append(kind)
            else:
                raise reader.error(
                    f"import {quoted(name)} is of unknown kind {code:#04x}", position
                )
            self.imported[code] += 1
            self.imports.append(Import(module, name, _KINDS[code], kind))

    def _read_functions(self, reader: Reader) -> None:
        position = reader.position
        indices = reader.u32s(reader.count())
        types = {index: self._function_type(reader, index, position) for index in set(indices)}
        self.functions += [types[index] for index in indices]

    def _read_tables(self, reader: Reader) -> None:
        for _ in range(reader.count(3)):
            # "0x40 0x00 table-type expression" is a table whose elements have an initial value.
            initialized = reader.skip_if(_TABLE_WITH_INITIALIZER)
            if initialized and reader.byte() != 0:
                raise reader.error("unknown encoding of a table", reader.position - 1)
            table = read_table_type(reader)
            if initialized:
                read_const_expr(reader, table.element)
            self.tables.append(table)

    def _read_memories(self, reader: Reader) -> None:
        for _ in range(reader.count(2)):
            self.memories.append(read_memory_type(reader))

    def _read_tags(self, reader: Reader) -> None:
        for _ in range(reader.count(2)):
            self.tags.append(self._read_tag_type(reader))

    def _read_globals(self, reader: Reader) -> None:
        for _ in range(reader.count(3)):
            kind = read_global_type(reader)
            self.globals.append(kind)
            self.global_inits.append(read_const_expr(reader, kind.value))

    def _read_exports(self, reader: Reader) -> None:
        exports = self.exports
        sizes = [
            len(space)
            for space in (self.functions, self.tables, self.memories, self.globals, self.tags)
        ]
        for _ in range(reader.count(3)):
            start = reader.position
            name = reader.name()
            code = reader.byte()
            if code >= len(sizes):
                raise reader.error(f"export {quoted(name)} is of unknown kind {code:#04x}", start)
            index = reader.u32()
            if index >= sizes[code]:
                raise reader.error(
                    f"export {quoted(name)}: there is no {_KINDS[code].label} {index}", start
                )
            if name in exports:
                raise reader.error(f"duplicate export {quoted(name)}", start)
            exports[name] = Export(name, _KINDS[code], index)

    def _read_start(self, reader: Reader) -> None:
        position = reader.position
        self.start = reader.u32()
        if self.start >= len(self.functions):
            raise reader.error(f"start function: there is no function {self.start}", position)

    def _read_code(self, reader: Reader) -> None:
        """Find the body of the start function; without one the section is skipped by its size."""
        wanted = -1 if self.start is None else self.start - self.imported[Kind.FUNC]
        if wanted >= 0:
            for index in range(min(reader.count(), wanted + 1)):
                size = reader.u32()
                if index == wanted:
                    self.start_body = reader.take(size)
                elif size > reader.remaining:
                    raise reader.error(
                        f"function body of {size} bytes, but {reader.remaining} are left"
                    )
                else:
                    reader.position += size
        start_body = self.start_body or b""
        self.may_drop_segments = any(
            reader.data.count(each) > start_body.count(each) for each in _DROPS
        )
        reader.position = len(reader.data)

    def _read_elements(self, reader: Reader) -> None:
        for _ in range(reader.count(3)):
            position = reader.position
            flags = reader.byte()
            if flags > _SEGMENT_FLAGS:
                raise reader.error(f"unknown flags {flags:#x} of an element segment", position)
            offset: ConstExpr | None = None
            if not flags & _SEGMENT_PASSIVE:
                table = reader.u32() if flags & _SEGMENT_EXPLICIT else 0
                if table >= len(self.tables):
                    raise reader.error(f"element segment: there is no table {table}", position)
                expression = read_const_expr(
                    reader, "i64" if self.tables[table].limits.is64 else "i32"
                )
                offset = expression if table == 0 else None
            # The two oldest forms, which have neither of these bits, omit the kind or type of the
            # items.
            has_kind = flags & (_SEGMENT_PASSIVE | _SEGMENT_EXPLICIT)
            functions: Sequence[int | None]
            if flags & _SEGMENT_EXPRESSIONS:
                element = read_reference_type(reader) if has_kind else "funcref"
                functions = [
                    read_const_expr(reader, element).function for _ in range(reader.count(2))
                ]
            else:
                if has_kind and reader.byte() != 0:
                    raise reader.error("element segment of an unknown kind", reader.position - 1)
                functions = reader.u32s(reader.count())
            if offset is not None:
                self._add_element_slots(reader, offset, functions, position)
                first = offset.evaluate(_unknown) if functions else None
                if first is not None:
                    self.constant_slots = max(self.constant_slots, first + len(functions))

    def _add_element_slots(
        self, reader: Reader, offset: ConstExpr, functions: Sequence[int | None], position: int
    ) -> None:
        slots = self.element_slots
        size = len(self.functions)
        for place, function in enumerate(functions):
            if function is not None and function not in slots:
                if function >= size:
                    raise reader.error(
                        f"element segment: there is no function {function}", position
                    )
                slots[function] = (offset, place)

    def _read_data(self, reader: Reader) -> None:
        for _ in range(reader.count(2)):
            position = reader.position
            flags = reader.u32()
            if flags not in (0, _SEGMENT_PASSIVE, _SEGMENT_EXPLICIT):
                raise reader.error(f"unknown flags {flags:#x} of a data segment", position)
            memory, address = -1, None
            if flags != _SEGMENT_PASSIVE:
                memory = reader.u32() if flags else 0
                if memory >= len(self.memories):
                    raise reader.error(f"data segment: there is no memory {memory}", position)
                is64 = self.memories[memory].limits.is64
                address = read_const_expr(reader, "i64" if is64 else "i32").evaluate(_unknown)
            size = reader.u32()
            if size > reader.remaining:
                raise reader.error(
                    f"data segment of {size} bytes, but {reader.remaining} are left", position
                )
            reader.position += size
            if not size:
                continue
            if memory or address is None:
                self.other_data = True
            else:
                first, end = self.constant_data or (address, 0)
                self.constant_data = min(first, address), max(end, address + size)

    @property
    def data_range(self) -> tuple[int, int] | None:
        """Address range of the module's data, if all of it is at constant addresses of memory 0."""
        return None if self.other_data else self.constant_data

    @property
    def is_position_independent(self) -> bool:
        """Whether the linker chooses the module's addresses.

        A module with a dylink section that imports no ``__memory_base`` has fixed addresses if it
        has data at constant ones, or if it defines its own memory or stack pointer.
        """
        if self.dylink is None or self._imports_base("__memory_base"):
            return self.dylink is not None
        if len(self.memories) > self.imported[Kind.MEMORY] == 0:
            return False
        stack_pointer = self.exports.get("__stack_pointer")
        if (
            stack_pointer is not None
            and stack_pointer.kind is Kind.GLOBAL
            and stack_pointer.index >= self.imported[Kind.GLOBAL]
        ):
            return False
        # A start function copies passive segments to constant addresses, too.
        return self.constant_data is None and not (self.other_data and self.start is not None)

    @property
    def fixed_slots(self) -> int:
        """End of the slots that the module fills at constant positions of an imported table."""
        return (
            self.constant_slots
            if self.imported[Kind.TABLE] and not self._imports_base("__table_base")
            else 0
        )

    def _imports_base(self, name: str) -> bool:
        return any(
            each.name == name and each.module == "env" and each.kind is Kind.GLOBAL
            for each in self.imports
        )
