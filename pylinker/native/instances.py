"""The instances of one group (``csrc/instances.h``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pylinker.native.core import ffi, lib
from pylinker.native.enums import Stage
from pylinker.native.failures import Failure, moved, new_failure
from pylinker.native.libraries import Library
from pylinker.native.member import Member
from pylinker.native.objects import Context, Extern, Func, Values
from pylinker.native.replay import ErrorRecord, Operation
from pylinker.native.wasi import WasiProcess

if TYPE_CHECKING:
    from pylinker._core import pl_instances_p

__all__ = ["Instances", "Signature"]


class Instances:
    """The instances of one group (``csrc/instances.h``); ``context`` is that of its store.

    Threads: the group's own thread.
    """

    def __init__(
        self,
        member: Member,
        context: Context,
        process: WasiProcess,
        *,
        made: pl_instances_p | None = None,
    ) -> None:
        if made is None:
            made = lib.pl_instances_new(
                member.pointer,
                context,
                process.pointer,
                lib.pl_python_host,
                lib.pl_python_check,
                member.handle,
            )
        self.pointer = ffi.gc(made, lib.pl_instances_free)
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for the instances of a group")
        self.context = context
        self.member = member
        self._process = process

    @staticmethod
    def _extern(pointer: Extern) -> Extern | None:
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
        """Size of the memory in bytes, 0 if there is none."""
        return lib.pl_instances_memory_size(self.pointer)

    @property
    def table_size(self) -> int:
        """Number of slots of the table, 0 if there is none."""
        return lib.pl_instances_table_size(self.pointer)

    @property
    def has_memory(self) -> bool:
        """Whether there is a memory."""
        return bool(lib.pl_instances_memory(self.pointer) != ffi.NULL)

    @property
    def has_table(self) -> bool:
        """Whether there is a function table."""
        return bool(lib.pl_instances_table(self.pointer) != ffi.NULL)

    def read(self, address: int, size: int) -> bytes | None:
        """Return a copy of a range of the memory, or None if it is out of bounds.

        Neither number may be negative.
        """
        start = lib.pl_instances_bytes(self.pointer, address, size)
        return None if start == ffi.NULL else bytes(ffi.buffer(start, size))

    def inside(self, address: int, size: int) -> bool:
        """Whether a range is within the memory. Neither number may be negative."""
        return bool(lib.pl_instances_bytes(self.pointer, address, size) != ffi.NULL)

    def write(self, address: int, data: bytes | memoryview, size: int) -> bool:
        """Copy ``size`` bytes into the memory; False, without effect, if that is out of bounds.

        Neither number may be negative.
        """
        start = lib.pl_instances_bytes(self.pointer, address, size)
        if start == ffi.NULL:
            return False
        ffi.memmove(start, data, size)
        return True

    def zero(self, address: int, size: int) -> bool:
        """Zero a range of the memory; False, without effect, if it is out of bounds."""
        return bool(lib.pl_instances_zero(self.pointer, address, size) == 0)

    @property
    def stack_pointer(self) -> Extern | None:
        """The global of the stack pointer, or None."""
        return self._extern(lib.pl_instances_stack_pointer(self.pointer))

    @stack_pointer.setter
    def stack_pointer(self, extern: Extern) -> None:
        lib.pl_instances_set_stack_pointer(self.pointer, extern)

    def set_stack_top(self, top: int) -> None:
        """Set the top of the stack; no effect without a stack pointer."""
        lib.pl_instances_set_stack_top(self.pointer, top)

    def set_thread(self, number: int) -> None:
        """Set the number that the group's thread has in the guest."""
        lib.pl_instances_set_thread(self.pointer, number)

    def set_exits(self, exits: bool) -> None:  # noqa: FBT001
        """Set whether the group's thread has destructors to run when it exits.

        Threads: the thread itself.
        """
        lib.pl_instances_set_exits(self.pointer, exits)

    def connect(self) -> None:
        """Connect the WASI functions that were imported before there was a memory."""
        lib.pl_instances_connect(self.pointer)

    def apply(self, operation: Operation) -> ErrorRecord | None:
        """Carry an operation out; returns the error, or None."""
        if lib.pl_replay_operation(self.pointer, operation.pointer, self.member.handle, 0) == 0:
            return None
        return self.take_error()

    def follow(self, describe: Callable[[ErrorRecord], BaseException]) -> None:
        """Make C replay operations here, without the GIL; ``describe`` translates its errors."""
        self.member.follow_in_c(self.pointer, lambda: describe(self.take_error()))

    def take_error(self) -> ErrorRecord:
        """Return the last error record; the caller owns its failure."""
        record = lib.pl_instances_error(self.pointer)
        failure = None
        if (
            record.failure.trap != ffi.NULL
            or record.failure.error != ffi.NULL
            or record.stage in (Stage.INSTANTIATE, Stage.TLS)
        ):
            failure = moved(record)
        return ErrorRecord(
            Stage(record.stage),
            record.detail,
            int(ffi.cast("uintptr_t", record.library)),
            failure,
        )

    def number_calls(self) -> None:
        """Number the outermost calls, so that :meth:`Shared.stop` can stop one.

        For the only group of a linker, before it runs code.
        """
        lib.pl_instances_number_calls(self.pointer)

    @property
    def is_running(self) -> bool:
        """Whether the guest is in a call by the host on this stack, so that the store must stay."""
        return bool(lib.pl_instances_is_running(self.pointer))

    def has(self, library: Library) -> bool:
        """Whether the library is instantiated."""
        return bool(lib.pl_instances_serial(self.pointer, library.pointer))

    def export(self, library: Library, index: int) -> Extern | None:
        """Return an export of a library, by its number, or None."""
        extern = ffi.new("pl_extern *")
        return (
            extern
            if lib.pl_instances_export(self.pointer, library.pointer, index, extern) == 0
            else None
        )

    def tls_base(self, library: Library) -> int:
        """Return the address of a library's thread-local block, 0 if it has none."""
        return lib.pl_instances_tls_base(self.pointer, library.pointer)

    def resolver_entries(self, library: Library) -> int:
        """Return how many calls of the library had to be resolved."""
        return lib.pl_instances_resolver_entries(self.pointer, library.pointer)

    def bind(self, library: Library, index: int, target: Library, export: int) -> bool:
        """Bind a PLT entry to an export; False if one of the two libraries is not instantiated."""
        return bool(
            lib.pl_instances_bind(self.pointer, library.pointer, index, target.pointer, export) == 0
        )

    def call(self, func: Func, raw: Values, count: int) -> None:
        """Call a function; ``raw`` holds the arguments, and receives the results.

        Blocks while the guest runs. A failure leaves the stack pointer as it was.

        Raises:
            Failure: With neither trap nor error if the linker is cancelled and the guest was not
                called.
        """
        failure = new_failure()
        if lib.pl_instances_call(self.pointer, func, raw, count, failure):
            raise Failure(failure)

    def run(self, library: Library, index: int) -> bool:
        """Call an exported function of type () -> (), like :meth:`call`; False if it is missing.

        Blocks while the guest runs.
        """
        failure = new_failure()
        status = lib.pl_instances_run(self.pointer, library.pointer, index, failure)
        if status > 0:
            raise Failure(failure)
        return bool(status == 0)

    def know_type(self, changes: int, slot: int, signature: Signature | None) -> None:
        """Cache the type of the function in a slot, as of generation ``changes``.

        ``signature`` must outlive the cache; None: no known type.
        """
        lib.pl_calls_put(
            lib.pl_instances_calls(self.pointer),
            changes,
            slot,
            ffi.NULL if signature is None else signature.record,
        )

    def remember(self, changes: int, handle: int, scope: int, name: bytes, value: int) -> None:
        """Cache the result of a ``dlsym``, as of generation ``changes``."""
        lib.pl_dlsym_cache_put(
            lib.pl_instances_dlsym_cache(self.pointer),
            changes,
            handle,
            scope,
            name,
            len(name),
            value,
        )


class Signature:
    """A function type as one group calls it (``pl_signature``).

    It holds a function that invokes functions of the type, and the numbers of the value types.
    ``invoke`` is None if there are values that are not numbers.
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
