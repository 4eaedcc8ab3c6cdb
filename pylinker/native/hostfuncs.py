"""Python functions that guests call with raw values (``csrc/hostfn.h``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from pylinker.errors import InternalError
from pylinker.native.core import ffi
from pylinker.native.failures import keep_pending, replace_pending
from pylinker.native.objects import Values

if TYPE_CHECKING:
    from pylinker._core import Pointer

__all__ = [
    "host_function_count",
    "keep_host_error",
    "new_handle",
    "pl_python_host",
    "register_host",
    "release_host",
    "write_message",
]

_host_functions: dict[int, Callable[[Values], None]] = {}
_host_handles = itertools.count(1)


def new_handle() -> int:
    """Return an unused handle for a host function."""
    return next(_host_handles)


def register_host(function: Callable[[Values], None], handle: int = 0) -> int:
    """Register a Python function that guests can call with raw values (arguments in, results out).

    An exception becomes a trap, and is raised by the call that entered the guest
    (:meth:`Failure.take_raised`). Release it after the last use; a later call traps.

    Args:
        function: The function.
        handle: A handle made by :func:`new_handle`, or 0 for a new one.

    Returns:
        The handle.
    """
    handle = handle or new_handle()
    _host_functions[handle] = function
    return handle


def host_function_count() -> int:
    """Return the number of registered Python functions, of all programs."""
    return len(_host_functions)


def release_host(handle: int) -> None:
    """Unregister a host function."""
    _host_functions.pop(handle, None)


def keep_host_error(_kind: object, error: BaseException | None, _traceback: object) -> int:
    """Keep an exception from outside the callback's own ``try``: that of a signal handler."""
    if error is not None:
        replace_pending(error)
    return -1


def write_message(error: BaseException, message: Pointer[bytes], capacity: int) -> None:
    """Write the message of a trap into a C array."""
    text = str(error).encode("utf-8", "replace")[: capacity - 1]
    ffi.memmove(message, text + b"\0", len(text) + 1)


@ffi.def_extern(error=-1, onerror=keep_host_error)
def pl_python_host(
    handle: int,
    raw: Values,
    count: int,  # noqa: ARG001
    message: Pointer[bytes],
    capacity: int,
) -> int:
    """Call the Python function of a handle; an exception is kept and becomes a trap's message."""
    try:
        _host_functions[handle](raw)
    except BaseException as error:  # noqa: BLE001 - raised again by the call that entered the guest
        if isinstance(error, KeyError) and handle not in _host_functions:
            error = InternalError("a freed host function was called")
        keep_pending(error)
        write_message(error, message, capacity)
        return 1
    return 0
