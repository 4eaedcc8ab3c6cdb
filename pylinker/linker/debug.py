"""What the linker does, told through ``logging`` in the manner of ``LD_DEBUG``: the loggers, and what they say of a load.

All of it is said at level DEBUG. What takes work to say is only looked for when somebody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pylinker.wasm import Kind

if TYPE_CHECKING:
    from pylinker.linker.imports import HostImports
    from pylinker.linker.module import LoadedModule

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
_WORDS = {"GOT.func": "function pointer", "GOT.mem": "data"}
_STRUCTURE = frozenset({"__memory_base", "__stack_pointer", "__table_base"})


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


def tell_load(modules: Sequence[LoadedModule], scope: Sequence[LoadedModule], given: HostImports) -> None:
    """Tell where the modules of a load were put, and what their imports mean: in ``given``, which comes first, and in ``scope``."""
    for module in modules:
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
    for module in modules:
        for each in module.info.imports:
            if each.module not in ("env", *_WORDS) or each.kind in (Kind.MEMORY, Kind.TABLE) or each.name in _STRUCTURE:
                continue
            kind = _WORDS.get(each.module, each.kind.label)
            provider = None
            is_function = each.kind is Kind.FUNC or each.module == "GOT.func"
            if is_function and ("env", each.name) in given:
                BINDINGS.debug("binding %s to imports: %s [%s]", module.name, each.name, kind)
                continue
            if not (is_function and module.leaves_to_linker(each.name)):
                for candidate in scope:
                    SYMBOLS.debug("symbol=%s [%s]; lookup in %s", each.name, module.name, candidate.name)
                    if candidate.find(each.name) is not None:
                        provider = candidate
                        break
            if provider is None:
                SYMBOLS.debug("symbol=%s [%s]; no module has it", each.name, module.name)
            BINDINGS.debug("binding %s to %s: %s [%s]", module.name, provider.name if provider else "no module", each.name, kind)
