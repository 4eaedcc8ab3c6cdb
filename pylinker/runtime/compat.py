"""Check that the C core can use the installed wasmtime.

The criterion is not the version number: the declarations must be those that the core was compiled
for (:mod:`pylinker.runtime.abi`), and the behaviour must be that which the core relies on
(:mod:`pylinker.runtime.probe`). Both are checked when pylinker is imported. The first check takes
half a millisecond; success of the second is recorded in the cache directory, by version.
"""

from __future__ import annotations

import os
import platform
import stat
import sys
import warnings
from pathlib import Path

from pylinker._system import SuppressSystemErrors, check_errno
from pylinker._version import __version__
from pylinker.native.api import load_api
from pylinker.native.core import core_file
from pylinker.runtime.abi import differences
from pylinker.runtime.directory import cache_directory
from pylinker.runtime.private import BINDINGS, DLL, address_of_function, version

__all__ = ["NEWEST", "OLDEST", "VERSION", "check", "check_behaviour"]

OLDEST = 45
"""The oldest major version of wasmtime that passes the tests; pylinker's package requires it."""
NEWEST = 50
"""The newest major version of wasmtime that the tests have been run with."""
VERSION = version()

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


def check() -> None:
    """Connect the C core to wasmtime.

    Raises:
        ImportError: wasmtime's declarations are not those that the core was compiled for; the
            message lists the differences.
    """
    problems = list(differences(BINDINGS, DLL))
    if problems:
        raise _refusal(problems)
    load_api(address_of_function)


def check_behaviour(directory: Path | None) -> None:
    """Check once whether wasmtime behaves as the core relies on, and record success.

    Starts no thread and installs no signal handler. A directory that cannot be used is ignored.

    Args:
        directory: The cache directory for the record, or None.

    Raises:
        ImportError: It does not; the message names the difference.
    """
    mark = None if directory is None else directory / f"works-{_key()}"
    if mark is not None and _is_own(mark):
        return
    # Not imported if the check was recorded.
    from pylinker.runtime.probe import probe  # noqa: PLC0415

    try:
        problem = probe()
    except Exception as error:
        raise _refusal([f"{type(error).__name__}: {' '.join(str(error).split())}"]) from error
    if problem is not None:
        raise _refusal([problem])
    if mark is not None:
        _remember(mark)


def _warn_if_newer(version: str) -> None:
    """Warn if the major version of wasmtime is higher than any that was tested."""
    major = version.split(".", 1)[0]
    if major.isdecimal() and int(major) > NEWEST:
        text = (
            f"pylinker was tested with wasmtime up to {NEWEST}; "
            f"the parts of {version} that it uses have the same declarations and behaviour"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=_levels_to_importer() + 1)


def _levels_to_importer() -> int:
    """Return the number of frames from the caller to the importer of pylinker.

    Frames of importlib are not counted, as in ``warnings``.
    """
    package = os.path.dirname(os.path.dirname(__file__)) + os.sep
    frame, level = sys._getframe(1), 0
    while (above := frame.f_back) is not None:
        frame = above
        name = frame.f_code.co_filename
        if "importlib" in name and "_bootstrap" in name:
            continue
        level += 1
        if not name.startswith(package):
            return level
    return 1


def _key() -> str:
    """Return an identification of wasmtime, pylinker and the kind of machine."""
    states = [
        number
        for file in (getattr(DLL, "_name", None), core_file())
        for number in _state(file) or (0,)
    ]
    return "-".join(map(str, (VERSION, __version__, sys.platform, platform.machine(), *states)))


def _state(file: str | None) -> tuple[int, int] | None:
    if file:
        with SuppressSystemErrors():
            status = os.stat(file)
            return status.st_size, status.st_mtime_ns
    return None


def _is_own(mark: Path) -> bool:
    """Whether the record exists and belongs to this user."""
    try:
        status = os.lstat(mark)
    except (OSError, ValueError) as error:
        check_errno(error)
        return False
    return stat.S_ISREG(status.st_mode) and (
        not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    )


def _remember(mark: Path) -> None:
    try:
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(mark, _NEW, 0o600))
    except (OSError, ValueError) as error:
        check_errno(error)  # the check is repeated the next time


def _refusal(problems: list[str]) -> ImportError:
    lines = "".join(f"\n  {each}" for each in problems)
    return ImportError(
        f"pylinker cannot use wasmtime {VERSION}:{lines}\n"
        f"Install another: pip install 'wasmtime>={OLDEST},<{NEWEST + 1}'"
    )


check()
check_behaviour(cache_directory())
_warn_if_newer(VERSION)
