"""Log compaction: the operations of the log that no group needs.

Without it a group that stays parked would make the log grow for ever. A group has replayed all
operations up to some number, its *position*.

* A group skips the load of modules that were all unloaded before it replays (``csrc/replay.h``),
  but for the slots that the load gave to functions which are still loaded: these *last*.
* Their unload does nothing in a group that never loaded them. Its table has nothing of theirs:
  their slots were free when they were given out, so the former content was emptied by an operation
  before the load. No trampoline of the group leads to them: a group binds only what it has loaded.
* So a load and its unload are redundant together, for groups that are before both or behind both.
  A group whose position is between the two needs the unload; then both stay.
* The slot of a function of an unloaded module is skipped as its load is.
* A closure is replaced by the next one in the same slot.

All of them make the table grow; a log keeps that of what it erases.

The rest is bounded: a load and its unload for each module that was loaded at a group's position;
the loads, slots and closures of modules that are loaded now; and slots that belong to no module,
of which there are no more than the table may have.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from pylinker.linker.plan.operation import (
    LoadModules,
    PrepareClosure,
    ResolveFunction,
    UnloadModule,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.operation import DlOperation

__all__ = ["redundant"]


def redundant(log: Mapping[int, DlOperation], applied: Collection[int]) -> set[int]:
    """Return the numbers of the operations that no group needs.

    Requires: the write lock, held by the leader of the newest operation, which has been committed
    but not published.

    Args:
        log: The operations by number, ascending.
        applied: The positions of the groups.
    """
    found: set[int] = set()
    loads: dict[LoadedModule, int] = {}
    unloads: dict[int, set[int]] = {}  # by number: the loads whose modules it unloads
    closures: dict[int, int] = {}  # by slot
    needed: set[LoadedModule] = set()  # modules that some group has yet to unload
    positions = sorted(applied)
    for number, operation in log.items():
        if isinstance(operation, LoadModules):
            loads.update(dict.fromkeys(operation.modules, number))
        elif isinstance(operation, UnloadModule):
            if all(
                _are_apart(positions, loads.get(module, 0), number) for module in operation.modules
            ):
                unloads[number] = {loads[module] for module in operation.modules}
            else:
                needed.update(operation.modules)
        elif isinstance(operation, ResolveFunction):
            if operation.patch.definition.module.unloaded:
                found.add(number)
        elif isinstance(operation, PrepareClosure):
            if operation.slot in closures:
                found.add(closures[operation.slot])
            closures[operation.slot] = number
    emptied: dict[
        int, set[int]
    ] = {}  # by number of a load: slots that unloads empty which may go with it
    for number, taken in unloads.items():
        operation = log[number]
        assert isinstance(operation, UnloadModule)
        slots = {slot for first, count in operation.slots for slot in range(first, first + count)}
        for load in taken:
            emptied.setdefault(load, set()).update(slots)
    staying: set[int] = set()  # loads that leave a slot behind
    for number in set(loads.values()):
        operation = log[number]
        assert isinstance(operation, LoadModules)
        lasting = set(_lasting(operation))
        gone = all(module.unloaded and module not in needed for module in operation.modules)
        if gone and lasting <= emptied.get(number, set()):
            found.add(number)
        elif lasting & emptied.get(number, set()):
            staying.add(number)
    found.update(number for number, taken in unloads.items() if staying.isdisjoint(taken))
    return found


def _are_apart(positions: list[int], load: int, unload: int) -> bool:
    """Whether every position is before the load or behind the unload.

    Load 0 is not in the log any more.
    """
    return load > 0 and bisect_left(positions, load) == bisect_left(positions, unload)


def _lasting(operation: LoadModules) -> Iterator[int]:
    """Iterate over the slots that a load fills though its modules were unloaded."""
    yield from (patch.slot for patch in operation.patches if not patch.definition.module.unloaded)
    yield from (host.slot for host in operation.hosts)
