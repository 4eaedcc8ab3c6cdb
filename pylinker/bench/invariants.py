"""Invariants of an idle program: contents of its tables, and release of its resources."""

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
    """Return the contents of a group's table.

    An entry is ``function@module``; ``not function@module`` if the slot should hold that and does
    not; another function; or None. On the group's own thread, after it has replayed all operations.
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
    """Resources of a program: ``memory`` in bytes, non-closure ``slots``, and names of modules."""

    memory: int
    slots: int
    modules: tuple[str, ...]
    host_functions: int = field(compare=False)
    """Of all programs: those that are garbage may disappear at any time."""


def held(linker: Linker | None) -> Held:
    """Return the resources of a program, which must be idle."""
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
    """Return the broken invariants of a program without threads and with all libraries closed.

    Args:
        linker: Its linker.
        before: Its resources at first.
    """
    assert linker is not None
    linker.unloader.collect()  # unloads libraries that were busy before
    shared = linker.context.shared
    now = held(linker)
    broken = [] if now == before else [f"resources leaked: {before} before, {now} now"]
    if now.host_functions > before.host_functions:
        broken.append(
            f"{now.host_functions - before.host_functions} Python functions are still registered"
        )
    if shared.cause:
        broken.append(f"the linker was cancelled: {shared.cause}, {shared.reason!r}")
    if shared.num_groups != 1 or len(linker.state.groups) != 1:
        broken.append(f"{shared.num_groups} groups are left, known as {linker.state.groups}")
    if linker.threads is not None and len(linker.threads):
        broken.append(f"{len(linker.threads)} threads are left")
    if len(shared.log):
        broken.append(f"{len(shared.log)} operations are left in the log")
    if linker.state.blocks and any(linker.state.blocks.values()):
        broken.append(f"thread-local blocks are left: {linker.state.blocks}")
    return broken
