"""The groups of a program: creation and removal."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

from pylinker.errors import InternalError, LinkError, NotDynamicError
from pylinker.linker.groups.group import InstanceGroup
from pylinker.linker.groups.prepared import PreparedInstanceGroup
from pylinker.linker.groups.signals import Signals
from pylinker.linker.plan.operation import SlotPatch
from pylinker.linker.ranges import Grant, release_all
from pylinker.native.clone import clone_group
from pylinker.native.member import Member
from pylinker.native.replay import Operation
from pylinker.native.scopes import completed
from pylinker.runtime.engine import engine
from pylinker.runtime.private import address_of
from pylinker.runtime.store import GuestStore
from pylinker.runtime.types import i32_global_type, table_type
from pylinker.runtime.wasi import WasiHost
from pylinker.sync.shared import Exclusive
from pylinker.wasm import Limits

if TYPE_CHECKING:
    from pylinker.linker.debug.trace import Untraced
    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.operation import DlOperation
    from pylinker.linker.plan.state import LinkerState
    from pylinker.native.libraries import Library
    from pylinker.native.objects import Extern
    from pylinker.runtime.code import CodeCache
    from pylinker.runtime.wasi import WasiProcess
    from pylinker.sync import InstanceGroupState, WriteGuard

__all__ = ["Groups"]


class Groups:
    """Creates the groups of one program and removes them.

    Args:
        context: The locks and the state of the linker.
        process: The WASI process.
        cache: The code cache.
        stack_size: The bytes of the stack of each thread except the first.
        name: The name of the program.
        tracer: Records the operations of groups.
    """

    def __init__(
        self,
        context: ThreadLinkState,
        process: WasiProcess,
        cache: CodeCache,
        *,
        stack_size: int,
        name: str,
        tracer: Untraced,
    ) -> None:
        self._context = context
        self._state = context.state
        self._process = process
        self._cache = cache
        self._stack_size = stack_size
        self._name = name
        self._tracer = tracer
        # The groups of a threaded program share the one store that has the WASI process; a single
        # group has it in its own store.
        self._snapshot: _Snapshot | None = None
        self._host = (
            self._new_host(self._new_store(None, hosts_process=True))
            if self._state.threaded
            else None
        )

    def create_main(self) -> InstanceGroup:
        """Create the group that runs main, the first one."""
        shared = self._context.shared
        with shared.write_linker_state_alone() as guard:
            group = self._new_group(guard)
        if not self._state.threaded:
            group.native.number_calls()
        self._context.set_main_group(group)
        shared.bootstrap_exclusive_write_then(lambda state: state.groups.append(group.state.number))
        return group

    def _new_store(self, member: Member | None, *, hosts_process: bool) -> GuestStore:
        limits = self._state.limits
        return GuestStore(
            member,
            memory=limits.memory,
            table=limits.table,
            preempt=self._context.preempt,
            hosts_process=hosts_process,
        )

    def _new_host(self, store: GuestStore) -> WasiHost:
        return WasiHost(
            store, self._process, self._cache, descriptors=self._state.limits.descriptors
        )

    def _new_group(self, guard: WriteGuard[LinkerState]) -> InstanceGroup:
        """Create the main group, without instances.

        It is parked, and a member of the rendezvous from now on.
        """
        shared = self._context.shared
        state = shared.new_member(_replayed_in_c)
        try:
            shared.subscribe_member(guard, state, None)
            store = self._new_store(state, hosts_process=self._host is None)
            host = self._host or self._new_host(store)
            group = InstanceGroup(
                state, store, host, self._cache, self._context.main_lock, self._name, self._tracer
            )
        except BaseException:
            completed(shared.unsubscribe, guard, state)
            raise
        return group

    def prepare(self, *, needs_stack: bool = True, stack_top: int = 0) -> PreparedInstanceGroup:
        """Prepare a new group: take the topology token, and the write lock if it is free.

        The token keeps the topology unchanged until the group exists. Pass the result to
        :meth:`create`, or abandon it.

        Blocks: cooperatively.

        Args:
            needs_stack: As in PreparedInstanceGroup.
            stack_top: As in PreparedInstanceGroup.

        Returns:
            The prepared group.
        """
        group = self._context.check_not_instantiating()
        shared = self._context.shared
        prepared = PreparedInstanceGroup(
            *shared.new_exclusive(), needs_stack=needs_stack, stack_top=stack_top
        )
        try:
            shared.prepare_topology(prepared.topology, prepared.guard, group.state)
            if prepared.guard.held:
                self._context.reap_exited(prepared.guard)
        except BaseException as error:  # usually an interrupt
            completed(prepared.leave, error)
            raise
        return prepared

    def create(self, prepared: PreparedInstanceGroup) -> InstanceGroup:
        """Create the prepared group, with every module loaded so far.

        Its thread need not exist yet. Releases token and lock. Nothing is left of a group that
        could not be created.

        Blocks: for the write lock if it was not free, holding the token. The calling thread is
        parked or has no group, so no leader waits for it.

        Raises:
            LinkError: One of its subclasses: a module could not be instantiated.
        """
        prepared.take()
        guard = prepared.guard
        with prepared:
            if not guard.held:
                self._context.shared.take_blindly(guard)
                self._context.reap_exited(guard)
            return self._create(prepared)

    def _create(self, prepared: PreparedInstanceGroup) -> InstanceGroup:
        guard, needs_stack, stack_top = prepared.guard, prepared.needs_stack, prepared.stack_top
        state, shared = self._state, self._context.shared
        part = shared.new_member(_replayed_in_c)
        number = part.number
        grants: list[Grant] = []
        stack = (0, 0)
        try:
            shared.subscribe_member(guard, part, prepared.topology)
            snapshot = self._take_snapshot()
            if needs_stack:
                stack = self._allocate_stack(snapshot, grants)
            blocks = [state.new_block(number, module) for module in snapshot.with_thread_locals]
            # Code of the modules may run, and must not call the linker.
            self._context.changer = get_ident()
            try:
                group = self._instantiate(
                    part,
                    snapshot,
                    sum(stack) or stack_top,
                    [
                        (block.module.native, number, block.address)
                        for block in blocks
                        if block is not None
                    ],
                )
                if needs_stack and not snapshot.makes_stack_pointer:
                    # The instance of an ordinary main begins with the stack of the main thread.
                    group.stack_top = sum(stack)
            finally:
                self._context.changer = None
            group.stack = stack
            group.grants = grants
            if state.wasix:
                group.signals = Signals(self._context, group)
            state.groups.append(number)
            self._context.groups[number] = prepared.group = group
        except BaseException:
            completed(self._roll_back, guard, part, grants)
            raise
        return group

    def _allocate_stack(self, snapshot: _Snapshot, grants: list[Grant]) -> tuple[int, int]:
        """Return address and size of a new stack."""
        if not snapshot.has_stack_pointer:
            raise NotDynamicError(
                f"a thread for a function needs a stack, but the main module, {self._name}, "
                "does not export its stack pointer; "
                "link it with -Wl,--export=__stack_pointer, or start the thread from the guest",
                module=self._name,
            )
        base = self._state.memory.allocate(
            self._stack_size, 16, grants, module="stack of a thread", zero=False
        )
        return base, self._stack_size

    def _instantiate(
        self,
        part: InstanceGroupState[DlOperation],
        snapshot: _Snapshot,
        stack_top: int,
        blocks: list[tuple[Library, int, int]],
    ) -> InstanceGroup:
        """Return a group with an instance of every module of the snapshot."""
        state, host = self._state, self._host
        assert host is not None
        clone = clone_group(
            snapshot.engine,
            part,
            host.native,
            memory_limit=state.limits.memory,
            table_limit=state.limits.table,
            preempt=self._context.preempt,
            memory=snapshot.memory,
            table_type=address_of(snapshot.table_type) if snapshot.table_type else 0,
            stack_pointer_type=snapshot.stack_pointer_type,
            stack_top=stack_top,
            snapshot=snapshot.operation,
            blocks=blocks,
        )
        store = GuestStore(part, made=(clone.store, clone.watch))
        group = InstanceGroup(
            part, store, host, self._cache, None, self._name, self._tracer, clone.instances
        )
        group.memory_is_shared = True
        if clone.record is not None:
            group.raise_error(clone.record, state.order)
        return group

    def _roll_back(
        self,
        guard: WriteGuard[LinkerState],
        part: InstanceGroupState[DlOperation],
        grants: list[Grant],
    ) -> None:
        """Roll back the creation of a group."""
        self._context.groups.pop(part.number, None)
        self._state.groups[:] = [number for number in self._state.groups if number != part.number]
        self._context.shared.unsubscribe(guard, part)
        self._state.release_blocks(part.number)
        release_all(grants)

    def _take_snapshot(self) -> _Snapshot:
        """Return the snapshot for a new group, a new one if the state of the linker has changed."""
        changes = self._context.shared.changes
        if self._snapshot is None or self._snapshot.changes != changes:
            self._snapshot = _Snapshot(self._state, self._context.main_group.memory, changes)
        return self._snapshot

    def shutdown(self, group: InstanceGroup) -> None:
        """Remove a group from the program, on its own thread.

        Does nothing after the end of the program.

        Blocks: cooperatively.
        """
        self._context.groups.pop(group.state.number, None)
        group.state.die()
        shared = self._context.shared
        if shared.cause:
            group.close_prepared()
            return  # the linker was cancelled; no leader waits for a dead member
        try:
            completed(self._shut_down, group)
        except LinkError:
            return  # cancelled meanwhile

    def _shut_down(self, group: InstanceGroup) -> None:
        with Exclusive(self._context.shared, group.state) as exclusive:
            self.take_out(group, exclusive.guard)
            self._context.reap_exited(exclusive.guard)

    def take_out(self, group: InstanceGroup, guard: WriteGuard[LinkerState] | None) -> None:
        """Remove a dead group from the program.

        Requires the write lock, unless the program has ended: then there is little to do. A second
        call does nothing.
        """
        number = group.state.number
        self._context.tids.pop(number, None)
        group.close_prepared()
        if guard is None:
            self._context.groups.pop(number, None)
        else:
            self._roll_back(guard, group.state, group.grants)


class _Snapshot:
    """A snapshot of the modules that a new group instantiates."""

    changes: int
    """The generation of the linker's state."""
    operation: Operation
    """The operation that loads all modules."""
    with_thread_locals: list[LoadedModule]
    """The modules that need a thread-local block."""
    engine: int
    """The address of the engine."""
    memory: Extern
    """The memory of the program."""
    stack_pointer_type: int
    """The address of the type of the stack pointer; 0 if the main module defines it."""
    makes_stack_pointer: bool
    """Whether the linker creates the stack pointer."""
    has_stack_pointer: bool
    """Whether the linker can set the stack pointer."""

    def __init__(self, state: LinkerState, memory: Extern, changes: int) -> None:
        self.changes = changes
        self.memory = memory
        main = state.main
        independent = main is None or main.is_position_independent
        patches = [
            SlotPatch(slot, definition).native
            for module in state.order
            for function, slot in module.slots.items()
            if (definition := module.definition_of(function)) is not None
        ]
        self.operation = Operation(
            table_size=state.table.size,
            loaded=[module.native for module in state.order],
            patches=patches,
            fillings=[slot.native for slot in state.host_slots()],
            noted=state.closure_slots,
            closures=[each.closure for each in state.closures.values()],
        )
        self.with_thread_locals = [
            module
            for module in state.order
            if module.thread_local is not None or module.makes_thread_locals
        ]
        makes_table = main is None or not (main.brings_table if independent else main.info.tables)
        self.table_type = table_type(Limits(0, state.table_maximum)) if makes_table else None
        """The type of the table; None if the main module defines it."""
        self.engine = address_of(engine())
        self.makes_stack_pointer = independent
        self.stack_pointer_type = i32_global_type(mutable=True) if independent else 0
        export = main.info.exports.get("__stack_pointer") if main is not None else None
        self.has_stack_pointer = independent or export is not None


def _replayed_in_c(number: int, operation: DlOperation) -> None:
    raise InternalError(f"operation {number} is not carried out in C: {operation!r}")
