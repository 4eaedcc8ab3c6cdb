"""The compiled core: the only module that imports ``pylinker._core``."""

from __future__ import annotations

import os
import struct
import sys

try:
    from pylinker._core import ffi, lib
except ModuleNotFoundError as error:
    raise ImportError(
        "the C core of pylinker is not built in the source folder "
        f"{os.path.dirname(os.path.dirname(__file__))}: run `pip install -e .` in the folder "
        "above it, or leave that folder to use an installed pylinker"
    ) from error

__all__ = ["NULL", "U32", "core_file", "ffi", "layout", "lib", "packer"]

U32 = 1 << 32


def core_file() -> str | None:
    """Return the path of the compiled core."""
    return getattr(sys.modules["pylinker._core"], "__file__", None)


def packer(name: str) -> struct.Struct:
    """Return a packer of a structure of the core.

    It takes the fields in their order: addresses for pointers, bytes for structures. A field called
    ``unused`` is skipped.
    """
    kind = ffi.typeof(name)
    code, end = "=", 0
    for field_name, field in kind.fields:
        if field_name == "unused":
            continue
        size = ffi.sizeof(field.type)
        code += "x" * (field.offset - end)
        if field.type.kind == "struct":
            code += f"{size}s"
        else:
            letter = {1: "b", 2: "h", 4: "i", 8: "q"}[size]
            code += letter if field.type.cname.startswith("int") else letter.upper()
        end = field.offset + size
    return struct.Struct(code + "x" * (ffi.sizeof(kind) - end))


def layout(name: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """Return the size of a structure of the core, and offset and size of its fields, in bytes."""
    kind = ffi.typeof(name)
    return ffi.sizeof(kind), {
        field: (each.offset, ffi.sizeof(each.type)) for field, each in kind.fields
    }


NULL = ffi.NULL
