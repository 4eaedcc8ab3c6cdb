"""A store of wasmtime, with the raw operations of the linker.

Objects of the guest are externs of :mod:`pylinker.native`. The exception of a host function is kept
for its thread, and raised by the call that entered the guest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Concatenate, NoReturn, ParamSpec, TypeVar

import wasmtime

from pylinker.errors import InternalError, SynchronizationAborted
from pylinker.native.api import is_error_of_guest
from pylinker.native.enums import CAUSE_STOPPED, Cause
from pylinker.native.epoch import ignore_epoch, watch
from pylinker.native.failures import Failure
from pylinker.native.member import Member
from pylinker.native.objects import (
    Context,
    Extern,
    Func,
    Instance,
    Store,
    context_at,
    export,
    extern_of_shared_memory,
    func_of,
    global_get,
    global_new,
    global_set,
    instantiate,
    memory_buffer,
    memory_grow,
    memory_new,
    memory_size,
    table_get,
    table_grow,
    table_new,
    table_set,
    table_size,
)
from pylinker.native.shared import FORKED, Shared
from pylinker.native.wasi import WasiProcess
from pylinker.runtime.code import Code
from pylinker.runtime.engine import engine
from pylinker.runtime.failures import exception_of, note_trap
from pylinker.runtime.private import address_of, address_of_context
from pylinker.runtime.teardown import outlives_interpreter
from pylinker.runtime.types import i32_global_type, table_type
from pylinker.wasm import Limits, MemoryType

__all__ = ["PAGE_SIZE", "GuestStore", "what_ended_call"]

PAGE_SIZE = 1 << 16
"""Size of a page of guest memory in bytes."""

P = ParamSpec("P")
R = TypeVar("R")

_ANY = (1 << 62) - 1


def _cancelled(shared: Shared) -> BaseException:
    if shared.cause == Cause.FORKED:
        return SynchronizationAborted(f"the linker was cancelled: {FORKED}")
    if shared.cause == CAUSE_STOPPED and (reason := shared.stopped()) is not None:
        return reason  # of an outer call
    error = SynchronizationAborted("the program has ended")
    error.__cause__ = shared.reason
    return error


def _meaning(failure: Failure, shared: Shared | None) -> BaseException:
    """Return the exception for a failure of wasmtime.

    It is a Trap, ExitTrap, WasmtimeError, StackSizeError or SynchronizationAborted. Once the linker
    is cancelled, all errors except traps of the guest itself are SynchronizationAborted: wasmtime's
    text depends on where the guest was.
    """
    if not failure.trap and not failure.error:
        assert shared is not None
        return _cancelled(shared)
    # Before the error is consumed.
    is_of_guest = failure.error != 0 and is_error_of_guest(failure.error)
    exception = exception_of(failure)
    if isinstance(exception, wasmtime.Trap):
        return exception
    if shared is not None and shared.cause:
        return _cancelled(shared)
    if type(exception) is wasmtime.WasmtimeError and is_of_guest:
        # A trap that a function of the core made, for a bad pointer for example.
        return wasmtime.Trap(str(exception))
    return exception


def _why_stopped(
    failure: Failure, shared: Shared, pending: BaseException | None
) -> BaseException | None:
    """Return the reason of a stopped call, or else the pending exception."""
    if failure.stopped and (pending is None or isinstance(pending, Exception)):
        return shared.stopped(failure.stopped) or pending
    return pending


def what_ended_call(failure: Failure, shared: Shared) -> BaseException:
    """Return the exception for a failed call of the calling thread, whose store may be freed.

    It is the one that :meth:`GuestStore.raise_failure` raises.
    """
    return _why_stopped(failure, shared, failure.take_raised()) or _meaning(failure, shared)


def _limits(limits: Limits) -> wasmtime.Limits:
    return wasmtime.Limits(limits.minimum, limits.maximum)


class GuestStore:
    """A store; its memory, tables, globals and instances live as long as this object.

    The guest runs as ``member`` of its linker: it passes a safepoint on every way in and out and,
    with ``preempt``, while it runs. One thread at a time may use the store.

    Args:
        member: The member; a store without one runs no guest.
        memory: Limit in bytes of each memory, -1 for none.
        table: Limit in slots of each table, -1 for none.
        preempt: Whether running guests pass safepoints.
        hosts_process: Whether it may host a WASI process.
        made: An existing store, and its watch.
    """

    def __init__(
        self,
        member: Member | None,
        *,
        memory: int = -1,
        table: int = -1,
        preempt: bool = False,
        hosts_process: bool = False,
        made: tuple[Store, object] | None = None,
    ) -> None:
        self._kept: list[object] = []
        self._managed: wasmtime.Store | None = None
        self.member = member
        if made is not None:
            self._native, record = made
            self._address, self.context = self._native.address, self._native.context
            self.keep(record)
            return
        if hosts_process:
            self._managed = wasmtime.Store(engine())
            outlives_interpreter(self._managed)
            self._managed.set_limits(
                memory_size=memory, table_elements=table, instances=_ANY, tables=_ANY, memories=_ANY
            )
            self._address = address_of(self._managed)
            self.context = context_at(address_of_context(self._managed))
        else:
            self._native = Store(address_of(engine()), memory=memory, table=table)
            self._address = self._native.address
            self.context = self._native.context
        if member is not None:
            self.keep(watch(self._address, self.context, member, preempt=preempt))
        else:
            ignore_epoch(self.context)

    @property
    def _guest(self) -> Member:
        assert self.member is not None
        return self.member

    @property
    def wasmtime_store(self) -> wasmtime.Store:
        """The store of wasmtime-py, if this one hosts a process."""
        if self._managed is None:
            raise InternalError("a store that was not created to host a process")
        return self._managed

    def keep(self, owner: object) -> None:
        """Keep an object alive as long as the store."""
        self._kept.append(owner)

    # Creation

    def new_memory(self, type_: MemoryType) -> Extern:
        """Create a memory, shared if the type says so."""
        limits = _limits(type_.limits)
        if type_.limits.shared:
            shared = wasmtime.SharedMemory(engine(), wasmtime.MemoryType(limits, shared=True))
            self.keep(shared)
            outlives_interpreter(shared)
            return extern_of_shared_memory(address_of(shared))
        memory_type = wasmtime.MemoryType(limits)
        return self._checked(memory_new, address_of(memory_type))

    def new_table(self, limits: Limits) -> Extern:
        """Create a table of funcref, all slots null."""
        type_ = table_type(limits)
        return self._checked(table_new, address_of(type_))

    def new_global(self, value: int, *, mutable: bool) -> Extern:
        """Create an i32 global."""
        return self._checked(global_new, i32_global_type(mutable=mutable), value)

    def instantiate(self, code: Code, externs: Sequence[Extern]) -> Instance:
        """Instantiate compiled code; raises Trap or WasmtimeError.

        Blocks while a start function runs.
        """
        return self._checked(instantiate, code.address, externs)

    def join_process(
        self,
        process: WasiProcess,
        linker_address: int,
        space: str,
        names: Sequence[str],
        shim: Code,
        memory: Extern,
    ) -> None:
        """Make the functions of a wasmtime linker those of this store's process, through a shim.

        The shim has the memory of the guest.
        """
        self._checked(
            lambda _context: process.join(linker_address, space, names, shim.address, memory)
        )

    def join_process_private(
        self, process: WasiProcess, linker_address: int, space: str, shim: Code
    ) -> None:
        """Give this store's process the shim with a memory that no guest has."""
        self._checked(lambda _context: process.join_private(linker_address, space, shim.address))

    # Access

    def export(self, instance: Instance, name: str) -> Extern | None:
        """Return an export of an instance, or None."""
        return export(self.context, instance, name)

    @staticmethod
    def func_of(extern: Extern) -> Func:
        """Return the function in an extern."""
        return func_of(extern)

    def memory_size(self, memory: Extern) -> int:
        """Return the size in bytes."""
        return memory_size(self.context, memory)

    def memory_grow(self, memory: Extern, pages: int) -> int:
        """Add pages; returns the size before, in pages. Raises WasmtimeError past the maximum."""
        return int(self._checked(memory_grow, memory, pages))

    def memory_view(self, memory: Extern) -> memoryview:
        """Return the memory as a writable view; it keeps the store alive, and does not grow."""
        return memory_buffer(self.context, memory, self)

    def table_size(self, table: Extern) -> int:
        """Return the number of slots."""
        return table_size(self.context, table)

    def table_grow(self, table: Extern, slots: int) -> None:
        """Add null slots; raises WasmtimeError past the maximum."""
        self._checked(table_grow, table, slots)

    def table_get(self, table: Extern, index: int) -> Func | None:
        """Return the function in a slot, or None."""
        return table_get(self.context, table, index)

    def table_set(self, table: Extern, index: int, func: Func | None) -> None:
        """Write a function into a slot; None sets it to null."""
        self._checked(table_set, table, index, func)

    def global_get(self, extern: Extern) -> int:
        """Return the value of an i32 global, unsigned."""
        return global_get(self.context, extern)

    def global_set(self, extern: Extern, value: int) -> None:
        """Set a mutable i32 global."""
        self._checked(global_set, extern, value)

    def _checked(
        self,
        operation: Callable[Concatenate[Context, P], R],
        *arguments: P.args,
        **keywords: P.kwargs,
    ) -> R:
        try:
            return operation(self.context, *arguments, **keywords)
        except Failure as failure:
            self.raise_failure(failure)

    def raise_failure(self, failure: Failure) -> NoReturn:
        """Raise the exception for a failed call of the calling thread.

        It is that of a host function, Trap, ExitTrap, WasmtimeError, or SynchronizationAborted.
        """
        member = self.member
        exception = _meaning(failure, member.shared if member is not None else None)
        pending = failure.take_raised()
        # The exception that interrupted a rendezvous stopped the guest; it has precedence over
        # that of a host function.
        failure_of_member = None
        if member is not None:
            failure_of_member, member.failure = member.failure, None
            member.shared.forget(failure_of_member)
            pending = failure_of_member or pending
            pending = _why_stopped(failure, member.shared, pending)
        try:
            if pending is None:
                raise exception from exception.__cause__
            if not isinstance(exception, wasmtime.Trap):
                # A trap of a host function is returned as an error; for the guest, and so for
                # its caller, it is a trap.
                exception = wasmtime.Trap(str(exception))
            note_trap(pending)
            raise pending from pending.__cause__ or exception
        finally:
            # A frame that holds its own exception would keep the store alive until the next
            # garbage collection.
            del failure, exception, pending, failure_of_member
