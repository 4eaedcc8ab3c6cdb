"""Undefined symbols of the C and C++ libraries, and advice for them.

``libc_names.txt`` lists the names that wasi-libc defines, one a line. To generate it from the
archives of one or several toolchains::

    llvm-nm --defined-only --extern-only --format=just-symbols libc.a libm.a libcompiler_rt.a |
        grep -v -e ':$' -e '^$' -e '^_start$' -e 'main' | LC_ALL=C sort -u > pylinker/libc_names.txt

Names of the C++ library are recognised by their mangling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pylinker._system import SuppressSystemErrors

__all__ = ["advice", "library_of"]

C, CXX = "C library", "C++ library"

_CXX = re.compile(
    r"_Z(n[wa]|d[la]P)"  # operator new, operator delete
    r"|_Z(T[VTISv]?[hn0-9_]*|G[VR]|Z)?N?[KVRO]*S[tabsiod]"  # namespace std
    r"|_Z(T[VIS])?N[KVRO]*10__cxxabiv1"
    r"|_ZTI[a-z]|_ZTI[PK]+[a-z]$"  # type_info of fundamental types
    r"|__cxa_|__dynamic_cast$|__gxx_personality_|_Unwind_"
)
_SHOWN = 3


_known: frozenset[str] = frozenset()


def _names() -> frozenset[str]:
    """Return all names, read at the first call.

    The result is empty if the file cannot be read: advice is no reason for an error.
    """
    global _known  # noqa: PLW0603 - equal whichever thread reads it
    if not _known:
        with SuppressSystemErrors():
            _known = frozenset(
                Path(__file__).with_name("libc_names.txt").read_text(encoding="ascii").split()
            )
    return _known


def library_of(name: str) -> str | None:
    """Return the library that defines a symbol: ``"C library"``, ``"C++ library"`` or None."""
    if name in _names():
        return C
    return CXX if _CXX.match(name) else None


def advice(names: Iterable[str]) -> str:
    """Return advice for undefined symbols of the C and C++ libraries; empty if there are none."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        library = library_of(name)
        if library is not None:
            found.setdefault(library, []).append(name)
    parts = []
    for library, known in found.items():
        shown = ", ".join(known[:_SHOWN]) + (
            f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        )
        shared = "libc.so" if library == C else "libc++.so"
        parts.append(
            f"{shown} {'is' if len(known) == 1 else 'are'} of the {library}: preload a {shared}, "
            f"or link the main module with -Wl,--export={known[0]}"
        )
    return "; ".join(parts)
