"""The seam between Python and the C core: the only module that imports the compiled ``pylinker._core``.

Everything that crosses is checked here for kind and range; wasmtime's objects travel as plain addresses (``int``). A function
raises :class:`Failure` when wasmtime hands back a trap or an error; who owns wasmtime's Python side turns it into the exception a
user knows (:mod:`pylinker.runtime.failures`).

Threads: a call takes as long as the guest runs and releases the GIL; the store behind ``context`` belongs to the calling thread
for the duration.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from pylinker._core import ffi, lib
from pylinker.errors import InternalError

__all__ = [
    "ACQUIRE",
    "ACQUIRED",
    "BUSY",
    "CANCELLED",
    "CAUSE_BUS",
    "CAUSE_CLOSED",
    "CAUSE_INTERRUPTED",
    "CAUSE_LEADER",
    "CAUSE_REPLAY",
    "DEAD",
    "EXTERN_FUNC",
    "EXTERN_GLOBAL",
    "EXTERN_MEMORY",
    "EXTERN_SHARED_MEMORY",
    "EXTERN_TABLE",
    "EXTERN_TAG",
    "NULL",
    "PARKED",
    "POISONED",
    "RELAXED",
    "RUNNING",
    "SEQ_CST",
    "TIMEOUT",
    "WASI_PLAIN",
    "WASI_POLL",
    "WASI_READ",
    "Backoff",
    "Context",
    "Extern",
    "Failure",
    "Func",
    "HostFunction",
    "Instance",
    "Member",
    "Participant",
    "Shared",
    "Values",
    "WasiCall",
    "WasiProcess",
    "call",
    "context_at",
    "epoch_bump",
    "epoch_tick",
    "export",
    "extern_at",
    "extern_of_shared_memory",
    "func_of",
    "global_get",
    "global_new",
    "global_set",
    "imports_of",
    "instantiate",
    "load_api",
    "memory_buffer",
    "memory_grow",
    "memory_new",
    "memory_size",
    "sizes",
    "table_get",
    "table_grow",
    "table_new",
    "table_set",
    "table_size",
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


class Failure(Exception):  # noqa: N818 - not an error a user meets: it carries one to where it can be named
    """wasmtime returned a trap or an error: one of ``trap`` and ``error`` is an address, which the receiver owns.

    Neither is: the linker is cancelled, and wasmtime was not asked.
    """

    def __init__(self, *, trap: int = 0, error: int = 0) -> None:
        super().__init__(f"trap {trap:#x}" if trap else f"error {error:#x}" if error else "cancelled")
        self.trap = trap
        self.error = error


def load_api(address_of: Callable[[str], int]) -> None:
    """Fill the core's table of wasmtime functions; ``address_of`` answers the address of a C function by name, or raises."""
    for index in itertools.count():
        name = lib.pl_api_name(index)
        if name == ffi.NULL:
            break
        lib.pl_api_set(index, ffi.cast("void *", address_of(ffi.string(name).decode())))
    missing = lib.pl_api_missing()
    if missing != ffi.NULL:
        raise InternalError(f"no address for {ffi.string(missing).decode()}")


def sizes() -> dict[str, int]:
    """Return the sizes in bytes of the structures the core shares with wasmtime, by wasmtime's names."""
    return {
        "wasmtime_extern_t": ffi.sizeof("pl_extern"),
        "wasmtime_func_t": ffi.sizeof("pl_func"),
        "wasmtime_global_t": ffi.sizeof("pl_global"),
        "wasmtime_instance_t": ffi.sizeof("pl_instance"),
        "wasmtime_memory_t": ffi.sizeof("pl_memory"),
        "wasmtime_table_t": ffi.sizeof("pl_table"),
        "wasmtime_val_raw_t": ffi.sizeof("pl_value"),
        "wasmtime_val_t": ffi.sizeof("pl_cell"),
    }


def context_at(address: int) -> Context:
    """Return the store context at ``address`` (a ``wasmtime_context_t *``)."""
    return ffi.cast("pl_context *", address)


def _check(error: Any) -> None:
    if error != ffi.NULL:
        raise Failure(error=int(ffi.cast("uintptr_t", error)))


def _raise(failure: Any) -> None:
    raise Failure(
        trap=int(ffi.cast("uintptr_t", failure.trap)),
        error=int(ffi.cast("uintptr_t", failure.error)),
    )


# Calls


def values(count: int) -> Values:
    """Return room for ``count`` raw values (16 bytes each, zeroed)."""
    return ffi.new("pl_value[]", count)


def call(member: Member, context: Context, func: Func, raw: Values, count: int) -> None:
    """Call ``func`` as the thread of ``member``; arguments are taken from ``raw`` and results are left there.

    Blocks while the guest runs. Raises Failure with neither trap nor error if the linker is cancelled and the guest was not called.
    """
    failure = ffi.new("pl_failure *")
    if lib.pl_call(member.pointer, context, func, raw, count, failure):
        _raise(failure)


# Host functions


class _HostTarget(NamedTuple):
    function: Callable[[Values], None]
    keep: Callable[[BaseException], None]


_host_functions: dict[int, _HostTarget] = {}
_host_handles = itertools.count(1)


def _keep_of_host(_kind: object, error: BaseException | None, traceback: Any) -> int:
    """Keep what came before or after the callback's own ``try``: a signal's exception may come anywhere."""
    handle = traceback.tb_frame.f_locals.get("handle") if traceback else None
    if handle in _host_functions and error is not None:
        _host_functions[handle].keep(error)
    return -1


@ffi.def_extern(error=-1, onerror=_keep_of_host)  # type: ignore[untyped-decorator]
def pl_python_host(handle: int, raw: Values, count: int, message: Any, capacity: int) -> int:  # noqa: ARG001
    """Run the Python function behind ``handle``; whatever it raises is kept, and becomes the message of a trap."""
    try:
        _host_functions[handle].function(raw)
    except BaseException as error:  # noqa: BLE001 - it is raised again by the call that entered the guest
        _host_functions[handle].keep(error)
        text = str(error).encode("utf-8", "replace")[: capacity - 1]
        ffi.memmove(message, text + b"\0", len(text) + 1)
        return 1
    return 0


class HostFunction:
    """A Python callable that a guest can import.

    It gets the raw values (arguments in, results out), and runs while the group of ``member`` is parked. What it raises is given to
    ``keep``, and the guest traps. Keep the object as long as its
    store lives: wasmtime keeps its address.
    ``entries`` counts how often the guest came in.
    """

    __slots__ = ("_handle", "_record", "extern")

    def __init__(
        self,
        context: Context,
        type_address: int,
        function: Callable[[Values], None],
        keep: Callable[[BaseException], None],
        member: Member | None,
    ) -> None:
        self._handle = next(_host_handles)
        _host_functions[self._handle] = _HostTarget(function, keep)
        group = member.pointer if member else ffi.NULL
        self._record = ffi.new("pl_hostfn *", {"callback": lib.pl_python_host, "handle": self._handle, "group": group})
        self.extern: Extern = ffi.new("pl_extern *")
        self.extern.kind = EXTERN_FUNC
        lib.pl_hostfn_new(context, ffi.cast("pl_type *", type_address), self._record, ffi.addressof(self.extern.of, "func"))

    @property
    def entries(self) -> int:
        """How often the guest has called this function."""
        return int(self._record.entries)

    def release(self) -> None:
        """Let go of the Python callable; only after the last call of the guest."""
        _host_functions.pop(self._handle, None)

    def __del__(self) -> None:
        self.release()


# One dynamic-link universe

RELAXED: int = lib.PL_RELAXED
ACQUIRE: int = lib.PL_ACQUIRE
SEQ_CST: int = lib.PL_SEQ_CST

ACQUIRED: int = lib.PL_ACQUIRED
BUSY: int = lib.PL_BUSY
POISONED: int = lib.PL_POISONED
TIMEOUT: int = lib.PL_TIMEOUT
CANCELLED: int = lib.PL_CANCELLED

PARKED: int = lib.PL_PARKED
RUNNING: int = lib.PL_RUNNING
DEAD: int = lib.PL_DEAD

CAUSE_CLOSED: int = lib.PL_CAUSE_CLOSED
CAUSE_LEADER: int = lib.PL_CAUSE_LEADER
CAUSE_REPLAY: int = lib.PL_CAUSE_REPLAY
CAUSE_BUS: int = lib.PL_CAUSE_BUS
CAUSE_INTERRUPTED: int = lib.PL_CAUSE_INTERRUPTED


NULL: Any = ffi.NULL


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
    return min(int(timeout * 1e9), 1 << 62)


class Shared:
    """The flag, the lock, the gate, the buses and the cancellation of one linker (``csrc/shared.h``). Safe to use from all threads.

    ``reason`` is the exception that came with the first cause, or None.
    """

    def __init__(self) -> None:
        self.pointer = ffi.gc(lib.pl_shared_new(), lib.pl_shared_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for the linker's locks")
        self.reason: BaseException | None = None
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

    @property
    def cause(self) -> int:
        """Why it was cancelled, 0 if it was not."""
        return int(lib.pl_cancel_cause(self._cancel))

    def try_read(self) -> int:
        """Try to take the lock for reading: ACQUIRED, BUSY or POISONED."""
        return int(lib.pl_rwlock_try_read(self._lock))

    def try_write(self) -> int:
        """Try to take the lock for writing: ACQUIRED, BUSY or POISONED."""
        return int(lib.pl_rwlock_try_write(self._lock))

    def write(self, timeout: float | None) -> int:
        """Take the lock for writing, waiting for it: ACQUIRED, POISONED, TIMEOUT or CANCELLED."""
        return int(lib.pl_rwlock_write(self._lock, self._cancel, nanoseconds(timeout)))

    def downgrade(self) -> None:
        """Turn the write lock into a read lock without a gap."""
        lib.pl_rwlock_downgrade(self._lock)

    def release_read(self) -> None:
        """Give up a read lock."""
        lib.pl_rwlock_release_read(self._lock)

    def release_write(self) -> None:
        """Give up the write lock."""
        lib.pl_rwlock_release_write(self._lock)

    def poison(self) -> None:
        """Give up the write lock for good: what it guards is broken."""
        lib.pl_rwlock_poison(self._lock)

    @property
    def readers(self) -> int:
        """How many hold the lock for reading, -1 while it is held for writing."""
        return int(lib.pl_rwlock_readers(self._lock))

    def try_acquire_token(self) -> int:
        """Return the number of the topology token, or 0 while it is out."""
        return int(lib.pl_gate_try_acquire(self._gate))

    def release_token(self, token: int) -> bool:
        """Give the topology token back; False if this one is not out."""
        return bool(lib.pl_gate_release(self._gate, token) == 0)

    @property
    def token(self) -> int:
        """The number of the token that is out, or 0."""
        return int(lib.pl_gate_holder(self._gate))

    @property
    def receivers(self) -> tuple[int, int]:
        """How many receivers the buses of barriers and of operations have."""
        return int(lib.pl_bus_receivers(self._barriers)), int(lib.pl_bus_receivers(self._operations))

    @property
    def published(self) -> int:
        """The number of the newest operation."""
        return int(lib.pl_bus_sent(self._operations))

    @property
    def applied_by_all(self) -> int:
        """The newest operation that every living group has replayed."""
        return int(lib.pl_shared_applied_by_all(self.pointer))


class Participant(Protocol):
    """What a member calls back, on the thread of its group."""

    def replay(self, first: int, last: int) -> None:
        """Carry out the operations with these numbers, both included."""

    def check(self) -> None:
        """Do nothing; an exception, such as that of a signal handler, stops the guest."""


_members: dict[int, weakref.ref[Member]] = {}
_member_handles = itertools.count(1)


class Member:
    """One group in a rendezvous: its safepoint and what it has replayed (``pl_group``). Make and free it under the write lock."""

    def __init__(self, shared: Shared, participant: Participant) -> None:
        self.shared = shared
        self.handle = next(_member_handles)
        self.failure: BaseException | None = None
        self._participant = weakref.ref(participant)
        self._pointer = lib.pl_group_new(shared.pointer, self.handle, lib.pl_python_replay, lib.pl_python_check)
        if self._pointer == ffi.NULL:
            raise MemoryError("no memory for a group")
        self._safepoint = lib.pl_group_safepoint(self._pointer)
        self._last_applied = 0
        _members[self.handle] = weakref.ref(self)

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
    def is_behind(self) -> bool:
        """Whether there is something to replay before guest code may run."""
        return bool(lib.pl_group_is_behind(self.pointer))

    def die(self) -> None:
        """Leave every rendezvous for good."""
        if self._pointer != ffi.NULL:
            lib.pl_safepoint_die(self._safepoint)

    def follow(self) -> int:
        """Take part in what is pending: ACQUIRED, CANCELLED or POISONED. Blocks until the leader has published."""
        return int(lib.pl_follow(self.pointer))

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

    def publish(self) -> int:
        """Publish the operation and return its number, 0 if the protocol is broken. The write lock is a read lock then."""
        return int(lib.pl_lead_publish(self.pointer))

    def finish(self) -> int:
        """Wait until everybody who arrived has replayed, and release the read lock: ACQUIRED or CANCELLED."""
        return int(lib.pl_lead_finish(self.pointer))

    def withdraw(self) -> int:
        """Publish an operation that does nothing; the write lock stays. Returns its number, 0 if the protocol is broken."""
        return int(lib.pl_lead_withdraw(self.pointer))

    def free(self) -> None:
        """Leave the linker. A second time does nothing."""
        self._last_applied = self.applied
        pointer, self._pointer = self._pointer, ffi.NULL
        if pointer != ffi.NULL:
            _members.pop(self.handle, None)
            lib.pl_group_free(pointer)

    def __del__(self) -> None:
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
    if member is not None and member.failure is None:
        member.failure = error
        # Here, before C cancels the linker for it and others look for the reason.
        if member.shared.reason is None and not member.shared.cause:
            member.shared.reason = error
    return 1


@ffi.def_extern(error=1, onerror=_keep)  # type: ignore[untyped-decorator]
def pl_python_replay(handle: int, first: int, last: int) -> int:
    """Replay operations in the group behind ``handle``."""
    _member(handle).participant.replay(first, last)
    return 0


@ffi.def_extern(error=1, onerror=_keep)  # type: ignore[untyped-decorator]
def pl_python_check(handle: int) -> int:
    """Let the interpreter run what a signal has left to do; this is only different from nothing on the main thread."""
    _member(handle).participant.check()
    return 0


# Guests that make no calls


def epoch_tick(engine_address: int, interval: float) -> None:
    """Move the epoch of an engine every ``interval`` seconds from now on."""
    lib.pl_epoch_main_thread(threading.main_thread().ident or 0)
    if lib.pl_epoch_tick(ffi.cast("pl_engine *", engine_address), nanoseconds(interval)):
        raise MemoryError("no thread for the epoch")


def epoch_bump(engine_address: int) -> None:
    """Move the epoch of an engine now."""
    lib.pl_epoch_bump(ffi.cast("pl_engine *", engine_address))


def watch(store_address: int, context: Context, member: Member, *, preempt: bool) -> object:
    """Watch the guest of a store: it stops when its linker is cancelled or a check fails. Keep what is returned as long as the store."""
    record = ffi.new(
        "pl_watch *",
        {"group": member.pointer, "check": lib.pl_python_check, "handle": member.handle, "preempt": preempt},
    )
    lib.pl_epoch_install(ffi.cast("pl_store *", store_address), context, record)
    return record


# WASI

WASI_PLAIN: int = lib.PL_WASI_PLAIN
WASI_POLL: int = lib.PL_WASI_POLL
WASI_READ: int = lib.PL_WASI_READ


class WasiProcess:
    """The store that has a WASI process, and the mutex its callers take turns with. ``waits``: descriptor 0 is standard input itself."""

    def __init__(self, context: Context, *, waits: bool) -> None:
        self.pointer = ffi.gc(lib.pl_process_new(context, waits), lib.pl_process_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a WASI process")


class WasiCall:
    """One WASI function for the guest of one store; usable once :meth:`connect` was called. Keep it as long as the store."""

    def __init__(self, process: WasiProcess, member: Member, context: Context, type_address: int, kind: int) -> None:
        self._record = ffi.new(
            "pl_wasi_call *",
            {
                "process": process.pointer,
                "group": member.pointer,
                "context": context,
                "kind": kind,
                "check": lib.pl_python_check,
                "handle": member.handle,
            },
        )
        self._process = process
        self.extern: Extern = ffi.new("pl_extern *")
        self.extern.kind = EXTERN_FUNC
        lib.pl_wasi_new(context, ffi.cast("pl_type *", type_address), self._record, ffi.addressof(self.extern.of, "func"))

    def connect(self, target: Func, memory: Extern) -> None:
        """Say which function is called, in the process's store, and where the caller's memory is."""
        self._record.target = target[0]
        self._record.memory = memory[0]


# Instances


def extern_of_shared_memory(address: int) -> Extern:
    """Wrap a ``wasmtime_sharedmemory_t *`` as something that can be imported; the caller keeps the memory alive."""
    extern = ffi.new("pl_extern *")
    extern.kind = EXTERN_SHARED_MEMORY
    extern.of.shared_memory = ffi.cast("pl_shared_memory *", address)
    return extern


def extern_at(kind: int, address: int) -> Extern:
    """Copy a ``wasmtime_func_t``, ``_table_t``, ``_memory_t``, ``_global_t`` or ``_tag_t`` of wasmtime-py into an extern."""
    extern = ffi.new("pl_extern *")
    extern.kind = kind
    size = ffi.sizeof("pl_func") if kind == EXTERN_FUNC else ffi.sizeof("pl_handle")
    ffi.memmove(ffi.addressof(extern.of), ffi.cast("char *", address), size)
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
    failure = ffi.new("pl_failure *")
    module = ffi.cast("pl_module *", module_address)
    if lib.pl_instance_new(context, module, imports_of(externs), len(externs), instance, failure):
        _raise(failure)
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
