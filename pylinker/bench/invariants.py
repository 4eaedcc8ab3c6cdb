"""What must be true of a program when nobody changes it: what every table has, and what was given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker import _native
from pylinker.wasm import Kind

if TYPE_CHECKING:
    from pylinker.linker.group import InstanceGroup
    from pylinker.linker.linker import Linker

__all__ = ["table_of"]


def table_of(linker: Linker, group: InstanceGroup) -> list[str | None]:
    """Return what is in each slot of a group's table: ``function@module``, or ``not ...`` if it should be, another function, or None.

    On the group's own thread, which has caught up.
    """
    known = {}
    for module in linker.state.modules:
        for export in module.info.exports.values():
            slot = module.slot_of(export.index) if export.kind is Kind.FUNC else None
            if slot is not None:
                known[slot] = (module, export.name)
    table: list[str | None] = []
    for slot in range(group.table_size):
        function = group.store.table_get(group.table, slot)
        if slot in known:
            module, name = known[slot]
            same = function is not None and _native.same_function(function, group.function(module, name))
            table.append(f"{name}@{module.name}" if same else f"not {name}@{module.name}")
        else:
            table.append(None if function is None else "another function")
    return table
