"""How long the functions of a module are: the one thing a symbol's size can be told from."""

from __future__ import annotations

from pylinker.wasm.reader import sections

__all__ = ["body_sizes"]

_CODE = 10


def body_sizes(data: bytes, *, name: str = "module") -> list[int]:
    """Return the sizes, in bytes, of the bodies of all functions that a module defines, in order. Raises ParseError."""
    sizes = []
    for section in sections(data, name):
        if section.id == _CODE:
            reader = section.reader(data, name)
            for _ in range(reader.count()):
                size = reader.u32()
                reader.take(size)
                sizes.append(size)
            reader.finish()
    return sizes
