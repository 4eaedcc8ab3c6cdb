"""The groups of a program: how one begins, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker.errors import InternalError, LinkError, NotDynamicError
from pylinker.linker.dlfcn import DL_ERROR_CAPACITY
from pylinker.linker.group import InstanceGroup
from pylinker.linker.operation import AllocateFunctionTable, LoadModules, SlotPatch
from pylinker.linker.prepared import PreparedInstanceGroup
from pylinker.runtime.store import GuestStore
from pylinker.runtime.wasi import WasiHost
from pylinker.wasm import Limits

if TYPE_CHECKING:
    from pylinker import _native
    from pylinker.linker.context import LinkContext
    from pylinker.linker.operation import DlOperation
    from pylinker.linker.state import LinkerState
    from pylinker.runtime.code import CodeCache
    from pylinker.runtime.wasi import WasiProcess
    from pylinker.sync import TopologyToken, WriteGuard

__all__ = ["Groups"]


class Groups:
    """Makes the groups of one program and takes them out again.

    ``stack_size`` (bytes) is that of each thread but the first.
    """

    def __init__(self, context: LinkContext, process: WasiProcess, cache: CodeCache, *, stack_size: int) -> None:
        self._context = context
        self._state = context.state
        self._process = process
        self._cache = cache
        self._stack_size = stack_size
        # Threads share the one store that has the process; a single one has it in its own.
        self._host = WasiHost(self._new_store(None, hosts_process=True), process, cache) if self._state.threaded else None

    def create_main(self) -> InstanceGroup:
        """Create the group that runs main, the only one for now."""
        shared = self._context.shared
        with shared.write_linker_state_alone() as guard:
            group = self._new_group(guard, None)
        self._context.set_main_group(group)
        shared.bootstrap_exclusive_write_then(lambda state: state.groups.append(group.state.number))
        return group

    def _new_store(self, member: _native.Member | None, *, hosts_process: bool) -> GuestStore:
        limits = self._state.limits
        return GuestStore(
            member, memory=limits.memory, table=limits.table, preempt=self._context.preempt, hosts_process=hosts_process
        )

    def _new_group(self, guard: WriteGuard[LinkerState], topology: TopologyToken | None) -> InstanceGroup:
        """Make a group without instances. The rendezvous knows it from now on; it is parked."""
        shared = self._context.shared
        state = shared.subscribe(guard, _replayed_in_c, topology)
        try:
            store = self._new_store(state.member, hosts_process=self._host is None)
            host = self._host or WasiHost(store, self._process, self._cache)
            group = InstanceGroup(state, store, host, self._cache, shared.log.native, None if topology else self._context.turn)
        except BaseException:
            shared.unsubscribe(guard, state)
            raise
        return group

    def prepare(self, *, wants_stack: bool = True) -> PreparedInstanceGroup:
        """Prepare a new group, on the parent's thread: take the topology token, so that nothing changes until the child exists.

        Blocks, cooperatively. Hand the result to the child's thread (:meth:`create`), or abandon it.
        """
        self._context.check_not_instantiating()
        return PreparedInstanceGroup(self._context.shared.acquire_topology_token(self._context.group.state), wants_stack=wants_stack)

    def create(self, prepared: PreparedInstanceGroup) -> InstanceGroup:
        """Create the group that was prepared, on the child's thread, with every module loaded so far.

        Blocks for the write lock, holding the token; releases both. Raises what kept a module from being instantiated; nothing is left
        then.
        """
        topology = prepared.take()
        try:
            topology, guard = self._context.shared.write_linker_state_blocking_holding_topology(topology)
            with guard:
                group = self._new_group(guard, topology)
                try:
                    with self._context.creating(group):
                        self._furnish(group, wants_stack=prepared.wants_stack)
                except BaseException:
                    self._clear(guard, group)
                    raise
                self._state.groups.append(group.state.number)
                return group
        finally:
            topology.release()

    def _furnish(self, group: InstanceGroup, *, wants_stack: bool) -> None:
        """Give a new group memory, table, stack, and instances of all modules."""
        main_group = self._context.main_group
        group.share_memory(main_group)
        if self._state.main is None or self._state.main.is_position_independent or not self._state.main.info.tables:
            group.make_table(Limits(self._state.table.size, self._state.table_maximum))
        if wants_stack:
            group.stack = (self._state.memory.allocate(self._stack_size, 16, module="stack of a thread", zero=False), self._stack_size)
        if self._state.main is None or self._state.main.is_position_independent:
            group.make_stack_pointer(sum(group.stack))
        number = group.state.number
        blocks = [self._state.new_block(number, module) for module in self._state.order]
        patches = [
            SlotPatch(slot, definition)
            for module in self._state.order
            for function, slot in module.slots.items()
            if (definition := module.definition_of(function)) is not None
        ]
        group.apply(LoadModules(tuple(self._state.order), self._state.table.size, tuple(patches), tuple(filter(None, blocks))))
        if self._state.finalizer is not None:
            group.apply(AllocateFunctionTable(self._state.table.size, self._state.finalizer))
        if not wants_stack:
            return
        if group.stack_top is None:
            raise NotDynamicError(
                "a thread for a function needs a stack, but the main module does not export its stack pointer; "
                "link it with -Wl,--export=__stack_pointer, or start the thread from the guest"
            )
        group.stack_top = sum(group.stack)  # an ordinary main's instance begins with the stack of the main thread

    def shutdown(self, group: InstanceGroup) -> None:
        """Take a group out of the program, on its own thread. Blocks, cooperatively. Nothing to do if the program has ended."""
        group.state.member.die()
        group.close_bounds()
        shared = self._context.shared
        if shared.cause:
            return  # the whole linker goes; a dead member is waited for by nobody
        try:
            topology, guard = shared.write_linker_state_with_topology(group.state)
        except LinkError:
            return  # cancelled meanwhile
        with topology, guard:
            self._state.groups.remove(group.state.number)
            self._clear(guard, group)

    def _clear(self, guard: WriteGuard[LinkerState], group: InstanceGroup) -> None:
        number = group.state.number
        self._context.shared.unsubscribe(guard, group.state)
        for key in [key for key in self._state.blocks if key[0] == number]:
            self._state.release_block(self._state.blocks.pop(key))
        self._state.memory.release(*group.stack)
        if group.dl_error_address:
            self._state.memory.release(group.dl_error_address, DL_ERROR_CAPACITY)


def _replayed_in_c(number: int, operation: DlOperation) -> None:
    raise InternalError(f"operation {number} is not carried out in C: {operation!r}")
