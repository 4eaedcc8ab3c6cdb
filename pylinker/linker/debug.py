"""What the linker does, told through ``logging`` in the manner of ``LD_DEBUG``: the loggers, and what they say of a load.

All of it is said at level DEBUG. What takes work to say is only looked for when somebody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pylinker.runtime.outline import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pylinker.linker.module import LoadedModule
    from pylinker.linker.resolver import Symbol

__all__ = ["BINDINGS", "LIBS", "STATS", "SYMBOLS", "tell_load", "tell_search", "wants_loads"]

LIBS: Final = logging.getLogger("pylinker.libs")
"""Searches, and the life of modules: loaded, constructed, unloaded."""
SYMBOLS: Final = logging.getLogger("pylinker.symbols")
"""Every lookup of a symbol, module by module."""
BINDINGS: Final = logging.getLogger("pylinker.bindings")
"""Which definition each import got, at load and at first calls."""
STATS: Final = logging.getLogger("pylinker.stats")
"""What a program has come to when it is closed."""

_DEBUG = logging.DEBUG


def wants_loads() -> bool:
    """Whether somebody listens to what :func:`tell_load` says."""
    return LIBS.isEnabledFor(_DEBUG) or SYMBOLS.isEnabledFor(_DEBUG) or BINDINGS.isEnabledFor(_DEBUG)


def tell_search(name: str, requester: str | None, searched: Sequence[tuple[str, str, str]], found: str | None) -> None:
    """Tell where a library was looked for: directory, rest of the path, and why it was not taken; and where it was found."""
    if not LIBS.isEnabledFor(_DEBUG):
        return
    LIBS.debug("find library=%s%s; searching", name, f" [needed by {requester}]" if requester else "")
    for directory, rest, reason in searched:
        LIBS.debug("  trying file=%s: %s", f"{directory}/{rest}" if directory else rest, reason)
    LIBS.debug("  %s", f"found file={found}" if found else "not found")


def tell_load(loaded: Sequence[tuple[LoadedModule, Iterable[Symbol]]], scope: Sequence[LoadedModule]) -> None:
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
        for candidate in scope:
            SYMBOLS.debug("symbol=%s [%s]; lookup in %s", wanted.name, module.name, candidate.name)
            if definition is not None and candidate is definition.module:
                break
    if definition is None:
        SYMBOLS.debug("symbol=%s [%s]; no module has it", wanted.name, module.name)
    provider = definition.module.name if definition else "no module"
    BINDINGS.debug("binding %s to %s: %s [%s]", module.name, provider, wanted.name, kind)
