"""Traps and errors of wasmtime, and the exceptions that cross guest code (``csrc/failure.h``)."""

from __future__ import annotations

import atexit
import itertools
from typing import TYPE_CHECKING

from pylinker.native.core import ffi, lib

if TYPE_CHECKING:
    from pylinker._core import (
        pl_error_p,
        pl_error_record_p,
        pl_failure_p,
        pl_outcome_p,
        pl_thread_p,
    )

__all__ = [
    "Failure",
    "check",
    "keep_pending",
    "moved",
    "new_failure",
    "pl_python_forget",
    "raised_errors",
    "replace_pending",
]


class Failure(Exception):  # noqa: N818 - internal: carries a trap or error to the public exception
    """wasmtime returned a trap or an error: one of ``trap`` and ``error`` is an address.

    With neither, the linker is cancelled and wasmtime was not called. Owns the ``pl_failure`` that
    it is made of (:func:`new_failure`).
    """

    def __init__(self, record: pl_failure_p) -> None:
        super().__init__()
        self._record = record

    def __str__(self) -> str:
        return (
            f"trap {self.trap:#x}"
            if self.trap
            else f"error {self.error:#x}"
            if self.error
            else "cancelled"
        )

    @property
    def trap(self) -> int:
        """The address of a ``wasm_trap_t``, or 0."""
        return int(ffi.cast("uintptr_t", self._record.trap))

    @property
    def error(self) -> int:
        """The address of a ``wasmtime_error_t``, or 0."""
        return int(ffi.cast("uintptr_t", self._record.error))

    @property
    def stopped(self) -> int:
        """The number of the call if it was stopped, else 0."""
        return int(self._record.stopped)

    def take_raised(self) -> BaseException | None:
        """Return the exception of the host function that made the guest trap, or None.

        To be called once: its traceback may hold the failure.
        """
        raised, self._record.raised = self._record.raised, 0
        return raised_errors.pop(raised, None)

    def disown(self) -> None:
        """Transfer ownership of trap and error to the caller."""
        self._record.trap = self._record.error = ffi.NULL


def new_failure() -> pl_failure_p:
    """Return an empty ``pl_failure`` that frees its trap and error."""
    return ffi.gc(ffi.new("pl_failure *"), lib.pl_failure_release)


def check(error: pl_error_p) -> None:
    """Raise a Failure that owns ``error``, a ``wasmtime_error_t *``, unless it is NULL."""
    if error != ffi.NULL:
        record = new_failure()
        record.error = error
        raise Failure(record)


def moved(owner: pl_outcome_p | pl_thread_p | pl_error_record_p) -> Failure:
    """Return the ``failure`` of a C structure, and transfer its ownership to the result."""
    record = new_failure()
    lib.pl_failure_move(record, ffi.addressof(owner, "failure"))
    return Failure(record)


raised_errors: dict[int, BaseException] = {}
"""Exceptions of host functions, by the number that C carries to the call that entered the guest."""
_raised_numbers = itertools.count(1)


def keep_pending(error: BaseException) -> None:
    """Keep a host function's exception for the call that entered the guest; the first counts."""
    if not lib.pl_raised():
        number = next(_raised_numbers)
        raised_errors[number] = error
        lib.pl_raise(number)


def replace_pending(error: BaseException) -> None:
    """Keep an exception that was raised during the handling of a failure, in place of the first.

    It may be that of a signal handler.
    """
    raised = lib.pl_raised()
    if raised:
        raised_errors[raised] = error
    else:
        keep_pending(error)


@ffi.def_extern()
def pl_python_forget(raised: int) -> None:
    """Drop the exception of a host function."""
    raised_errors.pop(raised, None)


lib.pl_failures_set(lib.pl_python_forget)
# Objects that are freed after the interpreter's end must not call it.
atexit.register(lib.pl_failures_set, ffi.NULL)
