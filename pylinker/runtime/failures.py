"""wasmtime's traps and errors, from the addresses the C core hands out to the exceptions of wasmtime-py."""

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
"""What a guest's request to the linker must not turn into an error number: the guest is to stop."""


class GuestExit(wasmtime.ExitTrap):
    """The guest called ``proc_exit``; ``code`` is what it passed, unsigned.

    wasmtime's own ``proc_exit`` refuses codes from 126 on; a process may exit with any.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"exited with status {code}")
        self.code = code


class ThreadExit(GuestExit):
    """The guest ended the calling thread.

    Of the first thread, that is the end of the program, with status 0.
    """

    def __init__(self) -> None:
        super().__init__(0)


def exception_of(failure: Failure) -> wasmtime.Trap | wasmtime.WasmtimeError | StackSizeError:
    """Return the exception for a failure and take over its pointer: ``Trap``, ``ExitTrap``, ``WasmtimeError`` or StackSizeError."""
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
    """Note that a guest has trapped for what a Python function raised; the error may have a cause of its own, which stays."""
    vars(error)[_TRAPPED] = True


def has_trapped(error: BaseException) -> bool:
    """Whether a guest has trapped for this error."""
    return isinstance(error.__cause__, wasmtime.Trap) or _TRAPPED in vars(error)


def summary(error: BaseException) -> str:
    """Return what a trap or error is about in one line, without the backtrace that wasmtime puts in front."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if line == "Caused by:" and index + 1 < len(lines):
            return lines[-1].split(": ", 1)[1] if lines[-1][:1].isdigit() else lines[-1]
    return lines[0] if lines else type(error).__name__
