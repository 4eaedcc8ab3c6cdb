"""The linker: what is loaded, where it lies, and which definition each symbol means."""

from pylinker.linker import dlfcn, wasix_closures, wasix_libraries, wasix_threads  # noqa: F401 - which have functions for guests
from pylinker.linker.abi import (
    RTLD_DEFAULT,
    RTLD_GLOBAL,
    RTLD_LAZY,
    RTLD_LOCAL,
    RTLD_NEXT,
    RTLD_NODELETE,
    RTLD_NOLOAD,
    RTLD_NOW,
)
from pylinker.linker.deadline import Deadline, check_seconds
from pylinker.linker.imports import HostImports, Imports
from pylinker.linker.limits import Limits
from pylinker.linker.linker import Linker
from pylinker.linker.locator import Located, Locator
from pylinker.linker.module import Definition, LoadedModule
from pylinker.linker.plan import ModuleBytes, bytes_of, check_size, read_file, why_no_library
from pylinker.linker.start import MainFile, start
from pylinker.linker.survey import HOST, Category, Survey, survey
from pylinker.linker.symbols import SymbolInfo
from pylinker.linker.threads import GuestThread
from pylinker.linker.trace import UNTRACED, Tracer
from pylinker.linker.wasix import wants_threads

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
    "Linker",
    "LoadedModule",
    "Located",
    "Locator",
    "MainFile",
    "ModuleBytes",
    "Survey",
    "SymbolInfo",
    "Tracer",
    "bytes_of",
    "check_seconds",
    "check_size",
    "read_file",
    "start",
    "survey",
    "wants_threads",
    "why_no_library",
]
