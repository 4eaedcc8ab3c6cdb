"""Whether the C core may talk to the wasmtime that is installed.

Not its number decides but what it is: its declarations must be those the core was compiled for
(:mod:`pylinker.runtime.abi`), and it must do what the core relies on (:mod:`pylinker.runtime.probe`). The
result of the second is remembered in the cache directory, by version.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
import warnings
from pathlib import Path

from pylinker import _native
from pylinker._version import __version__
from pylinker.runtime.abi import differences
from pylinker.runtime.private import BINDINGS, DLL, address_of_function

__all__ = ["TESTED", "VERSION", "check", "check_behaviour"]

TESTED = 50
"""The newest major version of wasmtime that the whole suite has passed with."""

VERSION = importlib.metadata.version("wasmtime")


def check() -> None:
    """Connect the C core to wasmtime.

    Warns once if this wasmtime has a newer major version than any that was tested.

    Raises:
        ImportError: What it declares is not what the core was compiled for; the message says what.
    """
    problems = list(differences(BINDINGS, DLL))
    if problems:
        raise _refusal(problems)
    _native.load_api(address_of_function)
    major = VERSION.split(".", 1)[0]
    if major.isdigit() and int(major) > TESTED:
        warnings.warn(f"pylinker was tested with wasmtime up to {TESTED}; {VERSION} declares the same", RuntimeWarning, stacklevel=2)


def check_behaviour(directory: Path | None) -> None:
    """Try once whether wasmtime does what the core relies on, and remember in ``directory`` that it did.

    Args:
        directory: The cache directory; None remembers nothing.

    Raises:
        ImportError: It does not; the message says what.
    """
    mark = None if directory is None else directory / f"works-{_key()}"
    if mark is not None and _is_own(mark):
        return
    # What is not remembered is not imported either.
    from pylinker.runtime.probe import probe  # noqa: PLC0415

    problem = probe()
    if problem is not None:
        raise _refusal([problem])
    if mark is not None:
        _remember(mark)


def _key() -> str:
    library = getattr(DLL, "_name", None)
    try:
        status = os.stat(library) if library else None
    except OSError:
        status = None
    file = (status.st_size, status.st_mtime_ns) if status else None
    parts = (VERSION, __version__, sys.platform, platform.machine(), file)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _is_own(mark: Path) -> bool:
    """Whether the mark is there, and no other user can have made it."""
    try:
        status = os.lstat(mark)
    except OSError:
        return False
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def _remember(mark: Path) -> None:
    try:
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch(mode=0o600)
    except OSError:
        pass  # it is tried again the next time


def _refusal(problems: list[str]) -> ImportError:
    lines = "".join(f"\n  {each}" for each in problems)
    return ImportError(f"pylinker cannot use wasmtime {VERSION}:{lines}\ninstall another: pip install 'wasmtime>=44,<={TESTED}.*'")


check()
