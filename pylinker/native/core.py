"""The compiled core: the only module that imports ``pylinker._core``."""

from __future__ import annotations

import os
import sys
from typing import Any

try:
    from pylinker._core import ffi, lib
except ModuleNotFoundError as error:
    raise ImportError(
        f"the C core of pylinker is not built in {os.path.dirname(os.path.dirname(__file__))}, a source folder: "
        "run `pip install -e .` in the folder above it, or leave that folder to use an installed pylinker"
    ) from error

__all__ = ["NULL", "U32", "core_file", "ffi", "layout", "lib"]

U32 = 1 << 32


def core_file() -> str | None:
    """Return the file of the compiled core."""
    return getattr(sys.modules["pylinker._core"], "__file__", None)


def layout(name: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """Return the size of a structure of the core, and offset and size of each of its fields, in bytes."""
    kind = ffi.typeof(name)
    return ffi.sizeof(kind), {field: (each.offset, ffi.sizeof(each.type)) for field, each in kind.fields}


NULL: Any = ffi.NULL
