"""Operations as data, for their replay (``csrc/replay.h``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pylinker.native.core import ffi, packer
from pylinker.native.enums import Stage
from pylinker.native.failures import Failure
from pylinker.native.libraries import Library

__all__ = ["BLOCK_OWN", "ErrorRecord", "Operation"]

BLOCK_OWN: int = (1 << 64) - 1
"""Address of a thread-local block that its library allocates itself (``PL_BLOCK_OWN``)."""


class ErrorRecord(NamedTuple):
    """An error record."""

    stage: Stage
    detail: int
    """A number whose meaning depends on the stage (see ``pl_stage``)."""
    library: int
    """Address of the library."""
    failure: Failure | None
    """The trap or error of wasmtime."""


_FILLING = packer("pl_filling")


class Operation:
    """An operation as data (``csrc/replay.h``); pairs and triples are those of the C structures.

    Keeps its libraries alive. ``fillings`` are slots with the packed sources of the host functions
    for them.
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
        self._kept = kept
        pointer.table_size = table_size
        if emptied:
            pointer.emptied, pointer.emptied_count = self._array("pl_slots[]", emptied)
        if unbound:
            rows = [(library.pointer, index) for library, index in unbound]
            pointer.unbound, pointer.unbound_count = self._array("pl_unbinding[]", rows)
        if dropped:
            pointer.dropped, pointer.dropped_count = self._libraries(dropped)
        if loaded:
            pointer.loaded, pointer.loaded_count = self._libraries(loaded)
        if blocks:
            pointer.blocks, pointer.block_count = self._triples("pl_block[]", blocks)
        if patches:
            pointer.patches, pointer.patch_count = self._triples("pl_patch[]", patches)
        if fillings:
            packed = b"".join([_FILLING.pack(source, slot) for slot, source in fillings])
            buffer = ffi.from_buffer(packed)
            kept.append(buffer)
            pointer.fillings = ffi.cast("pl_filling *", buffer)
            pointer.filling_count = len(fillings)
        if noted:
            pointer.noted, pointer.noted_count = self._array("pl_slots[]", noted)
        if closures:
            made = [
                (slot, function, environment, ffi.cast("pl_module *", code))
                for slot, function, environment, code in closures
            ]
            pointer.closures, pointer.closure_count = self._array("pl_closure[]", made)

    def _array(self, kind: Any, rows: Sequence[Any]) -> tuple[Any, int]:
        """Return a C array of rows, which the operation keeps, and its length."""
        array = ffi.new(kind, rows)
        self._kept.append(array)
        return array, len(rows)

    def _libraries(self, libraries: Sequence[Library]) -> tuple[Any, int]:
        return self._array("pl_library *[]", [library.pointer for library in libraries])

    def _triples(self, kind: Any, triples: Sequence[tuple[Library, int, int]]) -> tuple[Any, int]:
        return self._array(kind, [(library.pointer, one, two) for library, one, two in triples])
