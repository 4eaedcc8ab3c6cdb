"""The seam between Python and the C core: the only module that imports the compiled ``pylinker._core``.

Everything that crosses is checked here for kind and range; wasmtime's objects travel as plain addresses (``int``). A function
raises :class:`Failure` when wasmtime hands back a trap or an error; who owns wasmtime's Python side turns it into the exception a
user knows (:mod:`pylinker.runtime.failures`).

Threads: a call takes as long as the guest runs and releases the GIL; the store behind ``context`` belongs to the calling thread
for the duration.
"""

from __future__ import annotations

import array
import atexit
import enum
import errno
import itertools
import math
import os
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, TypeAlias, TypeVar

from pylinker.errors import InternalError, LinkError

try:
    from pylinker._core import ffi, lib
except ModuleNotFoundError as error:
    raise ImportError(
        f"the C core of pylinker is not built in {os.path.dirname(__file__)}, a source folder: "
        "run `pip install -e .` in the folder above it, or leave that folder to use an installed pylinker"
    ) from error

__all__ = [
    "ACQUIRE",
    "ACQUIRED",
    "BLOCK_OWN",
    "BOUND_LIMIT",
    "BOUND_LIMIT_DOUBLE",
    "BUSY",
    "CALLBACK_DOUBLES",
    "CALLBACK_FAILED",
    "CALLBACK_FAILED_DOUBLE",
    "CALLBACK_INTEGERS",
    "CANCELLED",
    "CAUSE_BUS",
    "CAUSE_CLOSED",
    "CAUSE_FORKED",
    "CAUSE_INTERRUPTED",
    "CAUSE_LEADER",
    "CAUSE_REPLAY",
    "CAUSE_STOPPED",
    "CLOSED",
    "DEAD",
    "ELSEWHERE",
    "EXTERN_FUNC",
    "EXTERN_GLOBAL",
    "EXTERN_MEMORY",
    "EXTERN_SHARED_MEMORY",
    "EXTERN_TABLE",
    "EXTERN_TAG",
    "FORKED",
    "INTERRUPTED",
    "MAIN_THREAD",
    "NOT_EQUAL",
    "NULL",
    "OK",
    "PARKED",
    "POISONED",
    "RANGE",
    "RELAXED",
    "RUNNING",
    "SEQ_CST",
    "SOURCE",
    "STACK_GUEST",
    "STACK_REFUSAL",
    "STACK_THREAD",
    "TAKEN",
    "TIMEOUT",
    "TRAP_CODES",
    "WAIT_CANCELLED",
    "WASI_CLOCK",
    "WASI_CLOSE",
    "WASI_NAME",
    "WASI_OPEN",
    "WASI_PLAIN",
    "WASI_POLL",
    "WASI_READ",
    "WASI_RENUMBER",
    "WASI_RESOLUTION",
    "WASI_TIMES",
    "WASI_WRITE",
    "WASI_YIELD",
    "WOKEN",
    "Atomics",
    "Backoff",
    "Birth",
    "Bound",
    "BoundKind",
    "Builtin",
    "CallbackForm",
    "CallbackResult",
    "CallbackTrouble",
    "Context",
    "Extern",
    "Failure",
    "Finalized",
    "Func",
    "Hold",
    "Instance",
    "Instances",
    "Library",
    "Log",
    "Member",
    "Names",
    "NativeThread",
    "Operation",
    "Outcome",
    "Participant",
    "Scope",
    "Shared",
    "Signature",
    "Source",
    "Stage",
    "Store",
    "Taken",
    "Trace",
    "TraceKind",
    "Trouble",
    "Turn",
    "Values",
    "WasiProcess",
    "api_shapes",
    "bound_call",
    "c_text",
    "callback_type",
    "check_stack",
    "completed",
    "context_at",
    "core_file",
    "current_member",
    "enter_thread",
    "epoch_bump",
    "epoch_tick",
    "export",
    "extern_of_shared_memory",
    "forget_outcomes",
    "func_of",
    "give_birth",
    "global_get",
    "global_new",
    "global_set",
    "has_room_for_thread",
    "host_function_count",
    "ignore_epoch",
    "imports_of",
    "install_callbacks",
    "instantiate",
    "is_error_of_guest",
    "keep_of_callback",
    "layout",
    "load_api",
    "mean_result",
    "memory_buffer",
    "memory_grow",
    "memory_new",
    "memory_size",
    "new_cell",
    "new_handle",
    "pack_source",
    "probe",
    "probe_text",
    "register_host",
    "release_host",
    "same_function",
    "set_types",
    "table_get",
    "table_grow",
    "table_new",
    "table_set",
    "table_size",
    "take_outcome",
    "thread_identity",
    "u32s",
    "values",
    "watch",
]

# What cffi hands out. The names are for the reader: cffi has one type for all of them.
Context: TypeAlias = Any
Instance: TypeAlias = Any
Extern: TypeAlias = Any
Func: TypeAlias = Any
Values: TypeAlias = Any
Imports: TypeAlias = Any

EXTERN_FUNC: int = lib.PL_EXTERN_FUNC
EXTERN_GLOBAL: int = lib.PL_EXTERN_GLOBAL
EXTERN_TABLE: int = lib.PL_EXTERN_TABLE
EXTERN_MEMORY: int = lib.PL_EXTERN_MEMORY
EXTERN_SHARED_MEMORY: int = lib.PL_EXTERN_SHARED_MEMORY
EXTERN_TAG: int = lib.PL_EXTERN_TAG

_U32 = 1 << 32

_T = TypeVar("_T")

if TYPE_CHECKING:

    class Scope:
        """A context manager that no exception keeps from leaving (``csrc/python/scope.h``). A subclass has ``enter`` and ``leave``.

        ``leave(exception or None)`` is called at the end of the block, and if ``enter`` raises: again, until it returns. So it looks for
        what remains. One object for each block.
        """

        def enter(self) -> Any:
            """Begin; what it returns is what ``with`` gives."""

        def leave(self, error: BaseException | None, /) -> None:
            """End, or undo what of ``enter`` was done."""

        def __enter__(self) -> Any: ...

        def __exit__(self, kind: object, value: object, traceback: object, /) -> None: ...

    class Finalized:
        """Calls ``_drop`` when it is dropped, again if an exception interrupts it, until it returns (``csrc/python/scope.h``).

        So it does what remains: the object may not even be initialised.
        """

        def _drop(self) -> None:
            """Release what the object has."""

    def completed(function: Callable[..., _T], /, *arguments: Any) -> _T:
        """Call a function, and again if an exception interrupts it, until it returns; the first exception is raised then.

        So it must come to the same end if it is called again after any of its steps. A LinkError or InternalError is raised at once.
        """

else:
    _python: dict[str, Any] = {}
    if lib.pl_python_install(ffi.cast("uintptr_t", id(_python))):
        raise ImportError("the C core of pylinker cannot make its types")
    Scope, Finalized, completed = _python["Scope"], _python["Finalized"], _python["completed"]
    _python["set_final"]((LinkError, InternalError))


class Failure(Exception):  # noqa: N818 - not an error a user meets: it carries one to where it can be named
    """wasmtime returned a trap or an error: one of ``trap`` and ``error`` is an address.

    Neither is: the linker is cancelled, and wasmtime was not asked. ``stopped`` is the number of the call if it was stopped, else 0.
    Owns the ``pl_failure`` it is made of (:func:`new_failure`).
    """

    def __init__(self, record: Any) -> None:
        super().__init__()
        self._record = record

    def __str__(self) -> str:
        return f"trap {self.trap:#x}" if self.trap else f"error {self.error:#x}" if self.error else "cancelled"

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
        """Return what the host function raised that made the guest trap, or None. Once: its traceback may hold the failure."""
        raised, self._record.raised = self._record.raised, 0
        return _raised.pop(raised, None)

    def disown(self) -> None:
        """Leave trap and error to the caller."""
        self._record.trap = self._record.error = ffi.NULL


def new_failure() -> Any:
    """Return an empty ``pl_failure`` that frees what it owns."""
    return ffi.gc(ffi.new("pl_failure *"), lib.pl_failure_release)


def load_api(address_of: Callable[[str], int]) -> None:
    """Fill the core's table of wasmtime functions; ``address_of`` answers the address of a C function by name, or raises."""
    for index, (name, _) in enumerate(api_shapes()):
        lib.pl_api_set(index, ffi.cast("void *", address_of(name)))
    missing = lib.pl_api_missing()
    if missing != ffi.NULL:
        raise InternalError(f"no address for {ffi.string(missing).decode()}")


def api_shapes() -> Iterator[tuple[str, str]]:
    """Iterate over the functions of wasmtime that the core calls: their names and shapes (``pl_api_shape``)."""
    for index in itertools.count():
        name = lib.pl_api_name(index)
        if name == ffi.NULL:
            return
        yield ffi.string(name).decode(), ffi.string(lib.pl_api_shape(index)).decode()


def core_file() -> str | None:
    """Return the file of the compiled core."""
    return getattr(sys.modules["pylinker._core"], "__file__", None)


TRAP_CODES: Mapping[str, int] = {
    "MEMORY_OUT_OF_BOUNDS": lib.PL_TRAP_OUT_OF_BOUNDS,
    "HEAP_MISALIGNED": lib.PL_TRAP_UNALIGNED,
    "ATOMIC_WAIT_NON_SHARED_MEMORY": lib.PL_TRAP_NOT_SHARED,
}
"""The traps that the core makes, by wasmtime's names without their prefix."""


def layout(name: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """Return the size of a structure of the core, and offset and size of each of its fields, in bytes."""
    kind = ffi.typeof(name)
    return ffi.sizeof(kind), {field: (each.offset, ffi.sizeof(each.type)) for field, each in kind.fields}


def probe_text() -> str:
    """Return the text of the module that :func:`probe` runs."""
    return str(ffi.string(lib.pl_probe_text()).decode())


def probe(engine: int, module: int, shared: int, *, function: int, cell: int, table: int, tag: int, memory: int) -> str | None:
    """Try each kind of object of wasmtime once (``csrc/probe.h``); all arguments are addresses. Returns what differs, or None."""
    types = {"function": function, "cell": cell, "table": table, "tag": tag, "memory": memory}
    record = ffi.new("pl_probe_types *", {name: ffi.cast("pl_type *", address) for name, address in types.items()})
    problem = lib.pl_probe(ffi.cast("pl_engine *", engine), ffi.cast("pl_module *", module), ffi.cast("pl_shared_memory *", shared), record)
    return None if problem == ffi.NULL else str(ffi.string(problem).decode())


def is_error_of_guest(error: int) -> bool:
    """Whether an error, by its address, came up in guest code or in a host function that it called."""
    return bool(lib.pl_error_is_of_guest(ffi.cast("pl_error *", error)))


def context_at(address: int) -> Context:
    """Return the store context at ``address`` (a ``wasmtime_context_t *``)."""
    return ffi.cast("pl_context *", address)


def _check(error: Any) -> None:
    if error != ffi.NULL:
        record = new_failure()
        record.error = error
        raise Failure(record)


def _moved(owner: Any) -> Failure:
    """Return the ``failure`` of a C structure, which owns it no more."""
    record = new_failure()
    lib.pl_failure_move(record, ffi.addressof(owner, "failure"))
    return Failure(record)


def values(count: int) -> Values:
    """Return room for ``count`` raw values (16 bytes each, zeroed)."""
    return ffi.new("pl_value[]", count)


_U32S = [struct.Struct("=" + "I12x" * count) for count in range(9)]


def u32s(raw: Values, count: int) -> tuple[int, ...]:
    """Return the first ``count`` (at most 8) raw values as unsigned numbers of 32 bits."""
    unpacked: tuple[int, ...] = _U32S[count].unpack(ffi.buffer(raw, count * 16))
    return unpacked


# Host functions

_host_functions: dict[int, Callable[[Values], None]] = {}
_host_handles = itertools.count(1)


_raised: dict[int, BaseException] = {}
"""What host functions raised, by the number that C carries to the call that entered the guest (``csrc/failure.h``)."""
_raised_numbers = itertools.count(1)


def _keep_pending(error: BaseException) -> None:
    """Keep what a host function raised for the call that entered the guest; the first counts."""
    if not lib.pl_raised():
        number = next(_raised_numbers)
        _raised[number] = error
        lib.pl_raise(number)


def _replace_pending(error: BaseException) -> None:
    """Keep what was raised while a failure was handled, such as a signal handler's exception: it counts from now on."""
    raised = lib.pl_raised()
    if raised:
        _raised[raised] = error
    else:
        _keep_pending(error)


@ffi.def_extern()  # type: ignore[untyped-decorator]
def pl_python_forget(raised: int) -> None:
    """Drop what a host function raised."""
    _raised.pop(raised, None)


lib.pl_failures_set(lib.pl_python_forget)
atexit.register(lib.pl_failures_set, ffi.NULL)  # what is freed after the interpreter's end calls it no more


def new_handle() -> int:
    """Return a handle for a host function that no other has."""
    return next(_host_handles)


def register_host(function: Callable[[Values], None], handle: int = 0) -> int:
    """Return the handle of a Python function that guests can call, with the raw values (arguments in, results out).

    What it raises becomes a trap, and comes out of the call that entered the guest (:meth:`Failure.take_raised`). Release it after the
    last use; a call that comes later traps. ``handle`` is a new one, or made by :func:`new_handle`.
    """
    handle = handle or new_handle()
    _host_functions[handle] = function
    return handle


def host_function_count() -> int:
    """Return how many Python functions are registered, of all programs."""
    return len(_host_functions)


def release_host(handle: int) -> None:
    """Let go of a host function."""
    _host_functions.pop(handle, None)


def _keep_of_host(_kind: object, error: BaseException | None, _traceback: Any) -> int:
    """Keep what came before or after the callback's own ``try``: a signal's exception may come anywhere."""
    if error is not None:
        _replace_pending(error)
    return -1


def _write_message(error: BaseException, message: Any, capacity: int) -> None:
    """Write the message of a trap to a C array."""
    text = str(error).encode("utf-8", "replace")[: capacity - 1]
    ffi.memmove(message, text + b"\0", len(text) + 1)


@ffi.def_extern(error=-1, onerror=_keep_of_host)  # type: ignore[untyped-decorator]
def pl_python_host(handle: int, raw: Values, count: int, message: Any, capacity: int) -> int:  # noqa: ARG001
    """Run the Python function behind ``handle``; whatever it raises is kept, and becomes the message of a trap."""
    try:
        _host_functions[handle](raw)
    except BaseException as error:  # noqa: BLE001 - it is raised again by the call that entered the guest
        if isinstance(error, KeyError) and handle not in _host_functions:
            error = InternalError("a library that is gone called the host")
        _keep_pending(error)
        _write_message(error, message, capacity)
        return 1
    return 0


# Host functions that take and give plain numbers

CALLBACK_INTEGERS: int = lib.PL_CALLBACK_INTEGERS
"""The most parameters of a function of integers that travels as plain numbers."""
CALLBACK_DOUBLES: int = lib.PL_CALLBACK_DOUBLES
"""The same of a function of doubles."""
CALLBACK_FAILED: int = lib.pl_callback_failed()
"""What a function of integers answers that means this very number: then it calls :func:`mean_result` before."""
CALLBACK_FAILED_DOUBLE: float = lib.pl_callback_failed_double()
"""The same of a function of doubles."""


class CallbackForm(enum.IntEnum):
    """How the values of a callback travel (``enum pl_callback_form``)."""

    RAW = lib.PL_FORM_RAW
    INTEGERS = lib.PL_FORM_INTEGERS
    DOUBLES = lib.PL_FORM_DOUBLES


class CallbackResult(enum.IntEnum):
    """What a callback returns (``enum pl_callback_result``)."""

    NONE = lib.PL_RESULT_NONE
    NARROW = lib.PL_RESULT_NARROW
    WIDE = lib.PL_RESULT_WIDE


class CallbackTrouble(enum.IntEnum):
    """Why a callback made the guest trap (``enum pl_callback_trouble``)."""

    RAISED = lib.PL_CALLBACK_RAISED
    TOO_WIDE = lib.PL_CALLBACK_TOO_WIDE
    TOO_LARGE = lib.PL_CALLBACK_TOO_LARGE


Explain: TypeAlias = Callable[[int, CallbackTrouble, float, BaseException | None], BaseException | None]
"""Gets the handle, the trouble, the result and what was raised; returns what is to be raised instead."""


def callback_type(form: CallbackForm, count: int, result: CallbackResult, wide: Iterable[int]) -> int:
    """Write a type down as ``csrc/callback.h`` has it; ``wide`` are the indices of the wide parameters."""
    return form + 16 * count + 256 * result + sum(1 << 16 + index for index in wide)


def mean_result() -> None:
    """Say that the calling thread's callback will return the number that stands for a failure, and mean it."""
    lib.pl_callback_mean(1)


def keep_of_callback(error: BaseException) -> None:
    """Keep what a callback raised, which returns the number that stands for a failure then."""
    lib.pl_callback_mean(0)
    _keep_pending(error)


def _keep_of_callback(_kind: object, error: BaseException | None, traceback: Any) -> None:
    """Keep what came outside a callback's own ``try``, or what cffi has to say about its result: that has no traceback."""
    lib.pl_callback_mean(0)
    if error is not None:
        _replace_pending(error.with_traceback(traceback))


def install_callbacks(
    *,
    integers: Mapping[CallbackResult, Sequence[Callable[..., Any]]],
    doubles: Sequence[Callable[..., Any]],
    explain: Explain,
) -> None:
    """Say what the core calls for a callback: with its handle and from 0 integers on, with its handle and from 1 double on. Once."""
    table = ffi.new("pl_callbacks *")

    def define(name: str, function: Callable[..., Any], failed: float | None) -> Any:
        ffi.def_extern(name=name, error=failed, onerror=_keep_of_callback)(function)
        return getattr(lib, name)

    names = {CallbackResult.NONE: "nothing", CallbackResult.NARROW: "i32x", CallbackResult.WIDE: "i64x"}
    for result, row in integers.items():
        for count, function in enumerate(row):
            getattr(table, f"integers{count}")[result] = define(f"pl_python_{names[result]}{count}", function, CALLBACK_FAILED)
    for count, function in enumerate(doubles, 1):
        setattr(table, f"double{count}", define(f"pl_python_double{count}", function, CALLBACK_FAILED_DOUBLE))

    def explained(handle: int, trouble: int, integer: int, number: float, message: Any, capacity: int) -> None:
        kind = CallbackTrouble(trouble)
        value = number if kind is CallbackTrouble.TOO_LARGE else integer
        error = explain(handle, kind, value, _raised.get(lib.pl_raised()))
        if error is not None:
            _replace_pending(error)
            _write_message(error, message, capacity)

    table.explain = define("pl_python_explain", explained, None)
    lib.pl_callbacks_set(table)


# One dynamic-link universe

RELAXED: int = lib.PL_RELAXED
ACQUIRE: int = lib.PL_ACQUIRE
SEQ_CST: int = lib.PL_SEQ_CST

ACQUIRED: int = lib.PL_ACQUIRED
BUSY: int = lib.PL_BUSY
SIGNALLED: int = lib.PL_SIGNALLED
POISONED: int = lib.PL_POISONED
TIMEOUT: int = lib.PL_TIMEOUT
CANCELLED: int = lib.PL_CANCELLED

PARKED: int = lib.PL_PARKED
RUNNING: int = lib.PL_RUNNING
DEAD: int = lib.PL_DEAD

WOKEN: int = lib.PL_WAITED_WOKEN
NOT_EQUAL: int = lib.PL_WAITED_NOT_EQUAL
INTERRUPTED: int = lib.PL_WAITED_INTERRUPTED
WAIT_CANCELLED: int = lib.PL_WAITED_CANCELLED

BLOCK_OWN: int = (1 << 64) - 1
"""The address of a thread-local block that its library makes itself (``PL_BLOCK_OWN``)."""

MAIN_THREAD: int = lib.PL_PROCESS
"""The number of a WASIX program's first thread, and of its process."""

CAUSE_CLOSED: int = lib.PL_CAUSE_CLOSED
CAUSE_LEADER: int = lib.PL_CAUSE_LEADER
CAUSE_REPLAY: int = lib.PL_CAUSE_REPLAY
CAUSE_BUS: int = lib.PL_CAUSE_BUS
CAUSE_INTERRUPTED: int = lib.PL_CAUSE_INTERRUPTED
CAUSE_FORKED: int = lib.PL_CAUSE_FORKED
FORKED = "fork() has left its threads in the parent process; make a new program here"
"""What is said of a program that was given up for that cause."""
CAUSE_STOPPED: int = lib.PL_CAUSE_STOPPED
"""Not the end of the linker: the call in progress was stopped."""

_STOPS = 16
"""Reasons of stopped calls that are kept at one time. Each is taken by its call as soon as that ends."""


NULL: Any = ffi.NULL


def new_cell() -> Any:
    """Return a cell of 32 bits, zero, for :meth:`Member.wait`."""
    return ffi.new("uint32_t *")


class Backoff:
    """The pauses of ``csrc/backoff.h``; one thread's."""

    __slots__ = ("_record",)

    def __init__(self) -> None:
        self._record = ffi.new("pl_backoff *")

    @property
    def pauses(self) -> int:
        """Pauses taken."""
        return int(self._record.pauses)

    @property
    def next_sleep(self) -> float | None:
        """Seconds of the next pause, 0.0 for a yield, None for a spin."""
        kind = lib.pl_backoff_kind(self._record.pauses)
        return None if kind == 0 else max(kind, 0) / 1e9

    def pause(self) -> None:
        """Take the next pause."""
        lib.pl_backoff_pause(self._record)

    def reset(self) -> None:
        """Forget the pauses taken."""
        self._record.pauses = 0


def nanoseconds(timeout: float | None) -> int:
    """Return seconds as C takes them: None and infinity (no timeout) are negative. ValueError for a negative number and for NaN."""
    if timeout is None or timeout == math.inf:
        return -1
    if not timeout >= 0:
        raise ValueError(f"timeout={timeout}: give seconds, or None for no timeout")
    return int(min(timeout * 1e9, 1 << 62))


class Shared:
    """The flag, the lock, the gate, the buses and the cancellation of one linker (``csrc/shared.h``). Safe to use from all threads.

    ``reason`` is the exception that came with the first cause, or None.
    """

    def __init__(self) -> None:
        self.pointer = ffi.gc(lib.pl_shared_new(), lib.pl_shared_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for the linker's locks")
        self.reason: BaseException | None = None
        self._stops: dict[int, BaseException] = {}  # by the number of the call
        self._cancel = lib.pl_shared_cancel(self.pointer)
        self._flag = lib.pl_shared_flag(self.pointer)
        self._lock = lib.pl_shared_lock(self.pointer)
        self._gate = lib.pl_shared_gate(self.pointer)
        self._barriers = lib.pl_shared_barriers(self.pointer)
        self._operations = lib.pl_shared_operations(self.pointer)

    def pending(self, order: int) -> bool:
        """Load the pending flag."""
        return bool(lib.pl_flag_load(self._flag, order))

    def cancel(self, cause: int) -> bool:
        """Cancel for good and wake every waiter; True if this was the first cause."""
        return bool(lib.pl_cancel_set(self._cancel, cause))

    def abandon(self) -> None:
        """Cancel for good in a child of the process, whose only thread this is: wake none, and take no lock."""
        lib.pl_cancel_abandon(self._cancel, CAUSE_FORKED)

    @property
    def cause(self) -> int:
        """Why it was cancelled, 0 if it was not; CAUSE_STOPPED within a call that was stopped."""
        return int(lib.pl_cancel_cause(self._cancel))

    @property
    def call(self) -> int:
        """The number of the call in progress, of a linker whose calls are numbered (:meth:`Instances.number_calls`), else 0."""
        return int(lib.pl_cancel_call(self._cancel))

    def forget(self, failure: BaseException | None) -> None:
        """Drop a reason kept by :meth:`Member.note_failure` if the linker was not cancelled for it: the call alone ends."""
        if failure is not None and self.reason is failure and not self.cause:
            self.reason = None

    def stop(self, call: int, reason: BaseException) -> None:
        """Stop the call with this number, if it is still in progress: it raises ``reason``, or that of an earlier stop. Never blocks.

        The guest looks when the epoch moves, which is up to the caller.
        """
        for old in list(self._stops)[: 1 - _STOPS]:
            self._stops.pop(old, None)
        self._stops.setdefault(call, reason)  # before the call can see that it was stopped
        lib.pl_cancel_stop(self._cancel, call)

    def stopped(self, call: int = 0) -> BaseException | None:
        """Return the reason why a call (0: the one in progress) was stopped; it is forgotten when that call is over."""
        current = self.call
        reason = self._stops.get(call or current)
        if call and call != current:
            self._stops.pop(call, None)
        return reason

    def new_hold(self) -> Hold:
        """Return what one guard or token holds: nothing yet."""
        return Hold(self)

    def wake(self, key: int) -> None:
        """Wake all who wait on a key of the host's."""
        lib.pl_futex_wake(lib.pl_shared_futex(self.pointer), key, _U32 - 1)

    @property
    def readers(self) -> int:
        """How many hold the lock for reading, -1 while it is held for writing."""
        return int(lib.pl_rwlock_readers(self._lock))

    @property
    def is_written_here(self) -> bool:
        """Whether the calling thread has the lock for writing."""
        return bool(lib.pl_rwlock_is_written_here(self._lock))

    @property
    def is_alone(self) -> bool:
        """Whether a change would meet nobody: there is one group at most, and the linker was not given up."""
        return bool(lib.pl_shared_is_alone(self.pointer))

    @property
    def token(self) -> int:
        """The number of the token that is out, or 0."""
        return int(lib.pl_gate_holder(self._gate))

    @property
    def receivers(self) -> tuple[int, int]:
        """How many receivers the buses of barriers and of operations have."""
        return int(lib.pl_bus_receivers(self._barriers)), int(lib.pl_bus_receivers(self._operations))

    @property
    def num_groups(self) -> int:
        """How many groups there are."""
        return int(lib.pl_bus_receivers(self._operations))

    def changed(self) -> None:
        """Note, under the write lock, that names may mean something else from now on."""
        lib.pl_shared_changed(self.pointer)

    @property
    def changes(self) -> int:
        """How often that was."""
        return int(lib.pl_shared_changes(self.pointer))

    @property
    def ended(self) -> int:
        """How many threads have ended by themselves and were not taken by :func:`next_ended`."""
        return int(lib.pl_shared_ended(self.pointer))

    def next_ended(self) -> NativeThread | None:
        """Take one of them, or return None."""
        handle = lib.pl_shared_next_ended(self.pointer)
        return _threads.pop(handle) if handle else None

    def close_ended(self) -> None:
        """Have threads end as ``ended`` of :class:`NativeThread` from now on."""
        lib.pl_shared_close_ended(self.pointer)

    def tell_ended(self) -> None:
        """Wake who waits in :meth:`await_ended`."""
        lib.pl_shared_tell_ended(self.pointer)

    def await_ended(self, timeout: float) -> None:
        """Wait until a thread has ended by itself or :meth:`tell_ended`, or ``timeout`` seconds. Blocks; signals are handled afterwards."""
        lib.pl_shared_await_ended(self.pointer, min(nanoseconds(timeout), lib.PL_SLICE))

    def set_trace(self, trace: Trace) -> None:
        """Have what groups do noted from now on, before there are any."""
        lib.pl_shared_set_trace(self.pointer, trace.pointer)

    @property
    def waits(self) -> Any:
        """A ``pl_waits``: how often groups waited for each other so far."""
        waits = ffi.new("pl_waits *")
        lib.pl_shared_waits(self.pointer, waits)
        return waits

    @property
    def published(self) -> int:
        """The number of the newest operation."""
        return int(lib.pl_bus_sent(self._operations))

    @property
    def announced(self) -> int:
        """The number of the newest barrier: larger than :attr:`published` while an operation is on its way."""
        return int(lib.pl_bus_sent(self._barriers))

    @property
    def applied_by_all(self) -> int:
        """The newest operation that every living group has replayed."""
        return int(lib.pl_shared_applied_by_all(self.pointer))

    @property
    def applied(self) -> set[int]:
        """The newest operations that the living groups have replayed, under the lock."""
        capacity = self.num_groups
        numbers = ffi.new("uint64_t[]", capacity)
        return set(numbers[0 : lib.pl_shared_applied(self.pointer, numbers, capacity)])


class Hold:
    """What one guard or token holds, in C (``csrc/hold.h``): an interrupt cannot lose it. Dropping it releases that."""

    __slots__ = ("pointer", "shared")

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.pointer = ffi.gc(lib.pl_hold_new(shared.pointer), lib.pl_hold_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a guard of the linker's lock")

    @property
    def is_reader(self) -> bool:
        """Whether it is the lock for reading."""
        return bool(lib.pl_hold_kind(self.pointer) == lib.PL_HOLDS_READ)

    @property
    def is_writer(self) -> bool:
        """Whether it is the lock for writing."""
        return bool(lib.pl_hold_kind(self.pointer) == lib.PL_HOLDS_WRITE)

    @property
    def is_token(self) -> bool:
        """Whether it is the topology token."""
        return bool(lib.pl_hold_kind(self.pointer) == lib.PL_HOLDS_TOKEN)

    @property
    def is_anything(self) -> bool:
        """Whether it is anything."""
        return bool(lib.pl_hold_kind(self.pointer))

    @property
    def token(self) -> int:
        """The number of the token that it is or was, 0 for none."""
        return int(lib.pl_hold_token(self.pointer))

    def read(self) -> int:
        """Try to take the lock for reading: ACQUIRED, BUSY or POISONED."""
        return int(lib.pl_hold_read(self.pointer))

    def write(self) -> int:
        """Try to take the lock for writing: ACQUIRED, BUSY or POISONED."""
        return int(lib.pl_hold_write(self.pointer))

    def write_wait(self, timeout: float | None) -> int:
        """Take the lock for writing, waiting for it: ACQUIRED, POISONED, TIMEOUT or CANCELLED."""
        return int(lib.pl_hold_write_wait(self.pointer, nanoseconds(timeout)))

    def acquire(self) -> int:
        """Try to take the token: ACQUIRED or BUSY."""
        return int(lib.pl_hold_acquire(self.pointer))

    def release(self) -> bool:
        """Give back what it holds; False if that is nothing."""
        return bool(lib.pl_hold_release(self.pointer))

    def poison(self) -> None:
        """Give the lock for writing back for good: what it guards is broken."""
        lib.pl_hold_poison(self.pointer)


class Trace:
    """What threads did and when (``csrc/trace.h``), with room for ``capacity`` events: the first are kept. Safe to use from all threads."""

    def __init__(self, capacity: int) -> None:
        self.pointer = ffi.gc(lib.pl_trace_new(capacity), lib.pl_trace_free)
        if self.pointer == ffi.NULL:
            raise MemoryError(f"no memory for a trace of {capacity} events")
        self._capacity = capacity

    def events(self) -> Iterator[tuple[int, TraceKind, int, int]]:
        """Iterate over what there is so far: nanoseconds on Python's monotonic clock, kind, handle of the member, detail."""
        buffer = ffi.new("pl_trace_event[]", 1024)
        first = 0
        while count := int(lib.pl_trace_read(self.pointer, first, buffer, len(buffer))):
            for index in range(count):
                event = buffer[index]
                yield int(event.when), TraceKind(event.kind), int(event.group), int(event.detail)
            first += count

    @property
    def lost(self) -> int:
        """How many events found no room."""
        return int(lib.pl_trace_lost(self.pointer))


class Participant(Protocol):
    """What a member calls back, on the thread of its group."""

    def replay(self, first: int, last: int) -> None:
        """Carry out the operations with these numbers, both included."""

    def check(self) -> None:
        """Do nothing; an exception, such as that of a signal handler, stops the guest."""


_members: dict[int, weakref.ref[Member]] = {}
_member_handles = itertools.count(1)


class Member(Finalized):
    """One group in a rendezvous: its safepoint and what it has replayed (``pl_group``). Make and free it under the write lock."""

    def __init__(self, shared: Shared, participant: Participant) -> None:
        self.shared = shared
        self.handle = next(_member_handles)
        self.failure: BaseException | None = None
        self._participant = weakref.ref(participant)
        self._cell = ffi.new("pl_group **")
        self._pointer = ffi.NULL
        self._last_applied = 0
        self._instances: Instances | None = None
        self._describe: Callable[[Trouble], BaseException] | None = None
        self._follower: Any = None
        self._hear: Callable[[], bool] | None = None

    def join(self) -> None:
        """Become part of the linker; :meth:`free` undoes it, also if this is interrupted."""
        if not lib.pl_group_new_at(self._cell, self.shared.pointer, self.handle, lib.pl_python_replay, lib.pl_python_interrupted):
            raise MemoryError("no memory for a group")
        self._safepoint = lib.pl_group_safepoint(self._cell[0])
        _members[self.handle] = weakref.ref(self)
        self._pointer = self._cell[0]

    @property
    def pointer(self) -> Any:
        """The ``pl_group``; InternalError once it is freed."""
        if self._pointer == ffi.NULL:
            raise InternalError("a group without receivers takes part: it has left the linker")
        return self._pointer

    @property
    def participant(self) -> Participant:
        """What is called back."""
        participant = self._participant()
        if participant is None:
            raise InternalError("a member outlived its group")
        return participant

    @property
    def state(self) -> int:
        """PARKED, RUNNING or DEAD."""
        return DEAD if self._pointer == ffi.NULL else int(lib.pl_safepoint_state(self._safepoint))

    @property
    def applied(self) -> int:
        """The newest operation it has replayed."""
        return self._last_applied if self._pointer == ffi.NULL else int(lib.pl_group_applied(self._pointer))

    @property
    def is_replaying(self) -> bool:
        """Whether it is just replaying."""
        return self._pointer != ffi.NULL and bool(lib.pl_group_is_replaying(self._pointer))

    @property
    def is_following(self) -> bool:
        """Whether it is just following, and a signal handler of its wait runs."""
        return self._pointer != ffi.NULL and bool(lib.pl_group_is_following(self._pointer))

    @property
    def is_behind(self) -> bool:
        """Whether there is something to replay before guest code may run."""
        return bool(lib.pl_group_is_behind(self.pointer))

    # Waits, and what reaches them

    def on_nudge(self, hear: Callable[[], bool]) -> None:
        """Have ``hear`` called on the group's thread after a :meth:`nudge`: within a wait, or at the end of its next host call.

        It may run guest code; what it raises stops the guest. True: it could not hear now, and is called again. Before the group's first
        nudge.
        """
        self._hear = hear
        lib.pl_group_on_nudge(self.pointer, lib.pl_python_hear, self.handle)

    def hear(self) -> bool:
        """Hear what the group was nudged for."""
        return self._hear is not None and self._hear()

    def nudge(self) -> None:
        """Reach the group, wherever it is. For any thread, as long as the group cannot be freed."""
        lib.pl_futex_nudge(lib.pl_shared_futex(self.shared.pointer), lib.pl_group_nudge(self.pointer))

    def wait(self, key: int, cell: Any, expected: int) -> int:
        """Wait on a key of the host's while a cell (``uint32_t *``) has the expected value; the group is parked.

        Returns WOKEN, NOT_EQUAL, INTERRUPTED (an exception is kept for the guest's caller) or WAIT_CANCELLED. Blocks, interruptibly.
        """
        return int(lib.pl_group_wait32(self.pointer, key, cell, expected, -1, lib.pl_python_check, self.handle))

    def follow_in_c(self, instances: Instances, log: Log, describe: Callable[[Trouble], BaseException]) -> None:
        """Have operations of ``log`` carried out in ``instances``, without the GIL; ``describe`` makes an exception of what goes wrong."""
        self._instances = instances
        self._describe = describe
        self._follower = ffi.new(
            "pl_follower *",
            {"instances": instances.pointer, "log": log.pointer, "group": self.handle, "failed": lib.pl_python_failed},
        )
        lib.pl_follower_install(self._follower)

    def note_failure(self, error: BaseException) -> None:
        """Keep the first failure of a replay, where the group's thread and all that look for the reason find it."""
        if self.failure is None:
            self.failure = error
            # Here, before C cancels the linker for it and others look for the reason.
            if self.shared.reason is None and not self.shared.cause:
                self.shared.reason = error

    def note_trouble(self) -> None:
        """Keep what went wrong in C as a failure."""
        if self._instances is not None and self._describe is not None:
            error = self._describe(self._instances.take_trouble())
            if not self.shared.cause:  # else the end of the linker is what stopped it
                self.note_failure(error)

    def die(self) -> None:
        """Leave every rendezvous for good."""
        if self._pointer != ffi.NULL:
            lib.pl_safepoint_die(self._safepoint)

    def follow(self) -> int:
        """Take part in what is pending: ACQUIRED, CANCELLED or POISONED. Blocks until the leader has published."""
        return int(lib.pl_follow(self.pointer))

    def try_exclusive(self, topology: Hold, lock: Hold) -> bool:
        """Take the topology token and the lock for writing; False, with nothing taken, if that cannot be at once."""
        return bool(lib.pl_hold_exclusive(topology.pointer, lock.pointer, self._pointer or self.pointer) == ACQUIRED)

    def catch_up(self) -> bool:
        """Replay, under the write lock, what was missed; False if that failed."""
        return bool(lib.pl_group_catch_up(self.pointer) == 0)

    def open(self) -> int:
        """Open a barrier as leader and return its number, 0 if the protocol is broken."""
        return int(lib.pl_lead_open(self.pointer))

    def meet(self, timeout: float | None) -> tuple[int, int]:
        """Wait until everybody has arrived: ACQUIRED, TIMEOUT or CANCELLED, and the handle of a member that was late."""
        late = ffi.new("uintptr_t *")
        return int(lib.pl_lead_meet(self.pointer, nanoseconds(timeout), late)), int(late[0])

    def publish(self, lock: Hold) -> int:
        """Publish the operation and return its number, 0 if the protocol is broken. The lock for writing is one for reading then.

        A second time does nothing.
        """
        return int(lib.pl_hold_publish(lock.pointer, self.pointer))

    def finish(self, lock: Hold) -> int:
        """Wait until everybody who arrived has replayed, and release the lock for reading: ACQUIRED or CANCELLED. Once."""
        return int(lib.pl_hold_finish(lock.pointer, self.pointer))

    def withdraw(self) -> int:
        """Publish an operation that does nothing; the write lock stays. Returns its number, 0 if the protocol is broken."""
        return int(lib.pl_lead_withdraw(self.pointer))

    def free(self) -> None:
        """Leave the linker. A second time does nothing."""
        self._last_applied = self.applied
        self._pointer = ffi.NULL
        _members.pop(self.handle, None)
        lib.pl_group_free_at(self._cell)
        self._instances = self._describe = self._hear = self._follower = None  # which lead back here

    def _drop(self) -> None:
        if hasattr(self, "_last_applied"):
            self.free()


def _member(handle: int) -> Member:
    member = _members[handle]()
    if member is None:
        raise InternalError("a group runs without its member")
    return member


def _keep(_kind: object, error: BaseException | None, traceback: Any) -> int:
    """Keep what a callback raised where the group's thread finds it; the callback's caller in C gets a 1."""
    handle = traceback.tb_frame.f_locals.get("handle") if traceback else None
    member = _members[handle]() if handle in _members else None
    if member is not None and error is not None:
        member.note_failure(error)
    return 1


@ffi.def_extern(error=1, onerror=_keep)  # type: ignore[untyped-decorator]
def pl_python_replay(handle: int, first: int, last: int) -> int:
    """Replay operations in the group behind ``handle``."""
    _member(handle).participant.replay(first, last)
    return 0


@ffi.def_extern(error=1, onerror=_keep_of_host)  # type: ignore[untyped-decorator]
def pl_python_check(handle: int) -> int:
    """Let the interpreter run what a signal has left to do; this is only different from nothing on the main thread.

    Within guest code: what it raises comes out of the call that entered the guest.
    """
    _member(handle).participant.check()
    return 0


def _keep_interrupt(_kind: object, error: BaseException | None, traceback: Any) -> int:
    """Keep what a signal handler raised within a rendezvous for the group's thread."""
    handle = traceback.tb_frame.f_locals.get("handle") if traceback else None
    member = _members[handle]() if handle in _members else None
    if member is not None and error is not None:
        member.note_failure(error)  # C cancels the linker for it if the wait takes too long, and then others look for the reason
    return 1


@ffi.def_extern(error=1, onerror=_keep_interrupt)  # type: ignore[untyped-decorator]
def pl_python_interrupted(handle: int) -> int:
    """Do the same within a rendezvous: the thread stops when that is done."""
    _member(handle).participant.check()
    return 0


@ffi.def_extern(error=1, onerror=_keep)  # type: ignore[untyped-decorator]
def pl_python_failed(handle: int) -> int:
    """Keep why an operation could not be carried out in C."""
    _member(handle).note_trouble()
    return 0


@ffi.def_extern(error=1, onerror=_keep_of_host)  # type: ignore[untyped-decorator]
def pl_python_hear(handle: int) -> int:
    """Hear what the group behind ``handle`` was nudged for; what that raises comes out of the call that entered the guest."""
    try:
        return int(lib.PL_HEAR_LATER) if _member(handle).hear() else 0
    except BaseException as error:  # noqa: BLE001 - as in pl_python_host
        _keep_pending(error)
        return 1


# Guests that make no calls


STACK_GUEST: int = lib.PL_STACK_GUEST
"""Bytes of stack that a guest may use."""
STACK_THREAD: int = lib.PL_STACK_THREAD
"""Bytes of stack of a thread that the core makes."""
STACK_REFUSAL: str = ffi.string(lib.pl_stack_refusal()).decode()
"""How the message begins of the error of a thread that has too little stack to enter a guest."""


def check_stack() -> None:
    """Raise Failure unless the calling thread has the stack to enter a guest."""
    _check(lib.pl_stack_check(0))


def epoch_tick(engine_address: int, interval: float) -> None:
    """Move the epoch of an engine every ``interval`` seconds from now on."""
    lib.pl_epoch_main_thread(threading.main_thread().ident or 0)
    if lib.pl_epoch_tick(ffi.cast("pl_engine *", engine_address), nanoseconds(interval)):
        raise MemoryError("no thread for the epoch")


def epoch_bump(engine_address: int) -> None:
    """Move the epoch of an engine now."""
    lib.pl_epoch_bump(ffi.cast("pl_engine *", engine_address))


def _new_watch(member: Member, *, preempt: bool) -> Any:
    return ffi.new("pl_watch *", {"group": member.pointer, "check": lib.pl_python_check, "handle": member.handle, "preempt": preempt})


def watch(store_address: int, context: Context, member: Member, *, preempt: bool) -> object:
    """Watch the guest of a store: it stops when its linker is cancelled or a check fails. Keep what is returned as long as the store."""
    record = _new_watch(member, preempt=preempt)
    lib.pl_epoch_install(ffi.cast("pl_store *", store_address), context, record)
    return record


def ignore_epoch(context: Context) -> None:
    """Let the guest of a store run for ever."""
    lib.pl_epoch_ignore(context)


# WASI

WASI_PLAIN: int = lib.PL_WASI_PLAIN
WASI_POLL: int = lib.PL_WASI_POLL
WASI_READ: int = lib.PL_WASI_READ
WASI_CLOCK: int = lib.PL_WASI_CLOCK
WASI_RESOLUTION: int = lib.PL_WASI_RESOLUTION
WASI_YIELD: int = lib.PL_WASI_YIELD
WASI_WRITE: int = lib.PL_WASI_WRITE
WASI_OPEN: int = lib.PL_WASI_OPEN
WASI_TIMES: int = lib.PL_WASI_TIMES
WASI_NAME: int = lib.PL_WASI_NAME
WASI_CLOSE: int = lib.PL_WASI_CLOSE
WASI_RENUMBER: int = lib.PL_WASI_RENUMBER


def c_text(text: str) -> Any:
    """Return a C string, which lives as long as the object."""
    return ffi.new("char[]", text.encode())


class WasiProcess:
    """The store that has a WASI process, the mutex its callers take turns with, and its standard streams."""

    def __init__(self, context: Context) -> None:
        self.pointer = ffi.gc(lib.pl_process_new(context), lib.pl_process_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a WASI process")

    def set_stream(self, index: int, descriptor: int) -> None:
        """Make stream ``index`` a duplicate of an open descriptor, which becomes non-blocking; raises OSError. Before any guest runs."""
        if not 0 <= index < lib.PL_WASI_STREAMS:
            raise InternalError(f"there is no standard stream {index}")
        if error := lib.pl_process_set_stream(self.pointer, index, descriptor):
            raise OSError(error, os.strerror(error))

    def add_directory(self, place: int, descriptor: int) -> None:
        """Say which directory of the host the guest's descriptor ``place`` is; raises OSError. Before any guest runs."""
        if error := lib.pl_process_add_directory(self.pointer, place, descriptor):
            raise OSError(error, os.strerror(error))

    def set_descriptors(self, most: int) -> None:
        """Let the guest have so many descriptors open at one time besides those it begins with. Before any guest runs."""
        lib.pl_process_set_descriptors(self.pointer, min(most, 0x7FFFFFFF))

    def set_fault(self, number: int) -> None:
        """Say which error number a pointer out of the guest's memory gives."""
        lib.pl_process_set_fault(self.pointer, number)

    def set_clock(self, clock: int, now: int) -> bool:
        """Set a clock of the guest (nanoseconds, modulo 2^64). False: there is no such clock."""
        return bool(lib.pl_process_set_clock(self.pointer, clock, now))

    def provide(self, index: int, type_address: int, kind: int, parameters: Any) -> None:
        """Say of which type (a ``wasm_functype_t``) and kind function ``index`` is, and what its parameters are (``csrc/wasi.h``).

        ``parameters`` is a :func:`c_text`. The type and the text must live as long as the process.
        """
        if not 0 <= index < lib.PL_WASI_FUNCTIONS:
            raise InternalError(f"there is no room for WASI function {index}")
        lib.pl_process_provide(self.pointer, index, ffi.cast("pl_type *", type_address), kind, parameters)

    def join(self, linker_address: int, space: str, names: Sequence[str], shim_address: int, memory: Extern) -> None:
        """Instantiate the shim, with the memory and a linker's functions, and let the functions that it exports be those of the process."""
        kept = [ffi.new("char[]", name.encode()) for name in names]
        failure = new_failure()
        linker, shim = ffi.cast("pl_linker *", linker_address), ffi.cast("pl_module *", shim_address)
        pointers = ffi.new("char *[]", kept)
        if lib.pl_process_join(self.pointer, linker, space.encode(), pointers, len(names), shim, memory, failure):
            self._raise(failure)

    def join_private(self, linker_address: int, space: str, shim_address: int) -> None:
        """Instantiate the private shim, which copies of the guest's arguments are given to."""
        failure = new_failure()
        linker, shim = ffi.cast("pl_linker *", linker_address), ffi.cast("pl_module *", shim_address)
        if lib.pl_process_join_private(self.pointer, linker, space.encode(), shim, failure):
            self._raise(failure)

    @staticmethod
    def _raise(failure: Any) -> NoReturn:
        if not failure.trap and not failure.error:
            raise InternalError("wasmtime lacks a function of WASI")
        raise Failure(failure)


# Stores


class Store:
    """A store of an engine, with bounds for each memory (bytes) and table (slots), negative for none. Freed with the object."""

    __slots__ = ("_pointer", "address", "context")

    def __init__(self, engine_address: int, *, memory: int, table: int, made: Any = None) -> None:
        if made is None:
            made = lib.pl_store_new(ffi.cast("pl_engine *", engine_address), memory, table)
        self._pointer = ffi.gc(made, lib.pl_store_free)
        self.address = int(ffi.cast("uintptr_t", self._pointer))
        self.context: Context = lib.pl_store_context(self._pointer)


# Instances


def extern_of_shared_memory(address: int) -> Extern:
    """Wrap a ``wasmtime_sharedmemory_t *`` as something that can be imported; the caller keeps the memory alive."""
    extern = ffi.new("pl_extern *")
    extern.kind = EXTERN_SHARED_MEMORY
    extern.of.shared_memory = ffi.cast("pl_shared_memory *", address)
    return extern


def func_of(extern: Extern) -> Func:
    """Return the function inside an extern; it stays valid on its own."""
    if extern.kind != EXTERN_FUNC:
        raise InternalError(f"extern of kind {extern.kind} is not a function")
    return ffi.new("pl_func *", extern.of.func)


def imports_of(externs: Sequence[Extern]) -> Imports:
    """Pack externs into the array that :func:`instantiate` takes."""
    packed = ffi.new("pl_extern[]", len(externs))
    for index, extern in enumerate(externs):
        packed[index] = extern[0]
    return packed


def instantiate(context: Context, module_address: int, externs: Sequence[Extern]) -> Instance:
    """Instantiate a compiled module with imports in its own order. Blocks while its start function runs."""
    instance = ffi.new("pl_instance *")
    failure = new_failure()
    module = ffi.cast("pl_module *", module_address)
    if lib.pl_instance_new(context, module, imports_of(externs), len(externs), instance, failure):
        raise Failure(failure)
    return instance


def export(context: Context, instance: Instance, name: str) -> Extern | None:
    """Return the export called ``name``, or None."""
    extern = ffi.new("pl_extern *")
    encoded = name.encode()
    return extern if lib.pl_instance_export(context, instance, encoded, len(encoded), extern) else None


# Globals


def _signed(value: int) -> int:
    """Return the 32-bit pattern of ``value`` as C's int32_t."""
    value &= _U32 - 1
    return value - _U32 if value >> 31 else value


def _handle(extern: Extern, kind: int) -> Any:
    if extern.kind != kind:
        raise InternalError(f"extern of kind {extern.kind} where {kind} is meant")
    return ffi.addressof(extern.of, "handle")


def global_new(context: Context, type_address: int, value: int) -> Extern:
    """Make an i32 global of the given ``wasm_globaltype_t`` that holds the 32 bits of ``value``."""
    extern = ffi.new("pl_extern *")
    extern.kind = EXTERN_GLOBAL
    handle = ffi.addressof(extern.of, "handle")
    _check(lib.pl_global_new_i32(context, ffi.cast("pl_type *", type_address), _signed(value), handle))
    return extern


def global_get(context: Context, extern: Extern) -> int:
    """Return the value of an i32 global, unsigned."""
    return int(lib.pl_global_get_i32(context, _handle(extern, EXTERN_GLOBAL))) & (_U32 - 1)


def global_set(context: Context, extern: Extern, value: int) -> None:
    """Store the 32 bits of ``value`` in a mutable i32 global."""
    _check(lib.pl_global_set_i32(context, _handle(extern, EXTERN_GLOBAL), _signed(value)))


# Tables


def table_new(context: Context, type_address: int) -> Extern:
    """Make a table of the given ``wasm_tabletype_t`` with all slots null."""
    extern = ffi.new("pl_extern *")
    extern.kind = EXTERN_TABLE
    _check(lib.pl_table_new(context, ffi.cast("pl_type *", type_address), ffi.addressof(extern.of, "handle")))
    return extern


def table_size(context: Context, table: Extern) -> int:
    """Return the number of slots."""
    return int(lib.pl_table_size(context, _handle(table, EXTERN_TABLE)))


def table_grow(context: Context, table: Extern, delta: int) -> None:
    """Add ``delta`` null slots; raises :class:`Failure` past the table's maximum."""
    _check(lib.pl_table_grow(context, _handle(table, EXTERN_TABLE), delta))


def same_function(one: Func, other: Func) -> bool:
    """Whether two are one function of one store."""
    return bytes(ffi.buffer(one)) == bytes(ffi.buffer(other))


def table_get(context: Context, table: Extern, index: int) -> Func | None:
    """Return the function in a slot, or None if the slot is null or does not exist."""
    func = ffi.new("pl_func *")
    return func if lib.pl_table_get(context, _handle(table, EXTERN_TABLE), index, func) == 1 else None


def table_set(context: Context, table: Extern, index: int, func: Func | None) -> None:
    """Put a function into a slot; None empties it."""
    _check(lib.pl_table_set(context, _handle(table, EXTERN_TABLE), index, ffi.NULL if func is None else func))


# Memories


def memory_new(context: Context, type_address: int) -> Extern:
    """Make a memory of the given ``wasm_memorytype_t``."""
    extern = ffi.new("pl_extern *")
    extern.kind = EXTERN_MEMORY
    _check(lib.pl_memory_new(context, ffi.cast("pl_type *", type_address), ffi.addressof(extern.of, "handle")))
    return extern


def memory_size(context: Context, memory: Extern) -> int:
    """Return the size in bytes."""
    return int(lib.pl_memory_size(context, memory))


def memory_grow(context: Context, memory: Extern, pages: int) -> int:
    """Add ``pages`` pages of 64 KiB and return the size before, in pages; raises :class:`Failure` past the maximum."""
    before = ffi.new("uint64_t *")
    _check(lib.pl_memory_grow(context, memory, pages, before))
    return int(before[0])


def memory_buffer(context: Context, memory: Extern, keep_alive: object) -> memoryview:
    """Return all of a memory as a writable view of bytes.

    ``keep_alive`` (whatever owns the store) lives at least as long as the view. The view does not follow a later growth.
    """
    data = lib.pl_memory_data(context, memory)
    size = lib.pl_memory_size(context, memory)

    def release(_data: object, _owner: object = keep_alive) -> None:
        """Hold the owner until cffi drops the pointer."""

    return memoryview(ffi.buffer(ffi.gc(data, release), size))


# What a group has


class Source(enum.IntEnum):
    """Where an import comes from (``enum pl_source_kind``)."""

    MEMORY = lib.PL_SOURCE_MEMORY
    TABLE = lib.PL_SOURCE_TABLE
    STACK_POINTER = lib.PL_SOURCE_STACK_POINTER
    CONSTANT = lib.PL_SOURCE_CONSTANT
    CELL = lib.PL_SOURCE_CELL
    TLS_CELL = lib.PL_SOURCE_TLS_CELL
    EXPORT = lib.PL_SOURCE_EXPORT
    PLT = lib.PL_SOURCE_PLT
    WASI = lib.PL_SOURCE_WASI
    HOST = lib.PL_SOURCE_HOST
    BUILTIN = lib.PL_SOURCE_BUILTIN
    TAG = lib.PL_SOURCE_TAG
    CALLBACK = lib.PL_SOURCE_CALLBACK
    ATOMICS = lib.PL_SOURCE_ATOMICS


class Builtin(enum.IntEnum):
    """Host functions of the core (``csrc/builtin.h``)."""

    SAFEPOINT = lib.PL_BUILTIN_SAFEPOINT
    DLSYM = lib.PL_BUILTIN_DLSYM
    DLSYM_WASIX = lib.PL_BUILTIN_DLSYM_WASIX
    THREAD_ID = lib.PL_BUILTIN_THREAD_ID
    EMPTY = lib.PL_BUILTIN_EMPTY
    PROC_ID = lib.PL_BUILTIN_PROC_ID
    UNSUPPORTED = lib.PL_BUILTIN_UNSUPPORTED
    DL_INVALID_HANDLE = lib.PL_BUILTIN_DL_INVALID_HANDLE
    CALL_DYNAMIC = lib.PL_BUILTIN_CALL_DYNAMIC
    REFLECT_SIGNATURE = lib.PL_BUILTIN_REFLECT_SIGNATURE


class Atomics(enum.IntEnum):
    """Host functions that wait and wake (``csrc/atomics.h``)."""

    FUTEX_WAIT = lib.PL_ATOMICS_FUTEX_WAIT
    FUTEX_WAKE = lib.PL_ATOMICS_FUTEX_WAKE
    FUTEX_WAKE_ALL = lib.PL_ATOMICS_FUTEX_WAKE_ALL
    SLEEP = lib.PL_ATOMICS_SLEEP


class Stage(enum.IntEnum):
    """Where carrying out an operation failed (``enum pl_stage``)."""

    NONE = lib.PL_STAGE_NONE
    ROOM = lib.PL_STAGE_ROOM
    TABLE = lib.PL_STAGE_TABLE
    TAKEN = lib.PL_STAGE_TAKEN
    OBJECT = lib.PL_STAGE_OBJECT
    EXPORT = lib.PL_STAGE_EXPORT
    TLS_CELL = lib.PL_STAGE_TLS_CELL
    MAKE = lib.PL_STAGE_MAKE
    INSTANTIATE = lib.PL_STAGE_INSTANTIATE
    TLS = lib.PL_STAGE_TLS


class TraceKind(enum.IntEnum):
    """What happened to a group (``enum pl_trace_kind``)."""

    UNPARK = lib.PL_TRACE_UNPARK
    PARK = lib.PL_TRACE_PARK
    DEAD = lib.PL_TRACE_DEAD
    LEAD_BEGIN = lib.PL_TRACE_LEAD_BEGIN
    LEAD_END = lib.PL_TRACE_LEAD_END
    AWAIT_BEGIN = lib.PL_TRACE_AWAIT_BEGIN
    AWAIT_END = lib.PL_TRACE_AWAIT_END
    FOLLOW_BEGIN = lib.PL_TRACE_FOLLOW_BEGIN
    FOLLOW_END = lib.PL_TRACE_FOLLOW_END
    REPLAY_BEGIN = lib.PL_TRACE_REPLAY_BEGIN
    REPLAY_END = lib.PL_TRACE_REPLAY_END


class Trouble(NamedTuple):
    """What went wrong: where, a number that says more (see ``pl_stage``), in which library (its address), and wasmtime's answer or None."""

    stage: Stage
    detail: int
    library: int
    failure: Failure | None


def set_types(*, cell: int, constant: int, resolve: int, waits: Sequence[int]) -> None:
    """Tell the core the types it makes objects of, by address; they stay as long as the process."""
    types = ffi.new("pl_types *")
    types.cell, types.constant, types.resolve = (ffi.cast("pl_type *", each) for each in (cell, constant, resolve))
    for index, each in enumerate(waits):
        types.waits[index] = ffi.cast("pl_type *", each)
    lib.pl_types_set(types)


class Names:
    """The names of a module's exports, or of its imports, in their order, as C reads them.

    ``text`` has one after the other, ``offsets`` (uint32) where each begins and the last ends. ValueError if they do not fit.
    """

    __slots__ = ("_offsets", "_text", "count", "offsets", "text")

    def __init__(self, text: memoryview, offsets: memoryview) -> None:
        self._text, self._offsets = text, offsets.cast("I")
        self.count = len(self._offsets) - 1
        self.text = ffi.from_buffer("char[]", text)
        self.offsets = ffi.from_buffer("uint32_t[]", offsets)
        if self.count < 0 or not lib.pl_symbols_fit(self.offsets, self.count, len(text)):
            raise ValueError("names do not fit")

    def __iter__(self) -> Iterator[str]:
        text, offsets = bytes(self._text), self._offsets
        return (text[begin:end].decode() for begin, end in itertools.pairwise(offsets))


SOURCE = struct.Struct("=IIqQQQ")
"""A ``pl_source``: kind, index, value, the addresses of library and type, handle."""
assert SOURCE.size == ffi.sizeof("pl_source")


def pack_source(kind: int, index: int = 0, value: int = 0, library: Library | None = None, type_address: int = 0, handle: int = 0) -> bytes:
    """Return a ``pl_source``."""
    return SOURCE.pack(kind, index, value, library.address if library is not None else 0, type_address, handle)


class SymbolKind(enum.IntEnum):
    """What a symbol is (``enum pl_symbol_kind``)."""

    OTHER = lib.PL_SYMBOL_OTHER
    FUNCTION = lib.PL_SYMBOL_FUNCTION
    DATA = lib.PL_SYMBOL_DATA


class Wanted(enum.IntEnum):
    """What an import asks for (``enum pl_wanted_kind``)."""

    OTHER = lib.PL_WANTED_OTHER
    MEMORY = lib.PL_WANTED_MEMORY
    TABLE = lib.PL_WANTED_TABLE
    STACK_POINTER = lib.PL_WANTED_STACK_POINTER
    MEMORY_BASE = lib.PL_WANTED_MEMORY_BASE
    TABLE_BASE = lib.PL_WANTED_TABLE_BASE
    FUNCTION = lib.PL_WANTED_FUNCTION
    DATA = lib.PL_WANTED_DATA
    POINTER = lib.PL_WANTED_POINTER


NO_SLOT: int = lib.PL_NO_SLOT

SYMBOL = struct.Struct("=IIIII4xQ")
"""A ``pl_symbol``: position, kind, slot, value, relative, type."""
WANTED = struct.Struct("=IIQ")
"""A ``pl_wanted``: kind, the first import that is the same, type."""
CANDIDATE = struct.Struct("=QQIIII")
"""A ``pl_candidate``: the addresses of symbols and library, memory base, slot base, has_slots, 0."""
assert (SYMBOL.size, WANTED.size, CANDIDATE.size) == tuple(ffi.sizeof(name) for name in ("pl_symbol", "pl_wanted", "pl_candidate"))

lib.pl_symbols_key(int.from_bytes(os.urandom(8), "little"), int.from_bytes(os.urandom(8), "little"))


class Symbols:
    """What a module defines and imports, by name (``csrc/symbols.h``): ``symbols`` and ``wanted`` are packed records.

    Functions have the number in ``types`` of their type. ValueError if the records say what cannot be.
    """

    __slots__ = ("_kept", "_wanted_count", "address", "pointer")

    def __init__(self, names: Names, symbols: memoryview, wanted_names: Names, wanted: memoryview, types: Sequence[int]) -> None:
        self._kept = names, wanted_names
        self._wanted_count = wanted_names.count
        parts = ffi.new("pl_symbols_parts *")
        parts.names, parts.offsets, parts.name_count = names.text, names.offsets, names.count
        parts.wanted_names, parts.wanted_offsets = wanted_names.text, wanted_names.offsets
        packed, packed_wanted = ffi.from_buffer(symbols), ffi.from_buffer(wanted)
        parts.symbols, parts.symbol_count = ffi.cast("pl_symbol *", packed), len(symbols) // SYMBOL.size
        parts.wanted, parts.wanted_count = ffi.cast("pl_wanted *", packed_wanted), wanted_names.count
        numbers = ffi.new("uint64_t[]", types)
        parts.types, parts.type_count = numbers, len(types)
        if len(wanted) != wanted_names.count * WANTED.size or not lib.pl_symbols_check(parts):
            raise ValueError("not the symbols of a module")
        self.pointer = ffi.gc(lib.pl_symbols_new(parts), lib.pl_symbols_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a module's symbols")
        self.address = int(ffi.cast("uintptr_t", self.pointer))

    def resolve(self, scope: Candidates, memory_base: int, table_base: int) -> Resolved:
        """Decide the imports, as far as that is the core's."""
        count = self._wanted_count
        resolved = ffi.new("pl_resolved *")
        sources = resolved.sources = ffi.new("pl_source[]", count)
        numbers = resolved.rest = ffi.new("uint32_t[]", count + scope.count)
        resolved.used = numbers + count
        late = resolved.late = ffi.new("pl_late[]", count)
        scope.stamp += 1
        lib.pl_symbols_resolve(self.pointer, scope.pointer, scope.count, memory_base, table_base, scope.stamp, resolved)
        left, late_count, used = resolved.rest_count, resolved.late_count, resolved.used_count
        return Resolved(
            sources,
            ffi.unpack(numbers, left) if left else (),
            memoryview(bytes(ffi.buffer(late[0:late_count]))).cast("I") if late_count else (),
            ffi.unpack(resolved.used, used) if used else (),
        )


class Resolved(NamedTuple):
    """What the core found out about the imports of a module (``pl_resolved``).

    ``sources`` of all; ``rest``, the indexes of those it has not decided; ``late``, three numbers for each that is bound late: the index of
    the import, the number of the module in the scope, and the position of its export; ``used``, the numbers of the modules that imports
    were found in.
    """

    sources: Sources
    rest: Sequence[int]
    late: Sequence[int]
    used: Sequence[int]


class Candidates:
    """The modules of a scope, as the core looks names up in them; ``packed`` are CANDIDATE records of modules that live as long."""

    __slots__ = ("_packed", "count", "pointer", "stamp")

    def __init__(self, packed: bytearray) -> None:
        self._packed = packed
        self.count = len(packed) // CANDIDATE.size
        self.pointer = ffi.cast("pl_candidate *", ffi.from_buffer(packed))
        self.stamp = 0

    def set(self, number: int, record: bytes) -> None:
        """Say what a module is from now on."""
        self._packed[number * CANDIDATE.size : (number + 1) * CANDIDATE.size] = record

    def find(self, name: str) -> int | None:
        """Return the number of the first module that defines a name, or None."""
        encoded = name.encode()
        number = int(lib.pl_symbols_find(self.pointer, self.count, encoded, len(encoded)))
        return number if number < self.count else None


Sources: TypeAlias = Any
"""A ``pl_source[]``: what the imports of a library mean."""


def put_source(sources: Sources, index: int, packed: bytes) -> None:
    """Write one of them."""
    ffi.memmove(sources + index, packed, SOURCE.size)


class Shape:
    """What of a Library follows from its module's bytes alone, to be filled in once.

    ``slot_exports`` are the exported functions that get slots of their own, ``roles`` the exports with a role of their own, by the name of
    the C member without ``export_``; exports are counted in the module's order.
    """

    __slots__ = ("_kept", "parts")

    def __init__(self, names: Names, slot_exports: array.array[int], roles: Mapping[str, int]) -> None:
        parts = self.parts = ffi.new("pl_library_parts *")
        slots = ffi.from_buffer("uint32_t[]", slot_exports)
        self._kept = names, slots
        parts.names = names.text
        parts.offsets = names.offsets
        parts.export_count = names.count
        parts.slot_exports = slots
        parts.slot_count = len(slot_exports)
        for role in ("memory", "table", "stack_pointer", "tls_base", "tls_init", "tls_relocs", "tls_make"):
            setattr(parts, f"export_{role}", roles.get(role, -1))


class Library(Finalized):
    """A module as every group instantiates it (``csrc/library.h``).

    ``code`` and ``trampolines`` are addresses of compiled modules, ``sources`` those of all imports, ``slot_base`` the first
    of the slots of its exported functions (None: they have none). ``handles`` are host functions that go with the library; ``rewritten``
    says that waits of the code were. ``reuse`` is for instances that are to be used again (``csrc/spare.h``): the numbers of code and
    trampolines, the module's memory base and size, table base and size. ``plt`` is a library whose trampolines it uses in place of its own,
    and from which number on. The caller keeps the code.
    """

    def __init__(
        self,
        *,
        code: int,
        trampolines: int,
        trampoline_count: int,
        resolver: int,
        sources: Sources,
        shape: Shape,
        slot_base: int | None,
        place: int,
        handles: Sequence[int],
        rewritten: bool,
        reuse: tuple[int, int, int, int, int, int] | None = None,
        plt: tuple[Library, int] | None = None,
    ) -> None:
        self.handles = [*handles]
        self._shape = shape
        parts = ffi.new("pl_library_parts *", shape.parts[0])
        parts.code = ffi.cast("pl_module *", code)
        if trampoline_count:
            parts.trampolines = ffi.cast("pl_module *", trampolines)
            parts.trampoline_count = trampoline_count
            parts.resolver = resolver
        if plt is not None:
            parts.plt_of, parts.plt_base = plt[0].pointer, plt[1]
        parts.sources = sources
        parts.source_count = len(sources)
        if slot_base is None:
            parts.slot_count = 0
        else:
            parts.slot_base = slot_base
        parts.place = place
        parts.rewritten = rewritten
        if reuse is not None:
            parts.code_number, parts.trampolines_number, parts.memory_base, parts.memory_size, parts.table_base, parts.table_size = reuse
        self.pointer: Any = ffi.gc(lib.pl_library_new(parts), lib.pl_library_release)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a library")
        self.address = int(ffi.cast("uintptr_t", self.pointer))

    def set_trampolines(self, trampolines: int, count: int, resolver: int) -> None:
        """Have it have ``count`` trampolines, its own and those that others use; once, before it is loaded. ``resolver`` goes with it."""
        self.handles.append(resolver)
        if lib.pl_library_set_trampolines(self.pointer, ffi.cast("pl_module *", trampolines), count, resolver):
            raise MemoryError("no memory for a library's trampolines")

    def aim(self, index: int, target: Library, export: int) -> None:
        """Let trampoline ``index`` lead to an export of another library, in every group that calls it from now on."""
        lib.pl_library_aim(self.pointer, index, target.pointer, export)

    def aim_late(self, late: Sequence[int], addresses: array.array[int]) -> None:
        """Let the first trampolines lead to where the core has found them; ``addresses`` are those of the scope's libraries, by number."""
        found, libraries = ffi.from_buffer("pl_late[]", late), ffi.from_buffer("pl_library *[]", addresses)
        lib.pl_symbols_aim(self.pointer, found, len(found), libraries)

    def miss(self, index: int) -> None:
        """Let it lead nowhere; only while every other group is at the barrier or parked."""
        lib.pl_library_miss(self.pointer, index)

    def set_gone(self) -> None:
        """Note that it is unloaded. Under the write lock."""
        lib.pl_library_set_gone(self.pointer)

    def _drop(self) -> None:
        for handle in getattr(self, "handles", ()):
            release_host(handle)


_SLOT = struct.Struct("=Q")
assert SOURCE.size + _SLOT.size == ffi.sizeof("pl_filling")


class Operation:
    """An operation as data (``csrc/replay.h``); pairs and triples are those of the C structures. Keeps the libraries it names.

    ``fillings`` are slots with the packed sources of the host functions that go there.
    """

    __slots__ = ("_kept", "pointer")

    def __init__(
        self,
        *,
        table_size: int = 0,
        emptied: Sequence[tuple[int, int]] = (),
        unbound: Sequence[tuple[Library, int]] = (),
        dropped: Sequence[Library] = (),
        loaded: Sequence[Library] = (),
        blocks: Sequence[tuple[Library, int, int]] = (),
        patches: Sequence[tuple[Library, int, int]] = (),
        fillings: Sequence[tuple[int, bytes]] = (),
        noted: Sequence[tuple[int, int]] = (),
        closures: Sequence[tuple[int, int, int, int]] = (),
    ) -> None:
        pointer = self.pointer = ffi.new("pl_operation *")
        kept: list[Any] = [dropped, loaded]
        if unbound or blocks or patches:
            kept.append([each[0] for each in (*unbound, *blocks, *patches)])
        pointer.table_size = table_size
        if emptied:
            kept.append(packed := ffi.new("pl_slots[]", emptied))
            pointer.emptied, pointer.emptied_count = packed, len(emptied)
        if unbound:
            kept.append(packed := ffi.new("pl_unbinding[]", [(library.pointer, index) for library, index in unbound]))
            pointer.unbound, pointer.unbound_count = packed, len(unbound)
        if dropped:
            kept.append(packed := ffi.new("pl_library *[]", [library.pointer for library in dropped]))
            pointer.dropped, pointer.dropped_count = packed, len(dropped)
        if loaded:
            kept.append(packed := ffi.new("pl_library *[]", [library.pointer for library in loaded]))
            pointer.loaded, pointer.loaded_count = packed, len(loaded)
        if blocks:
            kept.append(packed := ffi.new("pl_block[]", [(library.pointer, group, address) for library, group, address in blocks]))
            pointer.blocks, pointer.block_count = packed, len(blocks)
        if patches:
            kept.append(packed := ffi.new("pl_patch[]", [(library.pointer, slot, export) for library, slot, export in patches]))
            pointer.patches, pointer.patch_count = packed, len(patches)
        if fillings:
            kept.append(buffer := ffi.from_buffer(b"".join([source + _SLOT.pack(slot) for slot, source in fillings])))
            pointer.fillings, pointer.filling_count = ffi.cast("pl_filling *", buffer), len(fillings)
        if noted:
            kept.append(packed := ffi.new("pl_slots[]", noted))
            pointer.noted, pointer.noted_count = packed, len(noted)
        if closures:
            kept.append(packed := ffi.new("pl_closure[]", len(closures)))
            for index, (slot, function, environment, code) in enumerate(closures):
                packed[index] = (slot, function, environment, ffi.cast("pl_module *", code))
            pointer.closures, pointer.closure_count = packed, len(closures)
        self._kept = kept


class Log:
    """The numbers of operations for C; the caller keeps the operations. Changed under the write lock, read under a read lock."""

    def __init__(self) -> None:
        self.pointer = ffi.gc(lib.pl_log_new(), lib.pl_log_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a log")

    @property
    def last(self) -> int:
        """The number of the newest operation."""
        return int(lib.pl_log_last(self.pointer))

    def append(self, operation: Operation | None) -> int:
        """Add the next operation (None: one that does nothing in C) and return its number."""
        number = int(lib.pl_log_append(self.pointer, operation.pointer if operation is not None else ffi.NULL))
        if not number:
            raise MemoryError("no memory for the log")
        return number

    def forget(self, number: int) -> None:
        """Drop all operations up to ``number``."""
        lib.pl_log_forget(self.pointer, number)

    def erase(self, number: int) -> None:
        """Drop one operation; it does nothing from now on but ask for the size of its table."""
        lib.pl_log_erase(self.pointer, number)


class Instances:
    """What one group has of the program (``csrc/instances.h``); ``context`` is its store's. Its own thread uses it."""

    def __init__(self, member: Member, context: Context, process: WasiProcess, *, made: Any = None) -> None:
        if made is None:
            made = lib.pl_instances_new(member.pointer, context, process.pointer, lib.pl_python_host, lib.pl_python_check, member.handle)
        self.pointer = ffi.gc(made, lib.pl_instances_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for the instances of a group")
        self.context = context
        self.member = member
        self._process = process

    @staticmethod
    def _extern(pointer: Any) -> Extern | None:
        return None if pointer == ffi.NULL else ffi.new("pl_extern *", pointer[0])

    @property
    def memory(self) -> Extern | None:
        """The memory, or None."""
        return self._extern(lib.pl_instances_memory(self.pointer))

    @memory.setter
    def memory(self, extern: Extern) -> None:
        lib.pl_instances_set_memory(self.pointer, extern)

    @property
    def table(self) -> Extern | None:
        """The function table, or None."""
        return self._extern(lib.pl_instances_table(self.pointer))

    @table.setter
    def table(self, extern: Extern) -> None:
        lib.pl_instances_set_table(self.pointer, extern)

    @property
    def memory_size(self) -> int:
        """Bytes of the memory, 0 if there is none."""
        return int(lib.pl_instances_memory_size(self.pointer))

    @property
    def table_size(self) -> int:
        """Slots of the table, 0 if there is none."""
        return int(lib.pl_instances_table_size(self.pointer))

    @property
    def has_memory(self) -> bool:
        """Whether there is a memory."""
        return bool(lib.pl_instances_memory(self.pointer) != ffi.NULL)

    @property
    def has_table(self) -> bool:
        """Whether there is a function table."""
        return bool(lib.pl_instances_table(self.pointer) != ffi.NULL)

    def read(self, address: int, size: int) -> bytes | None:
        """Return a copy of bytes of the memory, or None if they are not all inside. Neither number is negative."""
        start = lib.pl_instances_bytes(self.pointer, address, size)
        return None if start == ffi.NULL else bytes(ffi.buffer(start, size))

    def inside(self, address: int, size: int) -> bool:
        """Whether these bytes are all in the memory. Neither number is negative."""
        return bool(lib.pl_instances_bytes(self.pointer, address, size) != ffi.NULL)

    def write(self, address: int, data: bytes | memoryview, size: int) -> bool:
        """Copy ``size`` bytes into the memory; False, and nothing is done, if it does not fit. Neither number is negative."""
        start = lib.pl_instances_bytes(self.pointer, address, size)
        if start == ffi.NULL:
            return False
        ffi.memmove(start, data, size)
        return True

    def zero(self, address: int, size: int) -> bool:
        """Fill bytes of the memory with zeros; False, and nothing is done, if they are not all inside."""
        return bool(lib.pl_instances_zero(self.pointer, address, size) == 0)

    @property
    def stack_pointer(self) -> Extern | None:
        """The stack pointer's global, or None."""
        return self._extern(lib.pl_instances_stack_pointer(self.pointer))

    @stack_pointer.setter
    def stack_pointer(self, extern: Extern) -> None:
        lib.pl_instances_set_stack_pointer(self.pointer, extern)

    def set_stack_top(self, top: int) -> None:
        """Move the top of the stack; nothing to do if there is no stack pointer."""
        lib.pl_instances_set_stack_top(self.pointer, top)

    def set_thread(self, number: int) -> None:
        """Say which number the group's thread has in the guest."""
        lib.pl_instances_set_thread(self.pointer, number)

    def set_exits(self, exits: bool) -> None:  # noqa: FBT001
        """Say whether the group's thread has destructors to run at its end. By the thread itself."""
        lib.pl_instances_set_exits(self.pointer, exits)

    def connect(self) -> None:
        """Connect the WASI functions that were imported before there was a memory."""
        lib.pl_instances_connect(self.pointer)

    def apply(self, operation: Operation) -> Trouble | None:
        """Carry an operation out; returns what went wrong, or None."""
        if lib.pl_replay_operation(self.pointer, operation.pointer, self.member.handle, 0) == 0:
            return None
        return self.take_trouble()

    def take_trouble(self) -> Trouble:
        """Return the last trouble; its failure is the caller's."""
        trouble = lib.pl_instances_trouble(self.pointer)
        failure = None
        if trouble.failure.trap != ffi.NULL or trouble.failure.error != ffi.NULL or trouble.stage in (Stage.INSTANTIATE, Stage.TLS):
            failure = _moved(trouble)
        return Trouble(Stage(trouble.stage), trouble.detail, int(ffi.cast("uintptr_t", trouble.library)), failure)

    def number_calls(self) -> None:
        """Number the outermost calls, so that :meth:`Shared.stop` can stop one. For the only group of a linker, before it runs code."""
        lib.pl_instances_number_calls(self.pointer)

    @property
    def is_running(self) -> bool:
        """Whether the guest is in a call by the host, on a stack that reaches here: then the store must stay."""
        return bool(lib.pl_instances_is_running(self.pointer))

    def has(self, library: Library) -> bool:
        """Whether the library is instantiated."""
        return bool(lib.pl_instances_serial(self.pointer, library.pointer))

    def export(self, library: Library, index: int) -> Extern | None:
        """Return an export of a library, by its number; None if there is none."""
        extern = ffi.new("pl_extern *")
        return extern if lib.pl_instances_export(self.pointer, library.pointer, index, extern) == 0 else None

    def tls_base(self, library: Library) -> int:
        """Return the address of a library's thread-local block, 0 if it has none."""
        return int(lib.pl_instances_tls_base(self.pointer, library.pointer))

    def resolver_entries(self, library: Library) -> int:
        """Return how often calls of the library had to be resolved."""
        return int(lib.pl_instances_resolver_entries(self.pointer, library.pointer))

    def bind(self, library: Library, index: int, target: Library, export: int) -> bool:
        """Let a trampoline lead to an export; False if one of the two is not instantiated."""
        return bool(lib.pl_instances_bind(self.pointer, library.pointer, index, target.pointer, export) == 0)

    def call(self, func: Func, raw: Values, count: int) -> None:
        """Call a function; arguments are taken from ``raw`` and results are left there. Blocks while the guest runs.

        Raises Failure with neither trap nor error if the linker is cancelled and the guest was not called. Otherwise a failure leaves the
        stack pointer as it was.
        """
        failure = new_failure()
        if lib.pl_instances_call(self.pointer, func, raw, count, failure):
            raise Failure(failure)

    def run(self, library: Library, index: int) -> bool:
        """Call an exported function of type () -> (), like :meth:`call`; False if it is not there. Blocks while the guest runs."""
        failure = new_failure()
        status = lib.pl_instances_run(self.pointer, library.pointer, index, failure)
        if status > 0:
            raise Failure(failure)
        return bool(status == 0)

    def know_type(self, changes: int, slot: int, signature: Signature | None) -> None:
        """Keep the type of the function in a slot as of ``changes``; None: there is none that anybody knows. ``signature`` must stay."""
        lib.pl_calls_put(lib.pl_instances_calls(self.pointer), changes, slot, ffi.NULL if signature is None else signature.record)

    def remember(self, changes: int, handle: int, scope: int, name: bytes, value: int) -> None:
        """Keep what a ``dlsym`` of the host function ``handle`` found, as of ``changes``."""
        lib.pl_names_put(lib.pl_instances_names(self.pointer), changes, handle, scope, name, len(name), value)


class Signature:
    """A type as one group calls functions of it (``pl_signature``): a function that invokes them, and the numbers of its value types.

    ``invoke`` is None if there are values that are no numbers.
    """

    __slots__ = ("_types", "record")

    def __init__(self, invoke: Func | None, params: Sequence[int], results: Sequence[int]) -> None:
        self._types = ffi.new("uint8_t[]", bytes((*params, *results)) + b"\0")
        self.record = ffi.new("pl_signature *")
        if invoke is not None:
            self.record.invoke = invoke[0]
        self.record.param_count = len(params)
        self.record.result_count = len(results)
        self.record.types = self._types


class Birth(NamedTuple):
    """What :func:`give_birth` made: a store, its watch (keep it as long as the store), what is in it, and what went wrong, or None."""

    store: Store
    watch: object
    instances: Instances
    trouble: Trouble | None


def give_birth(
    engine_address: int,
    member: Member,
    process: WasiProcess,
    *,
    memory_limit: int,
    table_limit: int,
    preempt: bool,
    memory: Extern,
    table_type: int,
    stack_pointer_type: int,
    stack_top: int,
    everything: Operation,
    blocks: Sequence[tuple[Library, int, int]],
) -> Birth:
    """Make a store for a new group, with all that is loaded (``csrc/birth.h``). Types are addresses, 0 for what the main module brings.

    Blocks while guest code initialises thread-local data.
    """
    watch = _new_watch(member, preempt=preempt)
    birth = ffi.new("pl_birth *")
    birth.engine = ffi.cast("pl_engine *", engine_address)
    birth.group = member.pointer
    birth.handle = member.handle
    birth.process = process.pointer
    birth.callback = lib.pl_python_host
    birth.check = lib.pl_python_check
    birth.watch = watch
    birth.memory_limit = memory_limit
    birth.table_limit = table_limit
    birth.memory = memory
    birth.table = ffi.cast("pl_type *", table_type)
    birth.stack_pointer = ffi.cast("pl_type *", stack_pointer_type)
    birth.stack_top = stack_top
    birth.everything = everything.pointer
    if blocks:
        packed = ffi.new("pl_block[]", [(library.pointer, group, address) for library, group, address in blocks])
        birth.blocks = packed
        birth.block_count = len(blocks)
    failed = lib.pl_birth_give(birth)
    store = Store(engine_address, memory=memory_limit, table=table_limit, made=birth.store)
    instances = Instances(member, store.context, process, made=birth.instances)
    return Birth(store, watch, instances, instances.take_trouble() if failed else None)


# Threads

_threads: dict[int, NativeThread] = {}
"""The threads that run, or have ended by themselves and were not taken, by handle."""
_thread_handles = itertools.count(1)


@ffi.def_extern(error=1)  # type: ignore[untyped-decorator]
def pl_python_ended(handle: int) -> int:
    """Tell whoever started the thread what came of it."""
    _threads.pop(handle).tell()
    return 0


class NativeThread:
    """An OS thread of the core's, for a call of a function of i32 arguments as the thread of a group.

    If the function returns, the group is dead, ``over`` (``uint32_t *``) becomes 1 and ``key`` is woken, and the thread waits to be taken
    by :meth:`Shared.next_ended`, whose caller takes the group out and calls ``left``. Where that cannot be, or it did not return, ``ended``
    is called on the thread at the end, with what went wrong or None; it must not raise.
    """

    __slots__ = ("_ended", "_over", "_record", "left")

    def __init__(
        self,
        instances: Instances,
        arguments: Sequence[int],
        ended: Callable[[Failure | None], None],
        left: Callable[[Any], None],
        *,
        over: Any,
        key: int,
    ) -> None:
        record = self._record = ffi.new("pl_thread *")
        self._ended = ended
        self._over = record.over = over
        self.left = left
        record.key = key
        record.instances = instances.pointer
        record.count = max(len(arguments), 1)
        record.ended = lib.pl_python_ended
        record.ending.handle = next(_thread_handles)
        for index, argument in enumerate(arguments):
            record.values[index].i64 = argument

    @property
    def started(self) -> bool:
        """Whether there is a thread, or was: also after :meth:`start` was interrupted."""
        return bool(self._record.started)

    def tell(self) -> None:
        """Tell what came of the thread."""
        self._ended(_moved(self._record) if self._record.status else None)

    def start(self, library: Library, export: int) -> None:
        """Call an exported function on the thread. MemoryError if there can be no more threads."""
        handle = self._record.ending.handle
        _threads[handle] = self
        try:
            result = lib.pl_thread_start(self._record, library.pointer, export)
        finally:
            if not self._record.started:
                del _threads[handle]
        if result == lib.PL_THREAD_LOST:
            raise InternalError("the function that a thread begins with is not in its group")
        if result:
            raise MemoryError("no more threads can be started")


# Files

SEARCH_CALLER: int = lib.PL_SEARCH_CALLER
SEARCH_DIRECTORY: int = lib.PL_SEARCH_DIRECTORY
SEARCH_SPECIAL: int = lib.PL_SEARCH_SPECIAL
_LINK_MAX = 4096
"""Bytes of a link that is too long: no path may have so many."""


class RegularFile(Finalized):
    """A regular file that is open, to be read once (``csrc/search.h``). It closes itself."""

    __slots__ = ("_file",)

    def __init__(self) -> None:
        self._file = ffi.new("pl_file *", (-1, 0))

    def read(self, limit: int) -> bytes | None:
        """Return its bytes, or None if there are more than ``limit``. Raises OSError."""
        handle, size = self._file.handle, self._file.size
        if size > limit:
            return None
        data = os.read(handle, size + 1)  # one more: the end is seen with the contents
        if len(data) == size:
            return data
        parts = [data]
        while part := os.read(handle, 1 << 16):  # it came in pieces, or has grown meanwhile
            parts.append(part)
            if sum(map(len, parts)) > limit:
                return None
        data = b"".join(parts)
        return data if len(data) <= limit else None

    def _drop(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            lib.pl_file_close(file)


class Directory(Finalized):
    """A directory that was granted (``pl_root``): a descriptor of it, or none where it is not there yet. It closes itself.

    ``path`` is absolute and has no links. ``held`` says whether to keep a descriptor; without one it is opened for each search.
    """

    __slots__ = ("__weakref__", "_path", "_root")

    def __init__(self, path: bytes, *, held: bool = True) -> None:
        self._path = ffi.new("char[]", path)
        self._root = ffi.new("pl_root *", (-1, self._path))
        if held:
            lib.pl_root_open(self._root, self._path)  # what keeps it from being opened is said by each search

    @property
    def identity(self) -> tuple[int, int] | None:
        """The device and the number of the directory, which no other has while this is open; None without a descriptor."""
        if self._root.handle < 0:
            return None
        status = os.fstat(self._root.handle)
        return status.st_dev, status.st_ino

    def link(self, path: bytes) -> bytes:
        """Return what the link ``path`` leads to. Raises OSError: EINVAL if it is no link, ELOOP if a part before the last is one."""
        target = ffi.new("char[]", _LINK_MAX)
        length = lib.pl_search_link(self._root, path, target, _LINK_MAX)
        if length < 0 or length == _LINK_MAX:
            problem = -length if length < 0 else errno.ENAMETOOLONG
            raise OSError(problem, os.strerror(problem))
        return bytes(ffi.buffer(target, length))

    def _drop(self) -> None:
        root = getattr(self, "_root", None)
        if root is not None:
            lib.pl_root_close(root)


class Places:
    """Where to look for a file (``pl_place``): each a directory, and what comes before the name in it ("" or with a slash at its end).

    None is a place that the caller looks at.
    """

    __slots__ = ("_kept", "_places", "count")

    def __init__(self, places: Sequence[tuple[Directory, bytes] | None]) -> None:
        self.count = len(places)
        self._kept = [None if place is None else (place[0], ffi.new("char[]", place[1])) for place in places]
        self._places = ffi.new("pl_place[]", self.count)
        for index, kept in enumerate(self._kept):
            if kept is not None:
                directory, prefix = kept
                self._places[index] = (directory._root, prefix, len(prefix) - 1)

    def search(self, name: bytes, first: int, file: RegularFile) -> tuple[int, Sequence[int]]:
        """Look for a file from the place numbered ``first`` on, and open it.

        Returns the number of the place that has it, or of the first one that is the caller's to look at, or ``count``; and why each place
        from ``first`` on is not the one: an errno, or a ``SEARCH_`` number, 0 for the one that is.
        """
        count = self.count - first
        problems = ffi.new("int32_t[]", count)
        number = lib.pl_search(self._places + first, count, name, len(name), problems, file._file)
        return first + number, problems


def search_by_component(wanted: bool) -> None:  # noqa: FBT001
    """Say whether files are found without ``openat2``, as on a system that has none; for tests."""
    lib.pl_search_by_component(wanted)


def current_member() -> int:
    """Return the handle of the member whose thread the calling thread is, 0 if it is none."""
    return int(lib.pl_handle_of_thread())


# Calls from Python

OK: int = lib.PL_OK
CLOSED: int = lib.PL_CLOSED
TAKEN: int = lib.PL_TAKEN
ELSEWHERE: int = lib.PL_ELSEWHERE
RANGE: int = lib.PL_RANGE
BOUND_LIMIT: int = lib.pl_bound_limit()
"""What a bound call returns below this is asked of :func:`take_outcome`."""
BOUND_LIMIT_DOUBLE: float = lib.pl_bound_limit_double()
"""The same of a call that returns a double."""


class BoundKind(enum.IntEnum):
    """How a value is passed to a bound function (``enum pl_bound_kind``)."""

    NONE = lib.PL_BOUND_NONE
    I32 = lib.PL_BOUND_I32
    I64 = lib.PL_BOUND_I64
    F32 = lib.PL_BOUND_F32
    F64 = lib.PL_BOUND_F64
    OTHER = lib.PL_BOUND_OTHER


_INTEGERS = frozenset({BoundKind.I32, BoundKind.I64})
_DOUBLES = frozenset({BoundKind.F32, BoundKind.F64})
_INTEGER_CALLS = tuple(getattr(lib, f"pl_bound_call{count}") for count in range(7))
_DOUBLE_CALLS = (None, lib.pl_bound_double1, lib.pl_bound_double2, lib.pl_bound_double3)


class Turn:
    """The right to use the main group, for threads that have no group of their own (``csrc/turn.h``). Recursive."""

    def __init__(self) -> None:
        self.pointer = ffi.gc(lib.pl_turn_new(), lib.pl_turn_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a turn")

    @property
    def depth(self) -> int:
        """How often the calling thread has it."""
        return int(lib.pl_turn_depth(self.pointer))

    def restore(self, depth: int) -> None:
        """Give it back until the calling thread has it ``depth`` times. A second time does nothing."""
        lib.pl_turn_restore(self.pointer, depth)

    def take(self, give_up: Callable[[], None] | None) -> None:
        """Take the turn, within a :class:`Scope` that restores the depth. Blocks.

        Signals are handled meanwhile, and ``give_up`` is called now and then, which may raise.
        """
        if not lib.pl_turn_try(self.pointer):
            while not lib.pl_turn_wait(self.pointer, lib.PL_SLICE):
                if give_up is not None:
                    give_up()

    def taken(self, give_up: Callable[[], None] | None = None) -> Taken:
        """Return a context manager that takes the turn as :meth:`take` does."""
        return Taken(self, give_up)

    @property
    def is_elsewhere(self) -> bool:
        """Whether another thread has the turn; it may have given it back meanwhile."""
        return self.holder not in (0, thread_identity())

    @property
    def holder(self) -> int:
        """The :func:`thread_identity` of the thread that has the turn, 0 if there is none."""
        return int(lib.pl_turn_holder(self.pointer))


class Taken(Scope):
    """A turn, from entering to leaving."""

    __slots__ = ("_depth", "_give_up", "_turn")

    def __init__(self, turn: Turn, give_up: Callable[[], None] | None) -> None:
        self._turn = turn
        self._give_up = give_up
        self._depth = turn.depth

    def enter(self) -> None:
        """Take it."""
        self._turn.take(self._give_up)

    def leave(self, _error: BaseException | None) -> None:
        """Give it back."""
        self._turn.restore(self._depth)


def has_room_for_thread(stack: int) -> bool:
    """Whether there is address space for a thread with a stack of so many bytes (0: the default), and for what it needs besides."""
    return bool(lib.pl_thread_has_room(stack))


def thread_identity() -> int:
    """Return what tells the calling thread from all others that live, as :attr:`Turn.holder` does."""
    return int(lib.pl_turn_me())


def enter_thread(member: Member | None) -> None:
    """Say whose group's thread the calling thread is from now on; None: no group's."""
    lib.pl_group_enter_thread(member.pointer if member is not None else ffi.NULL)


class Bound:
    """A function of a library in one group, ready to be called (``csrc/bound.h``).

    ``call`` is the C function for its type, or None where only :meth:`raw` can call it; its first argument is ``record``. ``shared`` is
    the linker's, also once it is closed.
    """

    __slots__ = ("__weakref__", "_kept", "call", "record", "shared")

    def __init__(
        self,
        instances: Instances,
        library: Library,
        func: Func,
        params: Sequence[BoundKind],
        results: Sequence[BoundKind],
        turn: Turn | None,
    ) -> None:
        self.record = ffi.new("pl_bound *")
        self.record.open = 1
        self.record.turn = turn.pointer if turn is not None else ffi.NULL
        self.record.instances = instances.pointer
        self.record.group = instances.member.pointer
        self.record.library = library.pointer
        self.record.serial = lib.pl_instances_serial(instances.pointer, library.pointer)
        self.record.func = func[0]
        self.record.count = max(len(params), len(results))
        result = results[0] if results else BoundKind.NONE
        self.record.result = result
        self.call = bound_call(params, results)
        if self.call is not None:
            self.record.params[0 : len(params)] = params
        self.shared = instances.member.shared
        self._kept: tuple[object, ...] = (instances, library, turn)

    @property
    def is_open(self) -> bool:
        """Whether it may be called."""
        return bool(self.record.open)

    def close(self) -> None:
        """Let nobody in any more, and let go of the group. The caller has the turn, or is the group's thread."""
        lib.pl_bound_close(self.record)
        self._kept = self._kept[2:]  # the turn stays: who comes late still asks for it

    def raw(self, raw: Values) -> Outcome:
        """Call with raw values."""
        failure = new_failure()
        status = lib.pl_bound_raw(self.record, raw, failure)
        return Outcome(status, 0, Failure(failure) if status else None, None)


def bound_call(params: Sequence[BoundKind], results: Sequence[BoundKind]) -> Any:
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
    """What one bound call came to: status, which argument was out of range (from 0), what failed, and the result if all is OK."""

    status: int
    argument: int
    failure: Failure | None
    result: float | None


def take_outcome(result: Any) -> Outcome:
    """Return what the calling thread's call came to that returned ``result``, which is below the limit. Once."""
    outcome = ffi.gc(ffi.new("pl_outcome *"), lib.pl_outcome_release)
    take = lib.pl_bound_take_double if isinstance(result, float) else lib.pl_bound_take
    if not take(result, outcome):
        if result == -math.inf:
            return Outcome(OK, 0, None, result)
        raise InternalError("what a call came to was dropped before it was read")
    if outcome.status == OK:
        return Outcome(OK, 0, None, outcome.value.f64 if isinstance(result, float) else outcome.value.i64)
    return Outcome(outcome.status, outcome.argument, _moved(outcome), None)


def forget_outcomes() -> None:
    """Drop what calls of the calling frame came to, and calls of frames that have ended: their readers were interrupted."""
    lib.pl_bound_forget()
