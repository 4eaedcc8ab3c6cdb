"""Writes small WebAssembly modules byte by byte, also ones that no tool would."""

from __future__ import annotations

from collections.abc import Sequence

HEADER = b"\0asm\1\0\0\0"


def leb(value: int) -> bytes:
    """An unsigned LEB128 number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def name(text: str | bytes) -> bytes:
    """A name with its length."""
    data = text.encode() if isinstance(text, str) else text
    return leb(len(data)) + data


def section(number: int, body: bytes) -> bytes:
    """A section, or a subsection of dylink.0."""
    return bytes([number]) + leb(len(body)) + body


def dylink(
    *,
    memory: tuple[int, int] = (0, 0),
    table: tuple[int, int] = (0, 0),
    needed: Sequence[str | bytes] = (),
    runtime_path: Sequence[str | bytes] = (),
) -> bytes:
    """A module with nothing but a dylink.0 section. Alignments are exponents of two."""
    body = section(1, b"".join(map(leb, (*memory, *table))))
    for number, names in ((2, needed), (5, runtime_path)):
        if names:
            body += section(number, leb(len(names)) + b"".join(map(name, names)))
    return HEADER + section(0, name("dylink.0") + body)
