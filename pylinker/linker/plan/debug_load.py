"""The debug output of a load: where its modules are, and what their imports were found to be."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pylinker.linker.debug.log import BINDINGS, LIBS, SYMBOLS
from pylinker.runtime.outline import kind_of

if TYPE_CHECKING:
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.resolver import Symbol

__all__ = ["tell_load", "wants_loads"]

_DEBUG = logging.DEBUG


def wants_loads() -> bool:
    """Whether somebody listens to what :func:`tell_load` says."""
    return (
        LIBS.isEnabledFor(_DEBUG) or SYMBOLS.isEnabledFor(_DEBUG) or BINDINGS.isEnabledFor(_DEBUG)
    )


def tell_load(
    loaded: Sequence[tuple[LoadedModule, Iterable[Symbol]]], scope: Sequence[LoadedModule]
) -> None:
    """Tell where the modules of a load were put, and what their imports were found to be in ``scope``: as Resolver.symbols has it."""
    for module, _ in loaded:
        LIBS.debug(
            "load %s [%s]: memory %#x+%d, table %d+%d",
            module.name,
            module.path or "bytes",
            module.memory_base,
            module.memory_size,
            module.table_base,
            module.table_size,
        )
    if not (SYMBOLS.isEnabledFor(_DEBUG) or BINDINGS.isEnabledFor(_DEBUG)):
        return
    for module, symbols in loaded:
        for each in symbols:
            _tell_symbol(module, each, scope)


def _tell_symbol(module: LoadedModule, symbol: Symbol, scope: Sequence[LoadedModule]) -> None:
    wanted, definition = symbol.wanted, symbol.definition
    kind = kind_of(wanted)
    if symbol.is_given:
        BINDINGS.debug("binding %s to imports: %s [%s]", module.name, wanted.name, kind)
        return
    if not symbol.is_left:
        for each in scope:
            SYMBOLS.debug("symbol=%s [%s]; lookup in %s", wanted.name, module.name, each.name)
            if definition is not None and each is definition.module:
                break
    if definition is None:
        SYMBOLS.debug("symbol=%s [%s]; no module has it", wanted.name, module.name)
    provider = definition.module.name if definition else "no module"
    BINDINGS.debug("binding %s to %s: %s [%s]", module.name, provider, wanted.name, kind)
