"""Python functions that guests call with plain numbers (``csrc/callback.h``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from pylinker.native.core import ffi, lib
from pylinker.native.enums import CallbackFailure, CallbackForm, CallbackResult
from pylinker.native.failures import keep_pending, raised_errors, replace_pending
from pylinker.native.hostfuncs import write_message

if TYPE_CHECKING:
    from pylinker._core import Pointer

__all__ = [
    "CALLBACK_FAILED",
    "CALLBACK_FAILED_DOUBLE",
    "Explain",
    "callback_type",
    "confirm_result",
    "install_callbacks",
    "keep_callback_error",
]

CALLBACK_FAILED: int = lib.pl_callback_failed()
"""The result of an integer callback that stands for a failure.

A callback whose genuine result is this number calls :func:`confirm_result` before it returns.
"""
CALLBACK_FAILED_DOUBLE: float = lib.pl_callback_failed_double()
"""The same for callbacks that return a double."""


Explain: TypeAlias = Callable[
    [int, CallbackFailure, float, BaseException | None], BaseException | None
]
"""Gets the handle, the failure, the result and the exception; returns the exception to raise."""


def callback_type(
    form: CallbackForm, count: int, result: CallbackResult, wide: Iterable[int]
) -> int:
    """Return a type as ``csrc/callback.h`` encodes it.

    Args:
        form: The calling convention.
        count: Number of parameters.
        result: Kind of the result.
        wide: Indices of the parameters of 64 bits.
    """
    return form + 16 * count + 256 * result + sum(1 << 16 + index for index in wide)


def confirm_result() -> None:
    """Mark the next result of the calling thread's callback as genuine.

    It may then equal the number that stands for a failure.
    """
    lib.pl_callback_set_genuine(1)


def keep_callback_error(error: BaseException) -> None:
    """Keep the exception of a callback, which then returns the number that stands for a failure."""
    lib.pl_callback_set_genuine(0)
    keep_pending(error)


def _keep_foreign_error(
    _kind: object, error: BaseException | None, traceback: TracebackType | None
) -> None:
    """Keep an exception from outside a callback's own ``try``, or from cffi about its result.

    The latter has no traceback.
    """
    lib.pl_callback_set_genuine(0)
    if error is not None:
        replace_pending(error.with_traceback(traceback))


def install_callbacks(
    *,
    integers: Mapping[CallbackResult, Sequence[Callable[..., Any]]],
    doubles: Sequence[Callable[..., Any]],
    explain: Explain,
) -> None:
    """Set the functions that the core calls for callbacks. Once.

    Args:
        integers: For each kind of result, functions of a handle and 0, 1, 2, ... integers.
        doubles: Functions of a handle and 1, 2, ... doubles.
        explain: Makes the exception for a failed callback.
    """
    table = ffi.new("pl_callbacks *")

    def define(name: str, function: Callable[..., Any], failed: float | None) -> Any:
        ffi.def_extern(name=name, error=failed, onerror=_keep_foreign_error)(function)
        return getattr(lib, name)

    names = {
        CallbackResult.NONE: "nothing",
        CallbackResult.NARROW: "i32x",
        CallbackResult.WIDE: "i64x",
    }
    for result, row in integers.items():
        for count, function in enumerate(row):
            getattr(table, f"integers{count}")[result] = define(
                f"pl_python_{names[result]}{count}", function, CALLBACK_FAILED
            )
    for count, function in enumerate(doubles, 1):
        setattr(
            table,
            f"double{count}",
            define(f"pl_python_double{count}", function, CALLBACK_FAILED_DOUBLE),
        )

    def explained(
        handle: int,
        failure: int,
        integer: int,
        number: float,
        message: Pointer[bytes],
        capacity: int,
    ) -> None:
        kind = CallbackFailure(failure)
        value = number if kind is CallbackFailure.TOO_LARGE else integer
        error = explain(handle, kind, value, raised_errors.get(lib.pl_raised()))
        if error is not None:
            replace_pending(error)
            write_message(error, message, capacity)

    table.explain = define("pl_python_explain", explained, None)
    lib.pl_callbacks_set(table)
