"""Facts from the bodies of functions alone: their sizes, and use of legacy exceptions."""

from __future__ import annotations

from collections.abc import Iterator

from pylinker.errors import ParseError
from pylinker.wasm.instructions import instructions
from pylinker.wasm.reader import SECTION_NAMES, Reader, sections

__all__ = ["body_sizes", "uses_legacy_exceptions"]

_CODE = 10
_TRY = 0x06
"""The instruction that encloses all others of legacy exceptions (catch, delegate, rethrow, ...)."""


def _bodies(data: bytes, name: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of the body of each function, in order. Raises ParseError."""
    for section in sections(data, name):
        if section.id == _CODE:
            reader = section.reader(data, name)
            for _ in range(reader.count()):
                size = reader.u32()
                start = reader.base + reader.position
                reader.take(size)
                yield start, start + size
            reader.finish()


def body_sizes(data: bytes, *, name: str = "module") -> list[int]:
    """Return the sizes in bytes of the bodies of all functions that a module defines, in order.

    Raises:
        ParseError: The module is malformed.
    """
    return [end - start for start, end in _bodies(data, name)]


def uses_legacy_exceptions(data: bytes, *, name: str = "module") -> bool:
    """Whether a function of a module has a ``try`` of legacy exceptions.

    False for a malformed module. Takes time in proportion to the size of the functions that contain
    the byte of that instruction.
    """
    try:
        for start, end in _bodies(data, name):
            if data.find(_TRY, start, end) >= 0:
                body = Reader(
                    data[start:end], base=start, module=name, section=SECTION_NAMES[_CODE]
                )
                if any(body.data[position] == _TRY for position in instructions(body)):
                    return True
    except ParseError:
        return False
    return False
