"""Traps and errors of wasmtime: from addresses in the C core to exceptions of wasmtime-py."""

from __future__ import annotations

import wasmtime

from pylinker.errors import (
    InternalError,
    Interrupted,
    StackSizeError,
    SynchronizationAborted,
    TimeoutExpired,
)
from pylinker.native.failures import Failure
from pylinker.native.stack import STACK_REFUSAL
from pylinker.runtime.private import error_at, trap_at

__all__ = [
    "STOPS",
    "GuestExit",
    "ThreadExit",
    "exception_of",
    "has_trapped",
    "note_trap",
    "summary",
]

STOPS = (SynchronizationAborted, Interrupted, TimeoutExpired)
"""Exceptions that stop the guest: its request to the linker must not return an error number."""


class GuestExit(wasmtime.ExitTrap):
    """The guest called ``proc_exit``; ``code`` is its unsigned argument.

    wasmtime's own ``proc_exit`` refuses codes from 126 on; a process may exit with any.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"exited with status {code}")
        self.code = code


class ThreadExit(GuestExit):
    """The guest exited the calling thread.

    The exit of the first thread ends the program, with status 0.
    """

    def __init__(self) -> None:
        super().__init__(0)


def exception_of(failure: Failure) -> wasmtime.Trap | wasmtime.WasmtimeError | StackSizeError:
    """Return the exception for a failure.

    It is a ``Trap``, ``ExitTrap``, ``WasmtimeError`` or StackSizeError. The exception takes
    ownership of the failure's pointer.
    """
    if failure.trap:
        trap = failure.trap
        failure.disown()
        return trap_at(trap)
    if failure.error:
        error = failure.error
        failure.disown()
        refused = error_at(error)
        return StackSizeError(str(refused)) if str(refused).startswith(STACK_REFUSAL) else refused
    raise InternalError("a failure with neither trap nor error")


_TRAPPED = "_pylinker_trapped"


def note_trap(error: BaseException) -> None:
    """Mark an exception of a Python function that made a guest trap.

    Its ``__cause__`` may be set already, and stays.
    """
    vars(error)[_TRAPPED] = True


def has_trapped(error: BaseException) -> bool:
    """Whether a guest has trapped because of this exception."""
    return isinstance(error.__cause__, wasmtime.Trap) or _TRAPPED in vars(error)


def summary(error: BaseException) -> str:
    """Return the message of a trap or error in one line, without the backtrace before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if line == "Caused by:" and index + 1 < len(lines):
            return lines[-1].split(": ", 1)[1] if lines[-1][:1].isdigit() else lines[-1]
    return lines[0] if lines else type(error).__name__
