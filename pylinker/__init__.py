"""pylinker, a dynamic linker for WebAssembly: what ``ld.so`` is to native programs.

    program = pylinker.Program("app.wasm", library_path=["lib"])
    status = program.run()

    foo = pylinker.CDLL("libfoo.so", library_path=["lib"])
    foo.add(1, 2)

``docs/linking.md`` tells how it works.
"""

import logging

from pylinker._version import __version__
from pylinker.api.cdll import CDLL
from pylinker.api.debug import debug
from pylinker.api.debug import debug_from_environment as _debug_from_environment
from pylinker.api.function import Function
from pylinker.api.library import Library
from pylinker.api.options import Options
from pylinker.api.program import ModuleSummary, Program
from pylinker.api.statistics import GroupSummary, Region, Statistics, Waits
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
from pylinker.runtime import compat as _compat  # noqa: F401 - first: refuses a wasmtime that the core cannot use
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

logging.getLogger("pylinker").addHandler(logging.NullHandler())
_debug_from_environment()
