"""What must be true of a program when nobody changes it: what every table has, and what was given back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pylinker.native.enums import SymbolKind
from pylinker.native.hostfuncs import host_function_count
from pylinker.native.objects import same_function

if TYPE_CHECKING:
    from pylinker.linker.groups.group import InstanceGroup
    from pylinker.linker.load.linker import Linker

__all__ = ["Held", "broken_invariants", "held", "table_of"]


def table_of(linker: Linker, group: InstanceGroup) -> list[str | None]:
    """Return what is in each slot of a group's table: ``function@module``, or ``not ...`` if it should be, another function, or None.

    On the group's own thread, which has caught up.
    """
    known = {}
    for module in linker.state.modules:
        for name, kind, *_ in module.outline.symbols():
            definition = module.find(name) if kind is SymbolKind.FUNCTION else None
            if definition is not None and definition.value is not None:
                known[definition.value] = (module, name)
    table: list[str | None] = []
    for slot in range(group.table_size):
        function = group.store.table_get(group.table, slot)
        if slot in known:
            module, name = known[slot]
            same = function is not None and same_function(function, group.function(module, name))
            table.append(f"{name}@{module.name}" if same else f"not {name}@{module.name}")
        else:
            table.append(None if function is None else "another function")
    return table


@dataclass(frozen=True)
class Held:
    """What a program holds: ``memory`` in bytes, ``slots`` of the table that are no closure's, and the names of its modules."""

    memory: int
    slots: int
    modules: tuple[str, ...]
    host_functions: int = field(compare=False)
    """Of all programs: those that others leave for Python to collect may go at any time."""


def held(linker: Linker | None) -> Held:
    """Return what a program holds now. Nobody may change it meanwhile."""
    assert linker is not None
    state = linker.state
    closures = sum(count for _first, count in state.closure_slots)
    return Held(
        state.memory.used,
        state.table.used - closures,
        tuple(module.name for module in state.modules),
        host_function_count(),
    )


def broken_invariants(linker: Linker | None, before: Held) -> list[str]:
    """Return what is not as it must be when all threads have ended and all libraries are closed, given what was held at first."""
    assert linker is not None
    linker.unloader.collect()  # what could not be unloaded in time waits for the next collection
    shared = linker.context.shared
    now = held(linker)
    broken = [] if now == before else [f"not all was given back: {before} before, {now} now"]
    if now.host_functions > before.host_functions:
        broken.append(
            f"{now.host_functions - before.host_functions} Python functions are still registered"
        )
    if shared.cause:
        broken.append(f"the linker was given up: {shared.cause}, {shared.reason!r}")
    if shared.num_groups != 1 or len(linker.state.groups) != 1:
        broken.append(f"{shared.num_groups} groups are left, known as {linker.state.groups}")
    if linker.threads is not None and len(linker.threads):
        broken.append(f"{len(linker.threads)} threads are left")
    if len(shared.log):
        broken.append(f"{len(shared.log)} operations are left in the log")
    if linker.state.blocks and any(linker.state.blocks.values()):
        broken.append(f"thread-local blocks are left: {linker.state.blocks}")
    return broken
