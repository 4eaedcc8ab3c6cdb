"""Operations on the topology: what one group decides and every group carries out.

An operation is a record of outcomes, not of wishes: bases, slots and sources are in the modules it names, so carrying it out resolves
nothing and gives the same result in every group. That is what makes table indices agree by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pylinker.linker.module import Definition, LoadedModule

__all__ = ["AllocateFunctionTable", "DlOperation", "LoadModules", "ResolveFunction", "SlotPatch", "ThreadLocalBlock", "UnloadModule"]


@dataclass(frozen=True, slots=True)
class SlotPatch:
    """Table slot ``slot`` holds ``definition``."""

    slot: int
    definition: Definition


@dataclass(frozen=True, slots=True)
class ThreadLocalBlock:
    """Where the thread-local data of ``module`` is for the group with this number: ``size`` bytes at ``address``."""

    group: int
    module: LoadedModule
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class LoadModules:
    """Instantiate ``modules`` in this order in a table of at least ``table_size`` slots, then fill the slots of ``patches``.

    ``blocks`` has the thread-local blocks of all groups that do not use a module's initial copy.
    """

    modules: tuple[LoadedModule, ...]
    table_size: int
    patches: tuple[SlotPatch, ...]
    blocks: tuple[ThreadLocalBlock, ...] = ()

    def __repr__(self) -> str:
        return f"LoadModules({', '.join(module.name for module in self.modules)}; table of {self.table_size})"


@dataclass(frozen=True, slots=True)
class ResolveFunction:
    """A function got a table slot: grow the table to ``table_size`` and fill the slot."""

    table_size: int
    patch: SlotPatch


@dataclass(frozen=True, slots=True)
class AllocateFunctionTable:
    """Slots were given out that are not for functions of modules: grow the table to ``table_size``.

    ``finalizer`` is the slot in which each group puts the function that runs the libraries' destructors, or None.
    """

    table_size: int
    finalizer: int | None = None


@dataclass(frozen=True, slots=True)
class UnloadModule:
    """Empty the ``slots`` of ``modules`` and forget their instances; make the PLT entries of ``unbind`` lazy again."""

    modules: tuple[LoadedModule, ...]
    slots: tuple[int, ...]
    unbind: tuple[tuple[LoadedModule, int], ...] = ()

    def __repr__(self) -> str:
        return f"UnloadModule({', '.join(module.name for module in self.modules)})"


DlOperation: TypeAlias = LoadModules | ResolveFunction | AllocateFunctionTable | UnloadModule
