"""Operations on the topology: decided in one group, replayed in every other.

An operation records results, not requests: bases, slots and sources are in the modules that it
names, so a replay resolves nothing and has the same result in every group. That is what makes table
indices agree by construction. ``native`` is the operation for the C core, which carries it out
(``csrc/replay.h``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pylinker.native.libraries import Library
from pylinker.native.replay import Operation
from pylinker.runtime.once import made_once

if TYPE_CHECKING:
    from pylinker.linker.modules.module import Definition, LoadedModule
    from pylinker.runtime.code import Code
    from pylinker.wasm import FuncType

__all__ = [
    "AllocateFunctionTable",
    "DlOperation",
    "HostSlot",
    "LoadModules",
    "PrepareClosure",
    "ResolveFunction",
    "SlotPatch",
    "ThreadLocalBlock",
    "UnloadModule",
]


@dataclass(frozen=True, slots=True)
class SlotPatch:
    """A function for a table slot."""

    slot: int
    """The slot."""
    definition: Definition
    """The function."""

    @property
    def native(self) -> tuple[Library, int, int]:
        """The patch for the core."""
        return self.definition.module.native, self.slot, self.definition.position


@dataclass(frozen=True, slots=True)
class ThreadLocalBlock:
    """The thread-local block of a module in one group."""

    group: int
    """The number of the group."""
    module: LoadedModule
    """The module."""
    address: int
    """The address; ``BLOCK_OWN`` if the module allocates the block itself."""
    size: int
    """The size in bytes."""


@dataclass(frozen=True, slots=True)
class HostSlot:
    """A host function for a table slot; each group creates its own."""

    slot: int
    """The slot."""
    source: bytes
    """The result of ``pack_source``."""

    @property
    def native(self) -> tuple[int, bytes]:
        """The slot for the core."""
        return self.slot, self.source


@dataclass(frozen=True)
class LoadModules:
    """Instantiate modules in a table of a minimum size, then fill slots of the table."""

    modules: tuple[LoadedModule, ...]
    """The modules, in order."""
    table_size: int
    """The minimum size of the table in slots."""
    patches: tuple[SlotPatch, ...]
    """Functions for slots."""
    blocks: tuple[ThreadLocalBlock, ...] = ()
    """The thread-local blocks of all groups that do not use the initial copy of a module."""
    hosts: tuple[HostSlot, ...] = ()
    """Host functions for slots."""

    def __repr__(self) -> str:
        names = ", ".join(module.name for module in self.modules)
        return f"LoadModules({names}; table of {self.table_size})"

    @made_once
    def native(self) -> Operation:
        """The operation for the core."""
        return Operation(
            table_size=self.table_size,
            loaded=[module.native for module in self.modules],
            blocks=[(block.module.native, block.group, block.address) for block in self.blocks]
            if self.blocks
            else (),
            patches=[patch.native for patch in self.patches] if self.patches else (),
            fillings=[host.native for host in self.hosts] if self.hosts else (),
        )


@dataclass(frozen=True)
class ResolveFunction:
    """Grow the table and fill the slot that a function was given."""

    table_size: int
    """The minimum size of the table in slots."""
    patch: SlotPatch
    """The function for the slot."""

    @made_once
    def native(self) -> Operation:
        """The operation for the core."""
        return Operation(table_size=self.table_size, patches=[self.patch.native])


@dataclass(frozen=True)
class AllocateFunctionTable:
    """Grow the table for slots that do not belong to functions of modules."""

    table_size: int
    """The minimum size of the table in slots."""
    host: HostSlot | None = None
    """A host function for a slot, or None."""
    noted: tuple[int, int] = (0, 0)
    """The slots that are for closures from now on: first, count."""

    @made_once
    def native(self) -> Operation:
        """The operation for the core."""
        return Operation(
            table_size=self.table_size,
            fillings=[] if self.host is None else [self.host.native],
            noted=[self.noted] if self.noted[1] else [],
        )


@dataclass(frozen=True)
class PrepareClosure:
    """Put a closure into a table slot."""

    slot: int
    """The slot of the closure."""
    type: FuncType
    """The type of the closure."""
    code: Code
    """The code of the closure."""
    function: int
    """The slot of the function that the closure calls."""
    environment: int
    """The environment that it passes."""

    @property
    def closure(self) -> tuple[int, int, int, int]:
        """The closure for the core."""
        return self.slot, self.function, self.environment, self.code.address

    @made_once
    def native(self) -> Operation:
        """The operation for the core."""
        return Operation(closures=[self.closure])


@dataclass(frozen=True)
class UnloadModule:
    """Empty slots, drop the instances of modules, and unbind PLT entries."""

    modules: tuple[LoadedModule, ...]
    """The modules."""
    slots: tuple[tuple[int, int], ...]
    """The slots: first, count."""
    unbind: tuple[tuple[LoadedModule, int], ...] = ()
    """The PLT entries that become lazy again: module, index."""

    def __repr__(self) -> str:
        return f"UnloadModule({', '.join(module.name for module in self.modules)})"

    @made_once
    def native(self) -> Operation:
        """The operation for the core."""
        return Operation(
            emptied=self.slots,
            dropped=[module.native for module in self.modules],
            unbound=[(module.native, index) for module, index in self.unbind],
        )


DlOperation: TypeAlias = (
    LoadModules | ResolveFunction | AllocateFunctionTable | PrepareClosure | UnloadModule
)
