"""Reading the primitive values of the binary format, and iterating over the sections of a module.

Everything in a module file is untrusted. :class:`Reader` is the only code that reads bytes of it,
and reports all errors through :meth:`Reader.error`, which makes a
:class:`~pylinker.errors.ParseError` with the position. Every count and size in the file is compared
with the number of remaining bytes before it is used, so memory and time are bounded by the length
of the file.

Integers are LEB128: see https://webassembly.github.io/spec/core/binary/values.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pylinker.errors import ParseError

__all__ = ["SECTION_NAMES", "Reader", "Section", "quoted", "sections"]

# The known sections in the order of the specification, which is not the order of their numbers.
SECTION_NAMES = {
    1: "type",
    2: "import",
    3: "function",
    4: "table",
    5: "memory",
    13: "tag",
    6: "global",
    7: "export",
    8: "start",
    9: "element",
    12: "data count",
    10: "code",
    11: "data",
}
_RANKS = {number: rank for rank, number in enumerate(SECTION_NAMES)}

_MAGIC = b"\0asm"
_VERSION = b"\x01\0\0\0"
_QUOTED_LENGTH = 80  # maximum length of an untrusted name in an error message


def quoted(name: str) -> str:
    """Return a name for a message: escaped, and truncated when it is very long."""
    return repr(name) if len(name) <= _QUOTED_LENGTH else f"{name[:_QUOTED_LENGTH]!r}..."


class Reader:
    """A position in some bytes of a module.

    ``data`` has the bytes of a section or of the whole file; ``position`` is the next byte to read,
    as an index in ``data``; ``base`` is the offset of ``data`` in the file. ``module`` and
    ``section`` are names for messages. All methods that read raise
    :class:`~pylinker.errors.ParseError` when the bytes are truncated or malformed.
    """

    __slots__ = ("base", "data", "module", "position", "section")

    def __init__(
        self, data: bytes, *, base: int = 0, module: str = "module", section: str | None = None
    ) -> None:
        self.data = data
        self.position = 0
        self.base = base
        self.module = module
        self.section = section

    def error(self, message: str, position: int | None = None) -> ParseError:
        """Return the error about the byte at ``position`` (default: the next one to read)."""
        offset = self.base + (self.position if position is None else position)
        return ParseError(message, module=self.module, section=self.section, offset=offset)

    @property
    def remaining(self) -> int:
        """Number of bytes not yet read."""
        return len(self.data) - self.position

    def byte(self) -> int:
        """Read a byte, 0..255."""
        try:
            value = self.data[self.position]
        except IndexError:
            raise self.error("unexpected end, wanted a byte") from None
        self.position += 1
        return value

    def skip_if(self, value: int) -> bool:
        """Skip the next byte if it is ``value``; return whether it was."""
        try:
            found = self.data[self.position] == value
        except IndexError:
            return False
        self.position += found
        return found

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        position = self.position
        chunk = self.data[position : position + size]
        if len(chunk) != size:
            raise self.error(f"unexpected end, wanted {size} bytes but {len(chunk)} are left")
        self.position = position + size
        return chunk

    def u32(self) -> int:
        """Read an unsigned 32-bit integer."""
        # Most of them have one byte or two; the general case is slower.
        position = self.position
        try:
            value = self.data[position]
            if value < 0x80:
                self.position = position + 1
                return value
            second = self.data[position + 1]
        except IndexError:
            raise self.error("unexpected end, wanted an integer") from None
        if second < 0x80:
            self.position = position + 2
            return value & 0x7F | second << 7
        return self._unsigned(32)

    def u64(self) -> int:
        """Read an unsigned 64-bit integer."""
        return self._unsigned(64)

    def s32(self) -> int:
        """Read a signed 32-bit integer."""
        return self._signed(32)

    def s33(self) -> int:
        """Read a signed 33-bit integer, the form of a heap type."""
        return self._signed(33)

    def s64(self) -> int:
        """Read a signed 64-bit integer."""
        return self._signed(64)

    def _unsigned(self, bits: int) -> int:
        data = self.data
        start = position = self.position
        value = shift = 0
        try:
            while True:
                byte = data[position]
                position += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
                if shift >= bits:
                    raise self.error(f"integer has more bytes than {bits} bits need", start)
        except IndexError:
            raise self.error("unexpected end inside an integer", start) from None
        if value >> bits:
            raise self.error(f"integer out of range: more than {bits} bits", start)
        self.position = position
        return value

    def _signed(self, bits: int) -> int:
        data = self.data
        start = position = self.position
        value = shift = 0
        try:
            while True:
                byte = data[position]
                position += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
                if shift >= bits:
                    raise self.error(f"integer has more bytes than {bits} bits need", start)
        except IndexError:
            raise self.error("unexpected end inside an integer", start) from None
        if byte & 0x40:
            value -= 1 << shift
        if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            raise self.error(f"integer out of range: more than {bits} bits", start)
        self.position = position
        return value

    def u32s(self, count: int) -> list[int]:
        """Read ``count`` unsigned 32-bit integers; ``count`` must come from :meth:`count`."""
        chunk = self.data[self.position : self.position + count]
        if (
            len(chunk) == count and chunk.isascii()
        ):  # no byte has its high bit set, so each one is an integer
            self.position += count
            return list(chunk)
        u32 = self.u32
        return [u32() for _ in range(count)]

    def count(self, item_size: int = 1) -> int:
        """Read the length of a vector; an error if so many items of ``item_size`` cannot follow."""
        start = self.position
        value = self.u32()
        if value * item_size > len(self.data) - self.position:
            raise self.error(
                f"{value} items cannot fit in the {self.remaining} bytes that follow", start
            )
        return value

    def name(self) -> str:
        """Read a name: a length, and that many bytes of UTF-8."""
        size = self.u32()
        start = self.position
        end = start + size
        if end > len(self.data):
            raise self.error(f"name of {size} bytes, but {self.remaining} are left", start)
        self.position = end
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            raise self.error("name is not valid UTF-8", start) from None

    def sub(self, size: int) -> Reader:
        """Return a reader of the next ``size`` bytes, which this reader skips."""
        base = self.base + self.position
        return Reader(self.take(size), base=base, module=self.module, section=self.section)

    def finish(self) -> None:
        """Check that everything was read."""
        if self.remaining:
            raise self.error(f"{self.remaining} bytes are left over")


class Section(NamedTuple):
    """A section.

    ``id`` is 0 for a custom one, ``header`` the offset of the id, and ``start`` and ``end`` are the
    bounds of its contents.
    """

    id: int
    header: int
    start: int
    end: int

    def reader(self, data: bytes, module: str) -> Reader:
        """Return a reader of the section's contents; ``data`` is the whole file."""
        contents = data[self.start : self.end]
        return Reader(contents, base=self.start, module=module, section=SECTION_NAMES.get(self.id))


def sections(data: bytes, module: str) -> Iterator[Section]:
    """Yield the sections of a module, in order, without a look at their contents.

    Raises:
        ParseError: ``data`` is not a core module of version 1, or a section exceeds the file, has
            an unknown id, is repeated or out of order.
    """
    reader = Reader(data, module=module)
    _check_header(reader)
    size = len(data)
    last = -1
    while reader.position < size:
        header = reader.position
        number = reader.byte()
        length = reader.u32()
        start = reader.position
        if number:
            rank = _RANKS.get(number)
            if rank is None:
                raise reader.error(f"unknown section id {number}", header)
            if rank <= last:
                what = "comes twice" if rank == last else "is out of order"
                raise reader.error(f"section {SECTION_NAMES[number]} {what}", header)
            last = rank
        if length > size - start:
            what = SECTION_NAMES.get(number, "custom")
            raise reader.error(
                f"section {what} has {length} bytes, but the file ends after {size - start}", header
            )
        yield Section(number, header, start, start + length)
        reader.position = start + length


def _check_header(reader: Reader) -> None:
    data = reader.data
    if data[:4] != _MAGIC:
        if len(data) < 4 and _MAGIC.startswith(data):
            raise reader.error("unexpected end in the header: the file is empty or truncated")
        raise reader.error("not a WebAssembly module: it does not start with \\0asm")
    version = data[4:8]
    if len(version) < 4:
        raise reader.error("unexpected end in the header", 4)
    if version != _VERSION:
        # The second half of the version field is the "layer": 0 is a core module, 1 a component.
        if version[2:] == b"\x01\0":
            raise reader.error(
                "it is a component, not a core module (a dynamic linker works on core modules)", 4
            )
        raise reader.error(
            f"unsupported version {int.from_bytes(version, 'little'):#x} of the binary format", 4
        )
    reader.position = 8
