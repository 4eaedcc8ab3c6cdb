"""Numbers and names that guests and the linker share."""

from __future__ import annotations

from typing import Final

__all__ = [
    "EXIT",
    "MODES",
    "RTLD_DEFAULT",
    "RTLD_GLOBAL",
    "RTLD_LAZY",
    "RTLD_LOCAL",
    "RTLD_NEXT",
    "RTLD_NODELETE",
    "RTLD_NOLOAD",
    "RTLD_NOW",
    "THREAD_EXITS",
]

# The values of wasi-libc's <dlfcn.h>. They are those of musl, except for RTLD_LOCAL, which is 0
# there. A mode without RTLD_GLOBAL is local.
RTLD_LAZY: Final = 1
RTLD_NOW: Final = 2
RTLD_NOLOAD: Final = 4
RTLD_LOCAL: Final = 8
RTLD_GLOBAL: Final = 256
RTLD_NODELETE: Final = 4096
RTLD_DEFAULT: Final = 0
RTLD_NEXT: Final = -1

MODES: Final = RTLD_LAZY | RTLD_NOW | RTLD_NOLOAD | RTLD_LOCAL | RTLD_GLOBAL | RTLD_NODELETE

EXIT: Final = "pylinker.exit"
"""The function that the program's own list of destructors calls for those of libraries.

It is not the name of a symbol.
"""

THREAD_EXITS: Final = "pylinker.thread_exits"
"""The function that a guest's own list of thread destructors calls for those of libraries.

It is not the name of a symbol.
"""
