"""Operations on the topology: what one group decides and every group carries out.

An operation is a record of outcomes, not of wishes: bases, slots and sources are in the modules it
names, so carrying it out resolves nothing and gives the same result in every group. That is what
makes table indices agree by construction. ``native`` is the same for the C core, which does it
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
    """Table slot ``slot`` holds ``definition``."""

    slot: int
    definition: Definition

    @property
    def native(self) -> tuple[Library, int, int]:
        """The same for the core."""
        return self.definition.module.native, self.slot, self.definition.position


@dataclass(frozen=True, slots=True)
class ThreadLocalBlock:
    """Where the thread-local data of ``module`` is for the group with this number: ``size`` bytes at ``address``.

    Or the module makes it itself: the address is ``BLOCK_OWN``.
    """

    group: int
    module: LoadedModule
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class HostSlot:
    """Table slot ``slot`` holds a host function of its own in each group; ``source`` is what ``pack_source`` gives."""

    slot: int
    source: bytes

    @property
    def native(self) -> tuple[int, bytes]:
        """The same for the core."""
        return self.slot, self.source


@dataclass(frozen=True)
class LoadModules:
    """Instantiate ``modules`` in this order in a table of at least ``table_size`` slots, then fill the slots of ``patches`` and ``hosts``.

    ``blocks`` has the thread-local blocks of all groups that do not use a module's initial copy.
    """

    modules: tuple[LoadedModule, ...]
    table_size: int
    patches: tuple[SlotPatch, ...]
    blocks: tuple[ThreadLocalBlock, ...] = ()
    hosts: tuple[HostSlot, ...] = ()

    def __repr__(self) -> str:
        return f"LoadModules({', '.join(module.name for module in self.modules)}; table of {self.table_size})"

    @made_once
    def native(self) -> Operation:
        """The same for the core."""
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
    """A function got a table slot: grow the table to ``table_size`` and fill the slot."""

    table_size: int
    patch: SlotPatch

    @made_once
    def native(self) -> Operation:
        """The same for the core."""
        return Operation(table_size=self.table_size, patches=[self.patch.native])


@dataclass(frozen=True)
class AllocateFunctionTable:
    """Slots were given out that are not for functions of modules: grow the table to ``table_size``, and fill ``host`` if it is given.

    ``noted`` (first, count) are slots for closures from now on.
    """

    table_size: int
    host: HostSlot | None = None
    noted: tuple[int, int] = (0, 0)

    @made_once
    def native(self) -> Operation:
        """The same for the core."""
        return Operation(
            table_size=self.table_size,
            fillings=[] if self.host is None else [self.host.native],
            noted=[self.noted] if self.noted[1] else [],
        )


@dataclass(frozen=True)
class PrepareClosure:
    """Slot ``slot`` holds a closure of ``type`` from ``code``: it calls the function in slot ``function`` with ``environment``."""

    slot: int
    type: FuncType
    code: Code
    function: int
    environment: int

    @property
    def closure(self) -> tuple[int, int, int, int]:
        """What the core has of it."""
        return self.slot, self.function, self.environment, self.code.address

    @made_once
    def native(self) -> Operation:
        """The same for the core."""
        return Operation(closures=[self.closure])


@dataclass(frozen=True)
class UnloadModule:
    """Empty ``slots`` (first, count) and forget the instances of ``modules``; make the PLT entries of ``unbind`` lazy again."""

    modules: tuple[LoadedModule, ...]
    slots: tuple[tuple[int, int], ...]
    unbind: tuple[tuple[LoadedModule, int], ...] = ()

    def __repr__(self) -> str:
        return f"UnloadModule({', '.join(module.name for module in self.modules)})"

    @made_once
    def native(self) -> Operation:
        """The same for the core."""
        return Operation(
            emptied=self.slots,
            dropped=[module.native for module in self.modules],
            unbound=[(module.native, index) for module, index in self.unbind],
        )


DlOperation: TypeAlias = (
    LoadModules | ResolveFunction | AllocateFunctionTable | PrepareClosure | UnloadModule
)
