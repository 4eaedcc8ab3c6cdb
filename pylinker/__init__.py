"""pylinker, a dynamic linker for WebAssembly: what ``ld.so`` is to native programs.

    program = pylinker.Program("app.wasm", library_path=["lib"])
    status = program.run()

    foo = pylinker.CDLL("libfoo.so", library_path=["lib"])
    foo.add(1, 2)

``docs/linking.md`` describes how it works.
"""

import importlib
import logging
import os
from threading import RLock
from typing import TYPE_CHECKING

from pylinker._version import __version__
from pylinker.errors import (
    AlreadyRunError,
    ClosedError,
    InitializationError,
    InternalError,
    Interrupted,
    LibraryNotFoundError,
    LimitError,
    LinkError,
    MemoryAccessError,
    NotDynamicError,
    ParseError,
    RendezvousTimeout,
    SignatureMismatchError,
    StackSizeError,
    SymbolNotFoundError,
    SynchronizationAborted,
    TimeoutExpired,
    UndefinedSymbol,
    UndefinedSymbolError,
    UnsupportedError,
)

# Refuses a wasmtime that the core cannot use.
from pylinker.runtime import compat as _compat  # noqa: F401

# Before the lock below: a fork takes that one first, since an import may create objects.
from pylinker.runtime import once as _once  # noqa: F401

if TYPE_CHECKING:
    from pylinker.api.cdll import CDLL
    from pylinker.api.debug import debug
    from pylinker.api.function import Function
    from pylinker.api.library import Library
    from pylinker.api.options import Options
    from pylinker.api.program import ModuleSummary, Program
    from pylinker.api.statistics import GroupSummary, Region, Statistics, Waits
    from pylinker.linker import (
        RTLD_DEFAULT,
        RTLD_GLOBAL,
        RTLD_LAZY,
        RTLD_LOCAL,
        RTLD_NEXT,
        RTLD_NODELETE,
        RTLD_NOLOAD,
        RTLD_NOW,
        GuestThread,
        Limits,
        ModuleBytes,
        SymbolInfo,
    )
    from pylinker.runtime.memory import Memory
    from pylinker.runtime.progress import Compiling
    from pylinker.runtime.wasi import CAPTURE, DEVNULL

__all__ = [
    "CAPTURE",
    "CDLL",
    "DEVNULL",
    "RTLD_DEFAULT",
    "RTLD_GLOBAL",
    "RTLD_LAZY",
    "RTLD_LOCAL",
    "RTLD_NEXT",
    "RTLD_NODELETE",
    "RTLD_NOLOAD",
    "RTLD_NOW",
    "AlreadyRunError",
    "ClosedError",
    "Compiling",
    "Function",
    "GroupSummary",
    "GuestThread",
    "InitializationError",
    "InternalError",
    "Interrupted",
    "Library",
    "LibraryNotFoundError",
    "LimitError",
    "Limits",
    "LinkError",
    "Memory",
    "MemoryAccessError",
    "ModuleBytes",
    "ModuleSummary",
    "NotDynamicError",
    "Options",
    "ParseError",
    "Program",
    "Region",
    "RendezvousTimeout",
    "SignatureMismatchError",
    "StackSizeError",
    "Statistics",
    "SymbolInfo",
    "SymbolNotFoundError",
    "SynchronizationAborted",
    "TimeoutExpired",
    "UndefinedSymbol",
    "UndefinedSymbolError",
    "UnsupportedError",
    "Waits",
    "__version__",
    "debug",
]

_MODULES = {
    "pylinker.api.cdll": ("CDLL",),
    "pylinker.api.debug": ("debug",),
    "pylinker.api.function": ("Function",),
    "pylinker.api.library": ("Library",),
    "pylinker.api.options": ("Options",),
    "pylinker.api.program": ("ModuleSummary", "Program"),
    "pylinker.api.statistics": ("GroupSummary", "Region", "Statistics", "Waits"),
    "pylinker.linker": (
        "RTLD_DEFAULT",
        "RTLD_GLOBAL",
        "RTLD_LAZY",
        "RTLD_LOCAL",
        "RTLD_NEXT",
        "RTLD_NODELETE",
        "RTLD_NOLOAD",
        "RTLD_NOW",
        "GuestThread",
        "Limits",
        "ModuleBytes",
        "SymbolInfo",
    ),
    "pylinker.runtime.memory": ("Memory",),
    "pylinker.runtime.progress": ("Compiling",),
    "pylinker.runtime.wasi": ("CAPTURE", "DEVNULL"),
}
"""The names that are imported when the first of them is used, by the module that defines them."""
_LAZY = {name: module for module, names in _MODULES.items() for name in names}
_PACKAGES = frozenset({"api", "linker", "sync", "wasm"})

_importing = RLock()
"""Serialises the first import of these modules. A fork waits for it.

Otherwise a child would wait for ever for a module that a lost thread was importing. It is
recursive, since the import of a module may come back here. Lock order: before all other locks of
pylinker and that of ``logging``; a fork takes them in the reverse order of their registration.
"""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_importing.acquire,
        after_in_parent=_importing.release,
        after_in_child=_importing.release,
    )


def __getattr__(name: str) -> object:
    """Import the whole package when one of its names is first used."""
    if name not in _LAZY and name not in _PACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    with _importing:
        for lazy, module in _LAZY.items():
            globals()[lazy] = getattr(importlib.import_module(module), lazy)
        if name in _PACKAGES:
            return importlib.import_module(f"{__name__}.{name}")
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


logging.getLogger("pylinker").addHandler(logging.NullHandler())
if os.environ.get("PYLINKER_DEBUG"):
    importlib.import_module("pylinker.api.debug").debug_from_environment()
