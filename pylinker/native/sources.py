"""Where the imports of a library come from (``csrc/library.h``, ``csrc/builtin.h``, ``csrc/atomics.h``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pylinker.native.core import ffi, packer

if TYPE_CHECKING:
    from pylinker._core import pl_source_p

__all__ = ["SOURCE", "Sources", "put_source"]


SOURCE = packer("pl_source")
"""A ``pl_source``: kind, index, value, the addresses of library and type, handle."""
Sources: TypeAlias = "pl_source_p"
"""A ``pl_source[]``: what the imports of a library mean."""


def put_source(sources: Sources, index: int, packed: bytes) -> None:
    """Write one of them."""
    ffi.memmove(sources + index, packed, SOURCE.size)
