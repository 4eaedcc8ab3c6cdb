"""InstanceGroup: one instance of every module, in one store, with one function table.

All groups share the memory of the program. A group carries operations out, in the C core
(:meth:`InstanceGroup.apply`); it decides nothing. It holds the state that differs between groups:
instances, table contents, stack, thread-local blocks. One thread at a time uses a group.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import wasmtime

from pylinker.errors import (
    InitializationError,
    InternalError,
    LimitError,
    LinkError,
    NotDynamicError,
    UnsupportedError,
)
from pylinker.linker.debug.log import BINDINGS, LIBS
from pylinker.linker.plan.operation import LoadModules
from pylinker.native.enums import ExternKind, PreparedKind, Stage
from pylinker.native.failures import Failure
from pylinker.native.instances import Instances, Signature
from pylinker.native.objects import values
from pylinker.native.prepared import PreparedCall
from pylinker.runtime.failures import exception_of, summary
from pylinker.runtime.store import PAGE_SIZE
from pylinker.wasm import (
    PACKED_SIZES,
    FuncType,
    Kind,
    Limits,
    MemoryType,
    dynamic_call_module,
    invoker_module,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pylinker.linker.debug.trace import Untraced
    from pylinker.linker.groups.signals import Signals
    from pylinker.linker.modules.module import AtExit, Definition, LoadedModule
    from pylinker.linker.plan.operation import DlOperation
    from pylinker.linker.ranges import Grant
    from pylinker.native.objects import Extern, Func, Instance, Values
    from pylinker.native.prepared import PreparedCall
    from pylinker.native.recursive import RecursiveMutex
    from pylinker.native.replay import ErrorRecord
    from pylinker.runtime.code import CodeCache
    from pylinker.runtime.store import GuestStore
    from pylinker.runtime.wasi import WasiHost
    from pylinker.sync import InstanceGroupState

__all__ = ["InstanceGroup", "ThreadExit"]

_NOTHING = FuncType((), ())
_VALUE_NUMBERS = {type_: number for number, type_ in enumerate(PACKED_SIZES)}
"""The core's numbers of the value types that can be in memory."""


class ThreadExit(NamedTuple):
    """A destructor that a thread registered."""

    module: LoadedModule | None
    """The module of the destructor, if known."""
    entry: AtExit
    """The destructor."""


class InstanceGroup:
    """The instances of one thread.

    The linker creates memory, table and stack pointer, or takes them from the main module once that
    is instantiated.
    """

    state: InstanceGroupState[DlOperation]
    """The member of the rendezvous."""
    store: GuestStore
    """The store of the instances."""
    native: Instances
    """The group in the C core."""
    main_lock: RecursiveMutex | None
    """The mutex of the threads that share the group; None if it has a thread of its own."""
    memory_is_shared: bool
    """Whether the memory is a shared memory."""
    stack: tuple[int, int]
    """The address and size (bytes) of a stack of its own."""
    grants: list[Grant]
    """Its allocations of memory."""
    dl_error: str | None
    """The next result of ``dlerror``."""
    dl_error_address: int
    """The buffer of ``dlerror``, 0 before there is one."""
    signals: Signals | None
    """The signals of its thread in a WASIX program, else None."""
    thread_exits: list[ThreadExit]
    """The destructors that its thread registered."""
    ending: list[ThreadExit]
    """The destructors that are running, nested."""
    has_exit_hook: bool
    """Whether the guest's own list of destructors will call those of ``thread_exits``."""

    def __init__(
        self,
        state: InstanceGroupState[DlOperation],
        store: GuestStore,
        wasi: WasiHost,
        cache: CodeCache,
        main_lock: RecursiveMutex | None,
        program: str,
        tracer: Untraced,
        native: Instances | None = None,
    ) -> None:
        self.state = state
        self._tracer = tracer
        self._program = program
        self.store = store
        self.native = native or Instances(state, store.context, wasi.native)
        self._wasi = wasi
        self._cache = cache
        self.main_lock = main_lock
        self.memory_is_shared = False
        self.stack = (0, 0)
        self.grants = []
        self.dl_error = None
        self.dl_error_address = 0
        self.signals = None
        self.thread_exits = []
        self.ending = []
        self.has_exit_hook = False
        self._invoker: Instance | None = None
        # Created on demand, as most threads have no prepared calls.
        self._prepared: weakref.WeakSet[PreparedCall] | None = None
        self._signatures: dict[FuncType, Signature] = {}
        self._own_prepared: (
            weakref.WeakKeyDictionary[LoadedModule, dict[str, PreparedCall]] | None
        ) = None
        number = state.number
        tracer.name_row(number, "main thread" if main_lock is not None else "new thread")
        self.native.follow(lambda record: _describe(number, record))

    def __repr__(self) -> str:
        return f"<InstanceGroup {self.state.number}>"

    # Memory, table and stack pointer

    def make_memory(self, type_: MemoryType) -> None:
        """Create the memory, for a program whose modules import it.

        Raises:
            LimitError: There can be no such memory.
        """
        try:
            memory = self.store.new_memory(type_)
        except wasmtime.WasmtimeError as error:
            raise LimitError(f"no memory of {type_} pages can be made: {summary(error)}") from error
        self.native.memory = memory
        self.memory_is_shared = type_.limits.shared

    def _provide_wasi(self) -> None:
        """Prepare for modules that call WASI."""
        self._wasi.provide()
        if self.native.has_memory:
            self._wasi.connect(self.memory, shared=self.memory_is_shared)

    def make_table(self, limits: Limits) -> None:
        """Create the function table, for a program whose modules import it.

        Raises:
            LimitError: There can be no such table.
        """
        try:
            self.native.table = self.store.new_table(limits)
        except wasmtime.WasmtimeError as error:
            raise LimitError(f"no table of {limits} slots can be made: {summary(error)}") from error

    def make_stack_pointer(self, value: int) -> None:
        """Create the stack pointer, for a program whose modules import it."""
        self.native.stack_pointer = self.store.new_global(value, mutable=True)

    def set_wasi_fault(self, number: int) -> None:
        """Set the error number of WASI calls of the program for a pointer out of bounds."""
        self._wasi.native.set_fault(number)

    def set_clock(self, clock: int, now: int) -> bool:
        """Set a clock of the program (nanoseconds, modulo 2^64), for all its threads.

        False if there is no such clock.
        """
        return self._wasi.native.set_clock(clock, now)

    @property
    def memory(self) -> Extern:
        """The memory of the program.

        Raises:
            NotDynamicError: The main module does not export it.
        """
        return self._shared(self.native.memory, "memory", "-Wl,--export-memory")

    @property
    def table(self) -> Extern:
        """The function table.

        Raises:
            NotDynamicError: The main module does not export it.
        """
        return self._shared(
            self.native.table, "function table", "-Wl,--export-table -Wl,--growable-table"
        )

    def _shared(self, extern: Extern | None, what: str, flags: str) -> Extern:
        if extern is None:
            raise NotDynamicError(
                f"{self._program} does not export its {what}, so libraries cannot use it; link it "
                f"with {flags}",
                module=self._program,
            )
        return extern

    @property
    def table_size(self) -> int:
        """The number of table slots, 0 if there is no table."""
        return self.native.table_size

    @property
    def memory_size(self) -> int:
        """The bytes of the memory, 0 if there is none."""
        return self.native.memory_size

    def zero_memory(self, address: int, size: int) -> None:
        """Fill bytes of the memory with zeros.

        Raises:
            InternalError: They are not in the memory.
        """
        if not self.native.zero(address, size):
            raise InternalError(
                f"{size} bytes at {address:#x} were given out, but are not in the memory"
            )

    def grow_memory(self, pages: int) -> int | None:
        """Add pages of 64 KiB; return the first new address, None if the memory cannot grow."""
        try:
            return self.store.memory_grow(self.memory, pages) * PAGE_SIZE
        except wasmtime.WasmtimeError:
            return None

    @property
    def has_table(self) -> bool:
        """Whether there is a table that libraries can use."""
        return self.native.has_table

    @property
    def stack_top(self) -> int | None:
        """The stack pointer, or None if it is not accessible."""
        stack_pointer = self.native.stack_pointer
        return self.store.global_get(stack_pointer) if stack_pointer is not None else None

    @stack_top.setter
    def stack_top(self, value: int | None) -> None:
        stack_pointer = self.native.stack_pointer
        if stack_pointer is not None and value is not None:
            self.store.global_set(stack_pointer, value)

    # Operations

    def apply(self, operation: DlOperation) -> None:
        """Carry an operation out. On failure the caller rolls back the rest of a load."""
        with self._tracer.span("instantiate", operation=operation):
            if (
                isinstance(operation, LoadModules)
                and not self._wasi.is_connected
                and any(each.calls_wasi for each in operation.modules)
            ):
                self._provide_wasi()
            if (
                not self.native.has_memory
                and isinstance(operation, LoadModules)
                and operation.modules
            ):
                # The main module defines the memory. The others may call WASI as soon as they are
                # instantiated.
                main, rest = operation.modules[:1], operation.modules[1:]
                self._apply(LoadModules(main, operation.table_size, ()), operation)
                self._connect_adopted()
                self._apply(
                    LoadModules(
                        rest,
                        operation.table_size,
                        operation.patches,
                        operation.blocks,
                        operation.hosts,
                    ),
                    operation,
                )
            else:
                self._apply(operation, operation)

    def _connect_adopted(self) -> None:
        memory = self.native.memory
        if memory is not None:
            self.memory_is_shared = memory.kind == ExternKind.SHARED_MEMORY
            if self._wasi.is_provided:
                self._wasi.connect(memory, shared=self.memory_is_shared)
                self.native.connect()

    def _apply(self, operation: DlOperation, whole: DlOperation) -> None:
        record = self.native.apply(operation.native)
        if record is not None:
            self.raise_error(record, whole.modules if isinstance(whole, LoadModules) else ())

    def raise_error(self, record: ErrorRecord, modules: Iterable[LoadedModule]) -> NoReturn:
        """Raise the exception for a failed load of modules in this group."""
        module = next(
            (module for module in modules if module.native.address == record.library), None
        )
        name = module.name if module is not None else "program"
        failure: BaseException | None = None
        if record.failure is not None:
            try:
                self.store.raise_failure(record.failure)
            except BaseException as raised:  # noqa: BLE001 - handled below
                failure = raised
        try:
            if record.stage is Stage.TABLE:
                if failure is None:
                    self.table  # noqa: B018 - raises: there is none
                raise NotDynamicError(
                    f"the table of the main module, {self._program}, cannot grow to "
                    f"{record.detail} slots: "
                    f"link it with -Wl,--growable-table ({failure})",
                    module=self._program,
                ) from failure
            if record.stage is Stage.OBJECT and module is not None:
                self._raise_missing(module, record.detail)
            if record.stage is Stage.TLS_CELL and module is not None:
                raise UnsupportedError(
                    f"{name}: thread-local data of another module is used before it exists",
                    module=name,
                )
            if isinstance(failure, wasmtime.ExitTrap) or (
                failure is not None and record.stage is Stage.TLS
            ):
                raise failure
            if isinstance(failure, wasmtime.Trap):
                raise InitializationError(
                    f"{name}: trap while it was instantiated: {summary(failure)}", module=name
                ) from failure
            if isinstance(failure, wasmtime.WasmtimeError):
                raise LinkError(
                    f"{name}: cannot be instantiated: {' '.join(str(failure).split())}", module=name
                ) from failure
            if failure is not None:
                raise failure
            if record.stage is Stage.ROOM:
                raise MemoryError(f"no memory to load {name}")
            raise InternalError(
                f"{name}: {record.stage.name.lower()} {record.detail} while an operation was "
                "carried out"
            )
        finally:
            del failure  # no cycle through this frame

    def _raise_missing(self, module: LoadedModule, index: int) -> NoReturn:
        kind = module.info.imports[index].kind
        if kind is Kind.MEMORY:
            self.memory  # noqa: B018 - raises
        if kind is Kind.TABLE:
            self.table  # noqa: B018 - raises
        raise NotDynamicError(
            f"{module.name} needs the stack, but the main module, {self._program}, does not "
            "export it; "
            "link it with -Wl,--export=__stack_pointer",
            module=self._program,
        )

    # Relocations and constructors

    def relocate(self, module: LoadedModule) -> None:
        """Apply the relocations of a module. Runs guest code of the module."""
        with self._tracer.span("relocations", module=module):
            for name in ("__wasm_apply_data_relocs", "__wasm_apply_tls_relocs"):
                if name in module.info.private:
                    self._run(module, name)

    def construct(self, module: LoadedModule) -> None:
        """Run the constructors of a module."""
        exports = module.info.private
        with self._tracer.span("constructors", module=module):
            if (
                not ("_initialize" in exports and self._run(module, "_initialize"))
                and "__wasm_call_ctors" in exports
            ):
                self._run(module, "__wasm_call_ctors")

    def _run(self, module: LoadedModule, name: str) -> bool:
        position = module.entry(name, _NOTHING)
        if position is None:
            return False
        LIBS.debug("calling %s of %s", name, module.name)
        try:
            try:
                ran = self.native.run(module.native, position)
            except Failure as failure:
                self.store.raise_failure(failure)
            if not ran:
                raise InternalError(
                    f"{module.name} has no instance in this group, or lost its export {name}"
                )
        except wasmtime.Trap as error:
            raise InitializationError(
                f"{module.name}: {name} trapped: {summary(error)}", module=module.name, symbol=name
            ) from error
        return True

    # Exports and calls

    def has(self, module: LoadedModule) -> bool:
        """Whether a module is instantiated in this group."""
        return self.native.has(module.native)

    def empty_slot(self, slot: int) -> None:
        """Empty a table slot."""
        self.store.table_set(self.table, slot, None)

    def export(self, module: LoadedModule, name: str) -> Extern:
        """Return an export of the instance of a module."""
        return self._export(module, module.outline.position(name), name)

    def _export(self, module: LoadedModule, position: int, name: str) -> Extern:
        extern = self.native.export(module.native, position)
        if extern is None:
            raise InternalError(
                f"{module.name} has no instance in this group, or lost its export {name}"
            )
        return extern

    def defined(self, definition: Definition) -> Func:
        """Return the function of this group for a definition."""
        return self.store.func_of(
            self._export(definition.module, definition.position, definition.name)
        )

    def function(self, module: LoadedModule, name: str) -> Func:
        """Return an exported function of the instance of a module."""
        return self.store.func_of(self.export(module, name))

    def prepared(
        self,
        definition: Definition,
        params: Sequence[PreparedKind],
        results: Sequence[PreparedKind],
    ) -> PreparedCall:
        """Return a prepared call of a function, valid until it or the group is closed."""
        prepared = PreparedCall(
            self.native,
            definition.module.native,
            self.defined(definition),
            params,
            results,
            self.main_lock,
        )
        if self._prepared is None:
            self._prepared = weakref.WeakSet()
        self._prepared.add(prepared)
        return prepared

    def own_prepared(
        self,
        definition: Definition,
        params: Sequence[PreparedKind],
        results: Sequence[PreparedKind],
    ) -> PreparedCall:
        """Return :meth:`prepared`, the same object for every caller on the group's own thread."""
        if self._own_prepared is None:
            self._own_prepared = weakref.WeakKeyDictionary()
        calls = self._own_prepared.setdefault(definition.module, {})
        prepared = calls.get(definition.name)
        if prepared is None or not prepared.is_open:
            prepared = calls[definition.name] = self.prepared(definition, params, results)
        return prepared

    def close_prepared(self) -> None:
        """Close all prepared calls of the group, which is about to be removed."""
        for prepared in list(self._prepared or ()):
            prepared.close()
        self._own_prepared = None

    def tls_base(self, module: LoadedModule) -> int:
        """Return the address of a module's thread-local block in this group, 0 if it has none."""
        return self.native.tls_base(module.native)

    def bind(self, module: LoadedModule, index: int, definition: Definition) -> None:
        """Set the target of PLT entry ``index`` of a module to a definition.

        Raises:
            InternalError: One of the two modules has no instance.
        """
        target = definition.module
        if not self.native.bind(module.native, index, target.native, definition.position):
            raise InternalError(
                f"{module.name}: {definition!r} cannot be prepared: one of the two has no instance"
            )
        BINDINGS.debug(
            "binding %s to %s: %s [function, first call]",
            module.name,
            target.name,
            module.plt[index].name,
        )

    def resolver_entries(self, modules: Iterable[LoadedModule]) -> int:
        """Return how many calls of these modules were resolved."""
        return sum(self.native.resolver_entries(module.native) for module in modules)

    def call(self, func: Func, *arguments: int) -> int:
        """Call a function of i32 arguments and at most one i32 result.

        Returns the result unsigned, 0 if there is none. On an error, the stack pointer is as
        before. Also raises the errors of host functions.

        Raises:
            Trap: The guest trapped.
            ExitTrap: The guest exited.
            WasmtimeError: The call failed.
        """
        raw = values(max(1, len(arguments)))
        for index, argument in enumerate(arguments):
            raw[index].i64 = argument
        self.call_raw(func, raw, len(raw))
        return int(raw[0].i32) & 0xFFFFFFFF

    def call_raw(self, func: Func, raw: Values, count: int) -> None:
        """Call a function with raw values; otherwise like :meth:`call`."""
        try:
            self.native.call(func, raw, count)
        except Failure as failure:
            self.store.raise_failure(failure)

    def know_type(self, changes: int, slot: int, type_: FuncType | None) -> None:
        """Pass the type of the function in a slot to the core, as of generation ``changes``.

        None if the type is unknown.
        """
        signature = None
        if type_ is not None:
            signature = self._signatures.get(type_)
            if signature is None:
                signature = self._signatures[type_] = self._new_signature(type_)
        self.native.know_type(changes, slot, signature)

    def _new_signature(self, type_: FuncType) -> Signature:
        known = all(each in _VALUE_NUMBERS for each in (*type_.params, *type_.results))
        invoke = None
        if known:
            instance = self.store.instantiate(
                self._cache.load(dynamic_call_module(type_), name="dynamic call"), [self.table]
            )
            extern = self.store.export(instance, "invoke")
            assert extern is not None
            invoke = self.store.func_of(extern)
        params, results = ([_VALUE_NUMBERS.get(each, 0) for each in types] for types in type_)
        return Signature(invoke, params, results)

    def call_slot(self, slot: int, *arguments: int) -> None:
        """Call a function pointer of the guest, with at most one argument, for no result.

        A null or foreign pointer, or one of another type, raises Trap as it would in the guest:
        calls of the host check nothing.
        """
        if self._invoker is None:
            self._invoker = self.store.instantiate(
                self._cache.load(invoker_module(), name="invoker"), [self.table]
            )
        invoke = self.store.export(self._invoker, "call_with" if arguments else "call")
        assert invoke is not None
        self.call(self.store.func_of(invoke), slot, *arguments)


def _describe(group: int, record: ErrorRecord) -> BaseException:
    """Return the exception for a failed replay in a follower."""
    if record.stage is Stage.TAKEN:
        return InternalError(
            f"slot {record.detail} is free in the leader's table, but taken in group {group}"
        )
    cause = record.failure.take_raised() if record.failure is not None else None
    if cause is not None and not isinstance(cause, Exception):
        return cause  # an interrupt, not a failure
    if record.failure is not None and (record.failure.trap or record.failure.error):
        failure = exception_of(record.failure)
        cause = cause or failure
        error: BaseException = LinkError(
            f"group {group} cannot follow: {record.stage.name.lower()}: {summary(failure)}"
        )
    else:
        error = InternalError(
            f"group {group} cannot follow: {record.stage.name.lower()} {record.detail}"
        )
    error.__cause__ = cause
    return error
