"""The linker: what is loaded, where it lies, and which definition each symbol means."""

from pylinker.linker import calls  # noqa: F401 - makes the table of functions for guests complete
from pylinker.linker.debug.trace import UNTRACED, Tracer
from pylinker.linker.groups.threads import GuestThread
from pylinker.linker.guests.abi import (
    RTLD_DEFAULT,
    RTLD_GLOBAL,
    RTLD_LAZY,
    RTLD_LOCAL,
    RTLD_NEXT,
    RTLD_NODELETE,
    RTLD_NOLOAD,
    RTLD_NOW,
)
from pylinker.linker.guests.wasix import starts_threads
from pylinker.linker.limits import Limits
from pylinker.linker.load.deadline import Deadline, check_seconds
from pylinker.linker.load.linker import Linker
from pylinker.linker.load.start import MainFile, start
from pylinker.linker.load.symbols import SymbolInfo
from pylinker.linker.modules.locator import Located, Locator
from pylinker.linker.modules.module import Definition, LoadedModule
from pylinker.linker.modules.scope import ScopeSnapshot
from pylinker.linker.plan.files import ModuleBytes, bytes_of, check_size, read_file, why_no_library
from pylinker.linker.plan.imports import HostImports, Imports
from pylinker.linker.plan.link_check import HOST, Category, LinkReport, check_links

__all__ = [
    "HOST",
    "RTLD_DEFAULT",
    "RTLD_GLOBAL",
    "RTLD_LAZY",
    "RTLD_LOCAL",
    "RTLD_NEXT",
    "RTLD_NODELETE",
    "RTLD_NOLOAD",
    "RTLD_NOW",
    "UNTRACED",
    "Category",
    "Deadline",
    "Definition",
    "GuestThread",
    "HostImports",
    "Imports",
    "Limits",
    "LinkReport",
    "Linker",
    "LoadedModule",
    "Located",
    "Locator",
    "MainFile",
    "ModuleBytes",
    "ScopeSnapshot",
    "SymbolInfo",
    "Tracer",
    "bytes_of",
    "check_links",
    "check_seconds",
    "check_size",
    "read_file",
    "start",
    "starts_threads",
    "why_no_library",
]
