"""Functions of a library in one group, ready to be called from Python (``csrc/prepared.h``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pylinker.errors import InternalError
from pylinker.native.core import ffi, lib
from pylinker.native.enums import OK, PreparedKind
from pylinker.native.failures import Failure, moved, new_failure
from pylinker.native.instances import Instances
from pylinker.native.libraries import Library
from pylinker.native.objects import Func, Values
from pylinker.native.recursive import RecursiveMutex

__all__ = [
    "PREPARED_LIMIT",
    "PREPARED_LIMIT_DOUBLE",
    "Outcome",
    "PreparedCall",
    "forget_outcomes",
    "prepared_call",
    "take_outcome",
]

PREPARED_LIMIT: int = lib.pl_prepared_limit()
"""Pass a result of a prepared call below this to :func:`take_outcome`."""
PREPARED_LIMIT_DOUBLE: float = lib.pl_prepared_limit_double()
"""The same of a call that returns a double."""


_INTEGERS = frozenset({PreparedKind.I32, PreparedKind.I64})
_DOUBLES = frozenset({PreparedKind.F32, PreparedKind.F64})
_INTEGER_CALLS: Sequence[Callable[..., int]] = tuple(
    getattr(lib, f"pl_prepared_call{count}") for count in range(7)
)
_DOUBLE_CALLS: Sequence[Callable[..., float] | None] = (
    None,
    lib.pl_prepared_double1,
    lib.pl_prepared_double2,
    lib.pl_prepared_double3,
)


class PreparedCall:
    """A function of a library in one group, ready to be called (``csrc/prepared.h``).

    ``call`` is the C function for its type, or None where only :meth:`raw` can call it; its first
    argument is ``record``. ``shared`` is the linker's, also once it is closed.
    """

    __slots__ = ("__weakref__", "_kept", "call", "record", "shared")

    def __init__(
        self,
        instances: Instances,
        library: Library,
        func: Func,
        params: Sequence[PreparedKind],
        results: Sequence[PreparedKind],
        main_lock: RecursiveMutex | None,
    ) -> None:
        self.record = ffi.new("pl_prepared *")
        self.record.open = 1
        self.record.main_lock = main_lock.pointer if main_lock is not None else ffi.NULL
        self.record.instances = instances.pointer
        self.record.group = instances.member.pointer
        self.record.library = library.pointer
        self.record.serial = lib.pl_instances_serial(instances.pointer, library.pointer)
        self.record.func = func[0]
        self.record.count = max(len(params), len(results))
        result = results[0] if results else PreparedKind.NONE
        self.record.result = result
        self.call = prepared_call(params, results)
        if self.call is not None:
            self.record.params[0 : len(params)] = params
        self.shared = instances.member.shared
        self._kept: tuple[object, ...] = (instances, library, main_lock)

    @property
    def is_open(self) -> bool:
        """Whether it may be called."""
        return bool(self.record.open)

    def close(self) -> None:
        """Let nobody in any more, and let go of the group.

        The caller has the main lock, or is the group's thread.
        """
        lib.pl_prepared_close(self.record)
        self._kept = self._kept[2:]  # the main lock stays: who comes late still asks for it

    def raw(self, raw: Values) -> Outcome:
        """Call with raw values."""
        failure = new_failure()
        status = lib.pl_prepared_raw(self.record, raw, failure)
        return Outcome(status, 0, Failure(failure) if status else None, None)


def prepared_call(
    params: Sequence[PreparedKind], results: Sequence[PreparedKind]
) -> Callable[..., Any] | None:
    """Return the C function that calls functions of this type with plain numbers, or None if there is none."""
    if len(results) > 1:
        return None
    used = {*params, *results}
    if used <= _INTEGERS and len(params) < len(_INTEGER_CALLS):
        return _INTEGER_CALLS[len(params)]
    if results and used <= _DOUBLES and 0 < len(params) < len(_DOUBLE_CALLS):
        return _DOUBLE_CALLS[len(params)]
    return None


class Outcome(NamedTuple):
    """The outcome of one prepared call: status, which argument was out of range (from 0), what failed, and the result if all is OK."""

    status: int
    argument: int
    failure: Failure | None
    result: float | None


def take_outcome(result: Any) -> Outcome:
    """Return what the calling thread's call came to that returned ``result``, which is below the limit. Once."""
    outcome = ffi.gc(ffi.new("pl_outcome *"), lib.pl_outcome_release)
    take = lib.pl_prepared_take_double if isinstance(result, float) else lib.pl_prepared_take
    if not take(result, outcome):
        if result == -math.inf:
            return Outcome(OK, 0, None, result)
        raise InternalError("what a call came to was dropped before it was read")
    if outcome.status == OK:
        return Outcome(
            OK, 0, None, outcome.value.f64 if isinstance(result, float) else outcome.value.i64
        )
    return Outcome(outcome.status, outcome.argument, moved(outcome), None)


def forget_outcomes() -> None:
    """Drop what calls of the calling frame came to, and calls of frames that have ended: their readers were interrupted."""
    lib.pl_prepared_forget()
