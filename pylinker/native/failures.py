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


class Failure(Exception):  # noqa: N818 - not an error a user meets: it carries one to where it can be named
    """wasmtime returned a trap or an error: one of ``trap`` and ``error`` is an address.

    Neither is: the linker is cancelled, and wasmtime was not asked. ``stopped`` is the number of
    the call if it was stopped, else 0. Owns the ``pl_failure`` it is made of (:func:`new_failure`).
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
        """Return what the host function raised that made the guest trap, or None.

        Once: its traceback may hold the failure.
        """
        raised, self._record.raised = self._record.raised, 0
        return raised_errors.pop(raised, None)

    def disown(self) -> None:
        """Leave trap and error to the caller."""
        self._record.trap = self._record.error = ffi.NULL


def new_failure() -> pl_failure_p:
    """Return an empty ``pl_failure`` that frees what it owns."""
    return ffi.gc(ffi.new("pl_failure *"), lib.pl_failure_release)


def check(error: pl_error_p) -> None:
    """Raise a Failure that owns ``error``, a ``wasmtime_error_t *``, unless it is NULL."""
    if error != ffi.NULL:
        record = new_failure()
        record.error = error
        raise Failure(record)


def moved(owner: pl_outcome_p | pl_thread_p | pl_error_record_p) -> Failure:
    """Return the ``failure`` of a C structure, which owns it no more."""
    record = new_failure()
    lib.pl_failure_move(record, ffi.addressof(owner, "failure"))
    return Failure(record)


raised_errors: dict[int, BaseException] = {}
"""What host functions raised, by the number that C carries to the call that entered the guest (``csrc/failure.h``)."""
_raised_numbers = itertools.count(1)


def keep_pending(error: BaseException) -> None:
    """Keep what a host function raised for the call that entered the guest; the first counts."""
    if not lib.pl_raised():
        number = next(_raised_numbers)
        raised_errors[number] = error
        lib.pl_raise(number)


def replace_pending(error: BaseException) -> None:
    """Keep what was raised while a failure was handled, such as a signal handler's exception: it counts from now on."""
    raised = lib.pl_raised()
    if raised:
        raised_errors[raised] = error
    else:
        keep_pending(error)


@ffi.def_extern()
def pl_python_forget(raised: int) -> None:
    """Drop what a host function raised."""
    raised_errors.pop(raised, None)


lib.pl_failures_set(lib.pl_python_forget)
atexit.register(
    lib.pl_failures_set, ffi.NULL
)  # what is freed after the interpreter's end calls it no more
