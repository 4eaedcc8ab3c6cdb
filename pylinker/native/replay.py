"""Operations as data, and their log (``csrc/replay.h``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pylinker.native.core import ffi, packer
from pylinker.native.enums import Stage
from pylinker.native.failures import Failure
from pylinker.native.libraries import Library

__all__ = ["BLOCK_OWN", "ErrorRecord", "Operation"]

BLOCK_OWN: int = (1 << 64) - 1
"""The address of a thread-local block that its library makes itself (``PL_BLOCK_OWN``)."""


class ErrorRecord(NamedTuple):
    """What went wrong: where, a number that says more (see ``pl_stage``), in which library (its address), and wasmtime's answer or None."""

    stage: Stage
    detail: int
    library: int
    failure: Failure | None


_FILLING = packer("pl_filling")


class Operation:
    """An operation as data (``csrc/replay.h``); pairs and triples are those of the C structures.

    Keeps the libraries it names. ``fillings`` are slots with the packed sources of the host
    functions that go there.
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
        kept: list[object] = [dropped, loaded]
        if unbound or blocks or patches:
            kept.append([each[0] for each in (*unbound, *blocks, *patches)])
        pointer.table_size = table_size
        if emptied:
            pointer.emptied = emptied_kept = ffi.new("pl_slots[]", emptied)
            pointer.emptied_count = len(emptied)
            kept.append(emptied_kept)
        if unbound:
            pointer.unbound = unbound_kept = ffi.new(
                "pl_unbinding[]", [(library.pointer, index) for library, index in unbound]
            )
            pointer.unbound_count = len(unbound)
            kept.append(unbound_kept)
        if dropped:
            pointer.dropped = dropped_kept = ffi.new(
                "pl_library *[]", [library.pointer for library in dropped]
            )
            pointer.dropped_count = len(dropped)
            kept.append(dropped_kept)
        if loaded:
            pointer.loaded = loaded_kept = ffi.new(
                "pl_library *[]", [library.pointer for library in loaded]
            )
            pointer.loaded_count = len(loaded)
            kept.append(loaded_kept)
        if blocks:
            pointer.blocks = blocks_kept = ffi.new(
                "pl_block[]",
                [(library.pointer, group, address) for library, group, address in blocks],
            )
            pointer.block_count = len(blocks)
            kept.append(blocks_kept)
        if patches:
            pointer.patches = patches_kept = ffi.new(
                "pl_patch[]", [(library.pointer, slot, export) for library, slot, export in patches]
            )
            pointer.patch_count = len(patches)
            kept.append(patches_kept)
        if fillings:
            kept.append(
                buffer := ffi.from_buffer(
                    b"".join([_FILLING.pack(source, slot) for slot, source in fillings])
                )
            )
            pointer.fillings, pointer.filling_count = (
                ffi.cast("pl_filling *", buffer),
                len(fillings),
            )
        if noted:
            pointer.noted = noted_kept = ffi.new("pl_slots[]", noted)
            pointer.noted_count = len(noted)
            kept.append(noted_kept)
        if closures:
            rows = [
                (slot, function, environment, ffi.cast("pl_module *", code))
                for slot, function, environment, code in closures
            ]
            pointer.closures = closures_kept = ffi.new("pl_closure[]", rows)
            pointer.closure_count = len(closures)
            kept.append(closures_kept)
        self._kept = kept
