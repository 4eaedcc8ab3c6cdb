"""Statistics of a program: a snapshot of its sizes, its maps, its threads and their waits."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pylinker.linker.debug.log import STATS
from pylinker.native.enums import DEAD, PARKED, RUNNING

if TYPE_CHECKING:
    from pylinker.linker import Linker
    from pylinker.linker.groups.group import InstanceGroup
    from pylinker.linker.plan.state import LinkerState

__all__ = ["GroupSummary", "Region", "Statistics", "Waits", "log_statistics", "snapshot"]

_STATES = {PARKED: "parked", RUNNING: "running", DEAD: "dead"}


@dataclass(frozen=True)
class Region:
    """A part of the memory (bytes) or of the function table (slots).

    The heap is all behind the static data of a program whose memory the linker lays out, so
    libraries that were opened later lie inside it.
    """

    start: int
    """Where it begins."""
    size: int
    """How large it is."""
    owner: str
    """A module, a thread, or the program."""
    use: str
    """In the memory ``"data"``, ``"stack"``, ``"thread-local"`` or ``"heap"``; in the table
    ``"elements"`` (of the module's own segments), ``"exports"``, ``"pointers"`` or ``"closures"``.
    """


@dataclass(frozen=True)
class GroupSummary:
    """The instance group of one thread."""

    thread: int
    """The number of the thread; 0 is the main thread."""
    state: str
    """``"running"`` in guest code, ``"parked"`` outside of it, ``"dead"`` once it has exited."""
    replayed: int
    """The newest operation that it has replayed."""
    resolved: int
    """How many calls had to be resolved."""


@dataclass(frozen=True)
class Waits:
    """How often threads waited for each other, since the program began."""

    rendezvous: int
    """How many rendezvous there were."""
    followed: int
    """How often a thread was a follower in one."""
    seconds: float
    """How long leaders waited for followers in all, in seconds."""
    longest: float
    """The longest wait of a leader, in seconds."""


@dataclass(frozen=True)
class Statistics:
    """A snapshot of a program's size."""

    modules: int
    """Modules loaded."""
    symbols: int
    """Exports of all modules."""
    scope: tuple[str, ...]
    """Names of the modules in the global scope, in order."""
    memory_pages: int
    """Pages of 64 KiB that the guest's memory has."""
    memory_used: int
    """Bytes given to modules that were loaded while the program ran."""
    memory_map: tuple[Region, ...]
    """What the linker knows of the memory, by address."""
    table_slots: int
    """Slots that the function table has."""
    table_used: int
    """Slots given to modules and function pointers."""
    table_map: tuple[Region, ...]
    """What the linker knows of the function table, by slot."""
    trampolines: int
    """Imports of functions that were not there when their module was instantiated."""
    trampolines_bound: int
    """How many of these lead to a definition by now."""
    resolver_entries: int
    """Calls of the calling thread's group that had to be resolved: at most one an import."""
    groups: int
    """Instance groups: one for each thread."""
    threads: tuple[GroupSummary, ...]
    """The groups, that of the main thread first."""
    operations: int
    """Operations of a rendezvous: libraries opened and closed, slots given to functions."""
    waits: Waits
    """How often they waited for each other."""


def snapshot(linker: Linker) -> Statistics:
    """Return the statistics of a program, as the calling thread's group sees it.

    Blocks: cooperatively, for the read lock. For a program that has ended it takes no lock:
    nothing changes any more.
    """
    context = linker.context
    if linker.threads is not None:
        linker.threads.reap()
    with contextlib.nullcontext() if context.shared.cause else context.reading():
        state, group = linker.state, linker.group
        groups = [
            context.main_group,
            *[context.groups[number] for number in state.groups if number in context.groups],
        ]
        entries = [entry for module in state.modules for entry in module.plt]
        waits = context.shared.waits()
        return Statistics(
            modules=len(state.modules),
            symbols=state.definitions(),
            scope=tuple(module.name for module in state.global_scope),
            memory_pages=group.memory_size >> 16,
            memory_used=state.memory.used,
            memory_map=_sorted(_memory_map(state, groups, context.tids, group.memory_size)),
            table_slots=group.table_size,
            table_used=state.table.used,
            table_map=_sorted(_table_map(state)),
            trampolines=len(entries),
            trampolines_bound=sum(entry.definition is not None for entry in entries),
            resolver_entries=group.resolver_entries(state.modules),
            groups=context.shared.num_groups,
            threads=tuple(
                GroupSummary(
                    context.tids.get(each.state.number, 0),
                    _STATES[each.state.state],
                    each.state.applied,
                    each.resolver_entries(state.modules),
                )
                for each in groups
            ),
            operations=context.shared.published,
            waits=Waits(waits.led, waits.followed, waits.nanoseconds / 1e9, waits.longest / 1e9),
        )


def log_statistics(linker: Linker, name: str) -> None:
    """Log the statistics of a program to ``pylinker.stats``, if that is enabled."""
    if not STATS.isEnabledFor(logging.DEBUG):
        return
    for field, value in vars(snapshot(linker)).items():
        if isinstance(value, tuple) and value and isinstance(value[0], (Region, GroupSummary)):
            for each in value:
                STATS.debug(
                    "%s: %s: %s",
                    name,
                    field,
                    ", ".join(f"{key}={part}" for key, part in vars(each).items()),
                )
        else:
            STATS.debug("%s: %s: %s", name, field, value)


def _sorted(regions: list[Region]) -> tuple[Region, ...]:
    return tuple(
        sorted((each for each in regions if each.size), key=lambda each: (each.start, -each.size))
    )


def _memory_map(
    state: LinkerState, groups: list[InstanceGroup], tids: dict[int, int], size: int
) -> list[Region]:
    regions = [
        Region(module.memory_base, module.memory_size, module.name, "data")
        for module in state.modules
    ]
    layout = state.linker_symbols
    if "__stack_low" in layout and "__stack_high" in layout:
        regions.append(
            Region(
                layout["__stack_low"],
                layout["__stack_high"] - layout["__stack_low"],
                "main thread",
                "stack",
            )
        )
    if "__heap_base" in layout:
        regions.append(
            Region(layout["__heap_base"], size - layout["__heap_base"], "program", "heap")
        )
    regions += [
        Region(*each.stack, f"thread {tids.get(each.state.number, 0)}", "stack") for each in groups
    ]
    regions += [
        Region(
            block.address,
            block.size,
            f"{module.name}, thread {tids.get(number, 0)}",
            "thread-local",
        )
        for number, blocks in state.blocks.items()
        for module, block in blocks.items()
    ]
    return regions


def _table_map(state: LinkerState) -> list[Region]:
    regions = [Region(first, count, "program", "closures") for first, count in state.closure_slots]
    regions += [
        Region(
            pointer.slot.slot,
            1,
            f"{'pylinker' if pointer.provided else 'imports'} {name}",
            "pointers",
        )
        for name, pointer in state.imports.pointers.items()
    ]
    for module in state.modules:
        regions.append(Region(module.table_base, module.table_size, module.name, "elements"))
        regions.append(Region(module.slot_base, module.slot_count, module.name, "exports"))
        regions += [Region(slot, 1, module.name, "pointers") for slot in module.slots.values()]
    return regions
