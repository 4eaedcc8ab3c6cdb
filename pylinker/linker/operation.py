"""Operations on the topology: what one group decides and every group carries out.

An operation is a record of outcomes, not of wishes: bases, slots and sources are in the modules it names, so carrying it out resolves
nothing and gives the same result in every group. That is what makes table indices agree by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pylinker.linker.module import Definition, LoadedModule

__all__ = ["AllocateFunctionTable", "DlOperation", "LoadModules", "ResolveFunction", "SlotPatch", "UnloadModule"]


@dataclass(frozen=True, slots=True)
class SlotPatch:
    """Table slot ``slot`` holds ``definition``."""

    slot: int
    definition: Definition


@dataclass(frozen=True, slots=True)
class LoadModules:
    """Instantiate ``modules`` in this order in a table of at least ``table_size`` slots, then fill the slots of ``patches``."""

    modules: tuple[LoadedModule, ...]
    table_size: int
    patches: tuple[SlotPatch, ...]

    def __repr__(self) -> str:
        return f"LoadModules({', '.join(module.name for module in self.modules)}; table of {self.table_size})"


@dataclass(frozen=True, slots=True)
class ResolveFunction:
    """A function got a table slot: grow the table to ``table_size`` and fill the slot."""

    table_size: int
    patch: SlotPatch


@dataclass(frozen=True, slots=True)
class AllocateFunctionTable:
    """Slots without a function yet were given out: grow the table to ``table_size``."""

    table_size: int


@dataclass(frozen=True, slots=True)
class UnloadModule:
    """Empty the slots of a module and forget its instance."""

    module: LoadedModule


DlOperation: TypeAlias = LoadModules | ResolveFunction | AllocateFunctionTable | UnloadModule
