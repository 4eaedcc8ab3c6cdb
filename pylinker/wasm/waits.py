"""Waits that the host can interrupt: rewrites ``memory.atomic.wait`` and ``notify`` to calls.

A thread in ``memory.atomic.wait32`` sleeps inside wasmtime, where neither an epoch nor a rendezvous
can interrupt it. So these instructions become calls of functions that are appended to the module,
and these call the host, through a table that is appended, too:

- the host functions are in the slots of a table exported as ``__pylinker_waits``, which the linker
  fills once per instance;
- an appended function for each kind of instruction and static offset calls the function in its
  slot;
- a call of that function, of the same length, replaces the instruction.

Nothing shifts. An appended function, type or table is last in its index space. A call has exactly
the size of the instruction that it replaces, so functions keep their sizes and instructions their
offsets: names, branch hints and DWARF stay right. (All code moves by one byte if the number of
functions then needs another byte, as from 127 to 128; DWARF, whose offsets start there, is off by
one in this case.) All other sections and functions are copied byte for byte.

An appended function executes the instruction itself while its slot is empty. This is for start
functions, which run before the linker can fill the table. Those of wasm-ld (``__wasm_init_memory``)
notify the instances that wait until the first one has initialised the memory. They wait only if
another thread is doing so at this very moment, which is impossible as long as instances of a
library are made one after the other until its first start function has returned. A start function
that waits for anything else cannot be interrupted.

The linker must:

- After instantiation, if :func:`has_waits_table`, fill the slots of the table with functions of the
  types in ``WAIT_TYPES``. Their arguments are the guest's: the address, static offset included and
  up to 33 bits long, may be out of bounds or not aligned, for which they must trap as the
  instruction does. The memory is always the module's memory 0, 32-bit and shared.
- Do so in all modules of a program or in none: the instruction does not wake waiters in the host,
  and the host does not wake waiters in the instruction.
- Treat the name of the export as reserved. A module that has it is not rewritten, and keeps its
  waits, so it should be refused.
- Not assume that only appended functions use the table. A module that is invalid because it calls
  a function after its last one may be valid then. All it gains is another way to the functions in
  the slots.
"""

from __future__ import annotations

import enum
import logging
import re

from pylinker.errors import LimitError, ParseError
from pylinker.wasm import writer
from pylinker.wasm.instructions import instructions, read_memory_immediate
from pylinker.wasm.module import ModuleInfo, parse_module
from pylinker.wasm.reader import SECTION_NAMES, Reader, Section, sections
from pylinker.wasm.types import FuncType, Kind, Limits, MemoryType, TableType
from pylinker.wasm.typesection import read_type_section

__all__ = [
    "WAITS_EXPORT",
    "WAITS_TABLE",
    "WAIT_TYPES",
    "WaitSlot",
    "has_waits_table",
    "rewrite_waits",
]

logger = logging.getLogger("pylinker.wasm")


class WaitSlot(enum.IntEnum):
    """The slots of the table, by instruction."""

    WAIT32 = 0
    WAIT64 = 1
    NOTIFY = 2


WAITS_EXPORT = "__pylinker_waits"
"""The name under which a rewritten module exports the table."""

WAITS_TABLE = TableType("funcref", Limits(len(WaitSlot), len(WaitSlot)))
"""The type of the table."""

WAIT_TYPES: tuple[FuncType, ...] = (
    FuncType(("i64", "i32", "i64"), ("i32",)),
    FuncType(("i64", "i64", "i64"), ("i32",)),
    FuncType(("i64", "i32"), ("i32",)),
)
"""The types of the functions in the table, by slot.

A wait gets (address, expected, timeout in ns or negative) and returns 0 woken, 1 not equal, or
2 timed out, for 32 and for 64 bits; a notification gets (address, count) and returns the number of
woken waiters. Integers of a guest are unsigned: the count -1 means all waiters.
"""

_TYPE, _FUNCTION, _TABLE, _EXPORT, _CODE = 1, 3, 4, 7, 10  # sections
_ATOMIC = 0xFE
_NOTIFY, _WAIT32, _WAIT64 = 0x00, 0x01, 0x02  # after _ATOMIC
_SLOTS = {_NOTIFY: WaitSlot.NOTIFY, _WAIT32: WaitSlot.WAIT32, _WAIT64: WaitSlot.WAIT64}
_OPCODES = {slot: opcode for opcode, slot in _SLOTS.items()}
_ALIGNMENTS = {
    WaitSlot.WAIT32: 2,
    WaitSlot.WAIT64: 3,
    WaitSlot.NOTIFY: 2,
}  # log2; others are invalid

# The first bytes of such an instruction, up to the alignment: with or without the index of a memory
# (0x40), and in the longer encodings of integers (0x80). Few other bytes match, so few functions
# are parsed in vain.
_CANDIDATE = re.compile(rb"\xfe(?:[\x00\x01][\x02\x42\x82\xc2]|\x02[\x03\x43\x83\xc3]|[\x80-\x82])")

_NOP, _CALL, _CALL_INDIRECT, _TABLE_GET, _REF_IS_NULL = b"\x01", b"\x10", b"\x11", b"\x25", b"\xd1"
_IF_I32, _ELSE, _END = b"\x04\x7f", b"\x05", b"\x0b"
_LOCAL_GET, _I32_CONST, _I64_CONST, _I64_ADD, _I64_EXTEND_I32_U = (
    b"\x20",
    b"\x41",
    b"\x42",
    b"\x7c",
    b"\xad",
)

# A call of a function with a higher index exceeds the four bytes of the shortest instruction;
# engines allow a million functions.
_MAXIMUM_FUNCTIONS = 1 << 21
# Static offsets are those of fields in structures. No real program has this many; the limit bounds
# the size of the appended functions.
_MAXIMUM_ADDED = 10_000


def rewrite_waits(data: bytes, *, name: str, info: ModuleInfo | None = None) -> bytes:
    """Return the module ``data`` with calls in place of its waits and notifications.

    The result is ``data`` itself if there is nothing to do: no such instruction on memory 0, a
    memory 0 that is not shared (waits are impossible there) or is 64-bit (pylinker has no such
    programs), or an export named ``WAITS_EXPORT``, so the function is idempotent. A malformed
    function body is unchanged, and logged; wasmtime, which has no other instructions, refuses the
    module.

    A module without any of the searched bytes costs one search through its code; otherwise, the
    functions with them are parsed.

    Args:
        data: The bytes of the module.
        name: Its name, for messages.
        info: The result of :func:`~pylinker.wasm.parse_module`, if the caller has it.

    Raises:
        ParseError: The module is malformed outside of its code.
        LimitError: It has more than 10,000 static offsets.
    """
    known = {section.id: section for section in sections(data, name) if section.id}
    code = known.get(_CODE)
    if code is None or _CANDIDATE.search(data, code.start, code.end) is None:
        return data
    if info is None:
        info = parse_module(data, name=name)
    memory = _first_memory(info)
    if (
        memory is None
        or not memory.limits.shared
        or memory.limits.is64
        or WAITS_EXPORT in info.exports
    ):
        return data
    if _FUNCTION not in known or _TYPE not in known:
        return data  # invalid, which wasmtime reports
    return _Rewriter(data, name, known, info).run()


def has_waits_table(info: ModuleInfo) -> bool:
    """Whether a module has the table that :func:`rewrite_waits` adds: exported, own, of that type.

    The linker must fill it.
    """
    export = info.exports.get(WAITS_EXPORT)
    if (
        export is None
        or export.kind is not Kind.TABLE
        or export.index < info.imported_count(Kind.TABLE)
    ):
        return False
    return info.export_type(export) == WAITS_TABLE


def _first_memory(info: ModuleInfo) -> MemoryType | None:
    imported = [each.type for each in info.imports if each.kind is Kind.MEMORY]
    memory = (*imported, *info.memories)[:1]
    return memory[0] if memory and isinstance(memory[0], MemoryType) else None


class _Rewriter:
    """One rewriting: patches a copy of the code section, then writes the sections that grow."""

    def __init__(self, data: bytes, name: str, known: dict[int, Section], info: ModuleInfo) -> None:
        self.data = data
        self.name = name
        self.known = known
        self.code = known[_CODE]
        self.patched = bytearray(data[self.code.start : self.code.end])
        self.defined = known[_FUNCTION].reader(data, name).count()
        self.first_added = info.imported_count(Kind.FUNC) + self.defined
        self.first_type = len(read_type_section(known[_TYPE].reader(data, name)))
        self.table = info.imported_count(Kind.TABLE) + len(info.tables)
        # (slot, static offset) of the added functions, in order, with the index of each
        self.added: dict[tuple[WaitSlot, int], int] = {}

    def run(self) -> bytes:
        if self.first_added + _MAXIMUM_ADDED > _MAXIMUM_FUNCTIONS:
            return self.data
        self._patch_code()
        if not self.added:
            return self.data
        # Types are added in pairs: of the instruction, of the host function.
        slots = sorted({slot for slot, _ in self.added})
        first_types = {slot: self.first_type + 2 * place for place, slot in enumerate(slots)}
        types = [
            writer.func_type(each)
            for slot in slots
            for each in (_instruction_type(slot), WAIT_TYPES[slot])
        ]
        bodies = [
            _added_function(slot, offset, self.table, first_types[slot] + 1)
            for slot, offset in self.added
        ]
        table = writer.value_type(WAITS_TABLE.element) + writer.limits(WAITS_TABLE.limits)
        export = writer.name(WAITS_EXPORT) + bytes([Kind.TABLE]) + writer.unsigned(self.table)
        return self._with_sections(
            {
                _TYPE: self._longer(_TYPE, types),
                _FUNCTION: self._longer(
                    _FUNCTION, [writer.unsigned(first_types[slot]) for slot, _ in self.added]
                ),
                _TABLE: self._longer(_TABLE, [table]),
                _EXPORT: self._longer(_EXPORT, [export]),
                _CODE: self._longer(_CODE, bodies),
            }
        )

    def _patch_code(self) -> None:
        """Find and rewrite the functions."""
        data = self.data
        end = self.code.end
        reader = Reader(data, module=self.name, section=SECTION_NAMES[_CODE])
        reader.position = self.code.start
        count = reader.u32()
        if count != self.defined:
            raise reader.error(
                f"there are {count} function bodies but {self.defined} functions", self.code.start
            )
        found = _CANDIDATE.search(data, reader.position, end)
        for index in range(count):
            if found is None:
                return
            size = reader.u32()
            start = reader.position
            if size > end - start:
                raise reader.error(
                    f"function body of {size} bytes, but {end - start} are left", start
                )
            reader.position = start + size
            if found.start() < reader.position:
                self._patch_function(index, start, reader.position)
                found = _CANDIDATE.search(data, reader.position, end)

    def _patch_function(self, index: int, start: int, end: int) -> None:
        """Rewrite the instructions of one function: all, or none if it is malformed."""
        body = Reader(
            self.data[start:end], base=start, module=self.name, section=SECTION_NAMES[_CODE]
        )
        patched = bytearray(body.data)
        added = len(self.added)
        try:
            for position in instructions(body):
                if patched[position] == _ATOMIC:
                    length = body.position - position
                    patched[position : body.position] = self._replacement(
                        body.data[position : body.position]
                    ).ljust(length, _NOP)
        except ParseError as error:
            while len(self.added) > added:
                self.added.popitem()  # the last one first
            number = self.first_added - self.defined + index
            logger.debug("The waits of function %d stay: %s", number, error)
        else:
            self.patched[start - self.code.start : end - self.code.start] = patched

    def _replacement(self, instruction: bytes) -> bytes:
        """Return a call no longer than an atomic instruction, or the instruction itself."""
        reader = Reader(instruction)
        reader.position = 1
        slot = _SLOTS.get(reader.u32())
        if slot is None:
            return instruction
        alignment, memory, offset = read_memory_immediate(reader)
        if alignment != _ALIGNMENTS[slot] or memory != 0 or offset >> 32:
            return instruction
        function = self.added.setdefault((slot, offset), self.first_added + len(self.added))
        if len(self.added) > _MAXIMUM_ADDED:
            raise LimitError(
                f"{self.name}: its atomic waits have more than {_MAXIMUM_ADDED} static offsets",
                module=self.name,
            )
        # The encoding of the index may be longer than necessary, but has at most five bytes.
        return _CALL + writer.unsigned(function, length=min(len(instruction) - 1, 5))

    def _longer(self, number: int, items: list[bytes]) -> bytes:
        """Return the section with these items appended; a new one if the module has none."""
        section = self.known.get(number)
        if section is None:
            return writer.section(number, writer.vector(items))
        contents = (
            bytes(self.patched) if number == _CODE else self.data[section.start : section.end]
        )
        reader = Reader(
            contents, base=section.start, module=self.name, section=SECTION_NAMES[number]
        )
        count = reader.u32()
        # In as many bytes as before if possible: the code after the number of functions should not
        # move.
        head = writer.unsigned(count + len(items), length=reader.position)
        return writer.section(number, b"".join((head, contents[reader.position :], *items)))

    def _with_sections(self, changed: dict[int, bytes]) -> bytes:
        """Return the module with these sections, replaced or inserted in order."""
        parts: list[bytes] = []
        copied = 0  # bytes of the file that are processed
        before = 0  # end of the preceding sections, without the custom ones that follow them
        for number in SECTION_NAMES:
            section = self.known.get(number)
            if number in changed:
                parts += [
                    self.data[copied : section.header if section else before],
                    changed[number],
                ]
                copied = section.end if section else before
            if section is not None:
                before = section.end
        return b"".join((*parts, self.data[copied:]))


def _instruction_type(slot: WaitSlot) -> FuncType:
    """Return the type of an instruction, and of the function that replaces it.

    It is that of the host function, with an i32 for the address.
    """
    host = WAIT_TYPES[slot]
    return FuncType(("i32", *host.params[1:]), host.results)


def _added_function(slot: WaitSlot, offset: int, table: int, host_type: int) -> bytes:
    """Return the function for an instruction with this static offset.

    It calls the function in the slot, if there is one, and else executes the instruction.
    """
    arguments = len(WAIT_TYPES[slot].params)
    number = _I32_CONST + writer.s32(slot)
    in_table = writer.unsigned(table)
    instruction = bytes([_ATOMIC, _OPCODES[slot], _ALIGNMENTS[slot]]) + writer.unsigned(offset)
    address = _LOCAL_GET + b"\0" + _I64_EXTEND_I32_U + _I64_CONST + writer.s32(offset) + _I64_ADD
    others = writer.local_gets(arguments)[len(writer.local_gets(1)) :]
    return writer.function_body(
        b"".join(
            (
                *(number, _TABLE_GET, in_table, _REF_IS_NULL, _IF_I32),
                *(writer.local_gets(arguments), instruction, _ELSE),
                *(
                    address,
                    others,
                    number,
                    _CALL_INDIRECT,
                    writer.unsigned(host_type),
                    in_table,
                    _END,
                ),
            )
        )
    )
