"""Which wasmtime this is, and whether the C core may talk to it.

The core passes wasmtime's structures by value, so it must agree with them to the byte. Only versions that were tested are
accepted, and the sizes are compared on top: a wrong guess here would be memory corruption, not an exception.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import itertools

from wasmtime import _bindings, _ffi

from pylinker import _native

__all__ = ["MAXIMUM", "MINIMUM", "VERSION", "check", "version_error"]

MINIMUM = (50, 0, 1)
"""The oldest wasmtime-py that is tested."""
MAXIMUM = (51,)
"""The first wasmtime-py that is not."""

VERSION = importlib.metadata.version("wasmtime")


def version_error(version: str) -> str | None:
    """Return why this version of wasmtime-py is refused, or None."""
    numbers = tuple(int("".join(itertools.takewhile(str.isdigit, part)) or 0) for part in version.split("+", maxsplit=1)[0].split(".")[:3])
    if MINIMUM <= numbers < MAXIMUM:
        return None
    low, high = (".".join(map(str, bound)) for bound in (MINIMUM, MAXIMUM))
    return f"pylinker is tested with wasmtime >= {low}, < {high}, but {version} is installed: pip install 'wasmtime>={low},<{high}'"


def _layout_error() -> str | None:
    for name, size in _native.sizes().items():
        theirs = ctypes.sizeof(getattr(_bindings, name))
        if theirs != size:
            return f"wasmtime {VERSION}: {name} has {theirs} bytes, pylinker was built for {size}"
    return None


def check() -> None:
    """Connect the C core to wasmtime; raises ImportError if this wasmtime is not one that was tested."""
    problem = version_error(VERSION) or _layout_error()
    if problem:
        raise ImportError(problem)

    def address_of(name: str) -> int:
        try:
            return ctypes.cast(getattr(_ffi.dll, name), ctypes.c_void_p).value or 0
        except AttributeError:
            raise ImportError(f"wasmtime {VERSION} has no function {name}") from None

    _native.load_api(address_of)


check()
