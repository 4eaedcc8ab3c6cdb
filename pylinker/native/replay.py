"""Operations as data, and their log (``csrc/replay.h``)."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from pylinker.native.core import ffi, lib
from pylinker.native.failures import Failure
from pylinker.native.libraries import Library
from pylinker.native.sources import SOURCE

__all__ = ["BLOCK_OWN", "Operation", "Stage", "Trouble"]

BLOCK_OWN: int = (1 << 64) - 1
"""The address of a thread-local block that its library makes itself (``PL_BLOCK_OWN``)."""


class Stage(enum.IntEnum):
    """Where carrying out an operation failed (``enum pl_stage``)."""

    NONE = lib.PL_STAGE_NONE
    ROOM = lib.PL_STAGE_ROOM
    TABLE = lib.PL_STAGE_TABLE
    TAKEN = lib.PL_STAGE_TAKEN
    OBJECT = lib.PL_STAGE_OBJECT
    EXPORT = lib.PL_STAGE_EXPORT
    TLS_CELL = lib.PL_STAGE_TLS_CELL
    MAKE = lib.PL_STAGE_MAKE
    INSTANTIATE = lib.PL_STAGE_INSTANTIATE
    TLS = lib.PL_STAGE_TLS


class Trouble(NamedTuple):
    """What went wrong: where, a number that says more (see ``pl_stage``), in which library (its address), and wasmtime's answer or None."""

    stage: Stage
    detail: int
    library: int
    failure: Failure | None


_SLOT = struct.Struct("=Q")
assert SOURCE.size + _SLOT.size == ffi.sizeof("pl_filling")


class Operation:
    """An operation as data (``csrc/replay.h``); pairs and triples are those of the C structures. Keeps the libraries it names.

    ``fillings`` are slots with the packed sources of the host functions that go there.
    """

    __slots__ = ("_kept", "pointer")

    def __init__(
        self,
        *,
        table_size: int = 0,
        emptied: Sequence[tuple[int, int]] = (),
        unbound: Sequence[tuple[Library, int]] = (),
        dropped: Sequence[Library] = (),
        loaded: Sequence[Library] = (),
        blocks: Sequence[tuple[Library, int, int]] = (),
        patches: Sequence[tuple[Library, int, int]] = (),
        fillings: Sequence[tuple[int, bytes]] = (),
        noted: Sequence[tuple[int, int]] = (),
        closures: Sequence[tuple[int, int, int, int]] = (),
    ) -> None:
        pointer = self.pointer = ffi.new("pl_operation *")
        kept: list[Any] = [dropped, loaded]
        if unbound or blocks or patches:
            kept.append([each[0] for each in (*unbound, *blocks, *patches)])
        pointer.table_size = table_size
        if emptied:
            kept.append(packed := ffi.new("pl_slots[]", emptied))
            pointer.emptied, pointer.emptied_count = packed, len(emptied)
        if unbound:
            kept.append(packed := ffi.new("pl_unbinding[]", [(library.pointer, index) for library, index in unbound]))
            pointer.unbound, pointer.unbound_count = packed, len(unbound)
        if dropped:
            kept.append(packed := ffi.new("pl_library *[]", [library.pointer for library in dropped]))
            pointer.dropped, pointer.dropped_count = packed, len(dropped)
        if loaded:
            kept.append(packed := ffi.new("pl_library *[]", [library.pointer for library in loaded]))
            pointer.loaded, pointer.loaded_count = packed, len(loaded)
        if blocks:
            kept.append(packed := ffi.new("pl_block[]", [(library.pointer, group, address) for library, group, address in blocks]))
            pointer.blocks, pointer.block_count = packed, len(blocks)
        if patches:
            kept.append(packed := ffi.new("pl_patch[]", [(library.pointer, slot, export) for library, slot, export in patches]))
            pointer.patches, pointer.patch_count = packed, len(patches)
        if fillings:
            kept.append(buffer := ffi.from_buffer(b"".join([source + _SLOT.pack(slot) for slot, source in fillings])))
            pointer.fillings, pointer.filling_count = ffi.cast("pl_filling *", buffer), len(fillings)
        if noted:
            kept.append(packed := ffi.new("pl_slots[]", noted))
            pointer.noted, pointer.noted_count = packed, len(noted)
        if closures:
            kept.append(packed := ffi.new("pl_closure[]", len(closures)))
            for index, (slot, function, environment, code) in enumerate(closures):
                packed[index] = (slot, function, environment, ffi.cast("pl_module *", code))
            pointer.closures, pointer.closure_count = packed, len(closures)
        self._kept = kept
