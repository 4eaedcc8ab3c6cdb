"""What of a module's exports follows from its bytes alone, as the linker and the C core count them. Shared by all programs."""

from __future__ import annotations

import array
import weakref
from typing import TYPE_CHECKING

from pylinker import _native
from pylinker.wasm import Kind

if TYPE_CHECKING:
    from pylinker.wasm import ModuleInfo

__all__ = ["PRIVATE", "Outline", "outline_of"]

# Exports that belong to the module itself and are no symbols: every module may have its own, so they never satisfy an import of
# another (tool-conventions, DynamicLinking.md, and what wasm-ld exports in practice).
PRIVATE = frozenset(
    {
        "_initialize",
        "_start",
        "__indirect_function_table",
        "__memory_base",
        "__stack_pointer",
        "__table_base",
        "__tls_align",
        "__tls_base",
        "__tls_size",
        "__wasi_init_tp",
        "__wasix_init_tls",
        "__wasm_apply_data_relocs",
        "__wasm_apply_global_relocs",
        "__wasm_apply_tls_relocs",
        "__wasm_call_ctors",
        "__wasm_init_memory",
        "__wasm_init_tls",
        "memory",
        "wasi_thread_start",
    }
)


class Outline:
    """The exports of a module, counted in their order.

    Attributes: ``names``, ``positions`` (name -> number), ``slot_exports`` (numbers of the exported functions that need a table slot given
    out) and ``slot_order`` (function index -> place among these).
    """

    __slots__ = ("names", "positions", "slot_exports", "slot_order")

    def __init__(self, info: ModuleInfo) -> None:
        exports = info.exports
        self.names = _native.ExportNames(exports)
        self.positions = {name: position for position, name in enumerate(exports)}
        self.slot_exports = array.array("I")
        self.slot_order: dict[int, int] = {}
        imported, elements, order = info.imported_count(Kind.FUNC), info.element_slots, self.slot_order
        for position, export in enumerate(exports.values()):
            if export.kind is Kind.FUNC:
                index = export.index
                # An exported import is a symbol of somebody else, or of the host: it gets a slot only when it is asked for.
                if index >= imported and index not in elements and index not in order and export.name not in PRIVATE:
                    order[index] = len(order)
                    self.slot_exports.append(position)


_outlines: weakref.WeakKeyDictionary[ModuleInfo, Outline] = weakref.WeakKeyDictionary()


def outline_of(info: ModuleInfo) -> Outline:
    """Return a module's outline, made once for each module that was read."""
    outline = _outlines.get(info)
    if outline is None:
        outline = _outlines[info] = Outline(info)
    return outline
