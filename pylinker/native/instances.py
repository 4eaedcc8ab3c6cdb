"""What one group has of the program (``csrc/instances.h``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pylinker.native.core import ffi, lib
from pylinker.native.enums import Stage
from pylinker.native.failures import Failure, moved, new_failure
from pylinker.native.libraries import Library
from pylinker.native.member import Member
from pylinker.native.objects import Context, Extern, Func, Values
from pylinker.native.replay import Operation, Trouble
from pylinker.native.wasi import WasiProcess

if TYPE_CHECKING:
    from pylinker._core import pl_instances_p

__all__ = ["Instances", "Signature"]


class Instances:
    """What one group has of the program (``csrc/instances.h``); ``context`` is its store's.

    Its own thread uses it.
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
        """Bytes of the memory, 0 if there is none."""
        return lib.pl_instances_memory_size(self.pointer)

    @property
    def table_size(self) -> int:
        """Slots of the table, 0 if there is none."""
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
        """Return a copy of bytes of the memory, or None if they are not all inside.

        Neither number is negative.
        """
        start = lib.pl_instances_bytes(self.pointer, address, size)
        return None if start == ffi.NULL else bytes(ffi.buffer(start, size))

    def inside(self, address: int, size: int) -> bool:
        """Whether these bytes are all in the memory. Neither number is negative."""
        return bool(lib.pl_instances_bytes(self.pointer, address, size) != ffi.NULL)

    def write(self, address: int, data: bytes | memoryview, size: int) -> bool:
        """Copy ``size`` bytes into the memory; False, and nothing is done, if it does not fit.

        Neither number is negative.
        """
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
        """Say whether the group's thread has destructors to run at its end.

        By the thread itself.
        """
        lib.pl_instances_set_exits(self.pointer, exits)

    def connect(self) -> None:
        """Connect the WASI functions that were imported before there was a memory."""
        lib.pl_instances_connect(self.pointer)

    def apply(self, operation: Operation) -> Trouble | None:
        """Carry an operation out; returns what went wrong, or None."""
        if lib.pl_replay_operation(self.pointer, operation.pointer, self.member.handle, 0) == 0:
            return None
        return self.take_trouble()

    def follow(self, describe: Callable[[Trouble], BaseException]) -> None:
        """Have operations carried out here, without the GIL; ``describe`` makes an exception of what goes wrong."""
        self.member.follow_in_c(self.pointer, lambda: describe(self.take_trouble()))

    def take_trouble(self) -> Trouble:
        """Return the last trouble; its failure is the caller's."""
        trouble = lib.pl_instances_trouble(self.pointer)
        failure = None
        if (
            trouble.failure.trap != ffi.NULL
            or trouble.failure.error != ffi.NULL
            or trouble.stage in (Stage.INSTANTIATE, Stage.TLS)
        ):
            failure = moved(trouble)
        return Trouble(
            Stage(trouble.stage),
            trouble.detail,
            int(ffi.cast("uintptr_t", trouble.library)),
            failure,
        )

    def number_calls(self) -> None:
        """Number the outermost calls, so that :meth:`Shared.stop` can stop one.

        For the only group of a linker, before it runs code.
        """
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
        return (
            extern
            if lib.pl_instances_export(self.pointer, library.pointer, index, extern) == 0
            else None
        )

    def tls_base(self, library: Library) -> int:
        """Return the address of a library's thread-local block, 0 if it has none."""
        return lib.pl_instances_tls_base(self.pointer, library.pointer)

    def resolver_entries(self, library: Library) -> int:
        """Return how often calls of the library had to be resolved."""
        return lib.pl_instances_resolver_entries(self.pointer, library.pointer)

    def bind(self, library: Library, index: int, target: Library, export: int) -> bool:
        """Let a trampoline lead to an export; False if one of the two is not instantiated."""
        return bool(
            lib.pl_instances_bind(self.pointer, library.pointer, index, target.pointer, export) == 0
        )

    def call(self, func: Func, raw: Values, count: int) -> None:
        """Call a function; arguments are taken from ``raw`` and results are left there.

        Blocks while the guest runs.

        Raises Failure with neither trap nor error if the linker is cancelled and the guest was not
        called. Otherwise a failure leaves the stack pointer as it was.
        """
        failure = new_failure()
        if lib.pl_instances_call(self.pointer, func, raw, count, failure):
            raise Failure(failure)

    def run(self, library: Library, index: int) -> bool:
        """Call an exported function of type () -> (), like :meth:`call`; False if it is not there.

        Blocks while the guest runs.
        """
        failure = new_failure()
        status = lib.pl_instances_run(self.pointer, library.pointer, index, failure)
        if status > 0:
            raise Failure(failure)
        return bool(status == 0)

    def know_type(self, changes: int, slot: int, signature: Signature | None) -> None:
        """Keep the type of the function in a slot as of ``changes``; None: there is none that anybody knows. ``signature`` must stay."""
        lib.pl_calls_put(
            lib.pl_instances_calls(self.pointer),
            changes,
            slot,
            ffi.NULL if signature is None else signature.record,
        )

    def remember(self, changes: int, handle: int, scope: int, name: bytes, value: int) -> None:
        """Keep what a ``dlsym`` of the host function ``handle`` found, as of ``changes``."""
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
