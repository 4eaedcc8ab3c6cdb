"""Definitions of a library's imports.

The headers are ``csrc/library.h``, ``csrc/builtin.h`` and ``csrc/atomics.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pylinker.native.core import ffi, packer

if TYPE_CHECKING:
    from pylinker._core import pl_source_p

__all__ = ["SOURCE", "Sources", "put_source"]


SOURCE = packer("pl_source")
"""A ``pl_source``: kind, index, value, the addresses of library and type, handle."""
Sources: TypeAlias = "pl_source_p"
"""A ``pl_source[]``: the definitions of a library's imports."""


def put_source(sources: Sources, index: int, packed: bytes) -> None:
    """Write one definition."""
    ffi.memmove(sources + index, packed, SOURCE.size)
