"""The debug output of a load: addresses of its modules, and definitions of their imports."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pylinker.linker.debug.log import BINDINGS, LIBS, SYMBOLS
from pylinker.runtime.outline import kind_of

if TYPE_CHECKING:
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.resolver import Symbol

__all__ = ["is_load_logged", "log_load"]

_DEBUG = logging.DEBUG


def is_load_logged() -> bool:
    """Whether a logger of :func:`log_load` is enabled."""
    return (
        LIBS.isEnabledFor(_DEBUG) or SYMBOLS.isEnabledFor(_DEBUG) or BINDINGS.isEnabledFor(_DEBUG)
    )


def log_load(
    loaded: Sequence[tuple[LoadedModule, Iterable[Symbol]]], scope: Sequence[LoadedModule]
) -> None:
    """Log the addresses of the modules of a load, and the definitions of their imports.

    Args:
        loaded: The modules, and their symbols from Resolver.symbols.
        scope: The scope of the lookups.
    """
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
            _log_symbol(module, each, scope)


def _log_symbol(module: LoadedModule, symbol: Symbol, scope: Sequence[LoadedModule]) -> None:
    wanted, definition = symbol.wanted, symbol.definition
    kind = kind_of(wanted)
    if symbol.is_host_import:
        BINDINGS.debug("binding %s to imports: %s [%s]", module.name, wanted.name, kind)
        return
    if not symbol.is_left_to_linker:
        for candidate in scope:
            SYMBOLS.debug("symbol=%s [%s]; lookup in %s", wanted.name, module.name, candidate.name)
            if definition is not None and candidate is definition.module:
                break
    if definition is None:
        SYMBOLS.debug("symbol=%s [%s]; undefined", wanted.name, module.name)
    provider = definition.module.name if definition else "no module"
    BINDINGS.debug("binding %s to %s: %s [%s]", module.name, provider, wanted.name, kind)
