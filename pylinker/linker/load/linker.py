"""The Linker of one program, and loading. Its parts are in the other files of this folder.

``dlopen`` is :meth:`Linker.load_module`, a transaction. Files are found, read and compiled before
any lock is taken. Under the load lock, the topology token and the write lock the leading group
allocates, resolves, instantiates and relocates; a failure up to there is rolled back in the
leader's group alone. Then the operation is published, every other group replays it, and token and
write lock are released. Constructors run last, under the load lock only, since they may call the
linker; if one traps, the modules are unloaded in all groups.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from pylinker.errors import (
    InitializationError,
    InternalError,
    LibraryNotFoundError,
    LinkError,
    SignatureMismatchError,
)
from pylinker.linker.debug.trace import UNTRACED, Untraced
from pylinker.linker.groups.closures import Closures
from pylinker.linker.groups.forked import watch
from pylinker.linker.groups.group import InstanceGroup
from pylinker.linker.groups.groups import Groups
from pylinker.linker.groups.keys import Keys
from pylinker.linker.groups.link_state import ThreadLinkState
from pylinker.linker.groups.prepared import PreparedInstanceGroup
from pylinker.linker.groups.signals import Signals
from pylinker.linker.groups.threads import GuestEntry, ThreadTable
from pylinker.linker.guests.abi import (
    EXIT,
    MODES,
    RTLD_GLOBAL,
    RTLD_NODELETE,
    RTLD_NOLOAD,
    RTLD_NOW,
)
from pylinker.linker.guests.table import HostTable
from pylinker.linker.guests.wasix import Errno
from pylinker.linker.load.compaction import redundant
from pylinker.linker.load.destructors import Destructors
from pylinker.linker.load.handles import Handles
from pylinker.linker.load.rollback import Load, Rollback
from pylinker.linker.load.room import GuestRoom
from pylinker.linker.load.scratch import Scratch
from pylinker.linker.load.symbols import Symbols
from pylinker.linker.load.unload import Unloader
from pylinker.linker.modules.layout import sharing, sharing_note
from pylinker.linker.modules.module import LoadedModule
from pylinker.linker.modules.scope import reachable
from pylinker.linker.plan.files import Files, ModuleBytes, Request, Unread
from pylinker.linker.plan.imports import HostImports
from pylinker.linker.plan.operation import LoadModules
from pylinker.linker.plan.plan import LoadPlan
from pylinker.linker.plan.state import LinkerState
from pylinker.linker.ranges import align_up
from pylinker.native.enums import RELAXED, SEQ_CST
from pylinker.native.hostfuncs import register_host, release_host
from pylinker.native.scopes import Finalized
from pylinker.native.threads import MAIN_THREAD
from pylinker.runtime.failures import STOPS
from pylinker.runtime.memory import Memory
from pylinker.sync import LinkerShared
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.linker import limits as _limits
    from pylinker.linker.groups.link_state import LinkTransaction
    from pylinker.linker.modules.locator import Locator
    from pylinker.linker.plan.operation import ThreadLocalBlock
    from pylinker.runtime.code import CodeCache
    from pylinker.runtime.wasi import WasiProcess
    from pylinker.sync import WriteGuard

__all__ = ["Linker"]

logger = logging.getLogger("pylinker.linker")

_PAGE = 1 << 16
_NO_ROOM: AbstractContextManager[None] = nullcontext()
_COMMAND = FuncType((), ())
_THREAD_START = FuncType(("i32", "i32"), ())


class _Ahead(NamedTuple):
    """A plan of one generation, and the module that is opened."""

    generation: int
    plan: LoadPlan
    root: LoadedModule | None


class Linker(Finalized):
    """The dynamic linker of one program.

    Methods that run guest code (loading, closing) block as long as it does; all but those that
    start the program may be called from any of its threads.
    """

    state: LinkerState
    """What all groups share."""
    context: ThreadLinkState
    """Where the calling thread stands: its group, and the locks."""
    symbols: Symbols
    """Lookups by name, address and slot."""
    handles: Handles
    """Handles of guests."""
    unloader: Unloader
    """Closing and unloading."""
    destructors: Destructors
    """Registered destructors."""
    keys: Keys
    """Keys of threads that libraries have created."""
    closures: Closures
    """Table slots for functions of no module."""
    memory: Memory
    """The guest's memory."""
    scratch: Scratch
    """Memory of the guest for the time of a call."""
    room: GuestRoom
    """Room for libraries from the guest's malloc."""
    threads: ThreadTable | None
    """The table of threads, or None in a program of one thread."""

    def __init__(
        self,
        *,
        process: WasiProcess,
        cache: CodeCache,
        locator: Locator,
        limits: _limits.Limits,
        bind_now: bool = False,
        threads: bool = False,
        preempt: bool = False,
        rewrite_waits: bool = True,
        rendezvous_timeout: float | None = None,
        stack_size: int = 1 << 20,
        name: str = "program",
        imports: HostImports | None = None,
        tracer: Untraced = UNTRACED,
    ) -> None:
        self._tracer = tracer
        self.state = LinkerState(limits, imports)
        self.state.threaded = threads
        self.state.rewrite_waits = rewrite_waits
        self.context = ThreadLinkState(
            LinkerShared.new(self.state, tracer.native),
            self.state,
            preempt=preempt,
            timeout=rendezvous_timeout,
        )
        self.context.shared.log.redundant = redundant
        self.locator = locator
        self.bind_now = bind_now
        self.stack_size = align_up(stack_size, 16)
        self.threads = ThreadTable(self, limit=limits.threads, name=name) if threads else None
        if self.threads is not None:
            self.context.reap = weakref.WeakMethod(self.threads.reap_under)
        self._cache = cache
        self._host_functions = HostTable(self)
        self.symbols = Symbols(self.context, self._host_functions.function_for, bind_now=bind_now)
        self._groups = Groups(
            self.context, process, cache, stack_size=self.stack_size, name=name, tracer=tracer
        )
        main_group = self._groups.create_main()
        # No reference from here on may lead back to the linker: a dropped program is freed at once.
        self.memory = Memory(main_group.store, main_group.native, lambda: main_group.memory)
        self._initialized = itertools.count(1)
        self.closures = Closures(self.context, cache)
        self.room = GuestRoom(self.context)
        self._exit_hook = register_host(self._host_functions.function_for(None, EXIT))
        self.destructors = Destructors(self.context, self.closures, self.symbols, self._exit_hook)
        self.keys = Keys(self.context, self.destructors.has_room)
        self.unloader = Unloader(self.context, self.destructors, self.keys, self.room, tracer)
        self._rollback = Rollback(
            self.context, self.unloader, self.destructors, self.keys, self.room
        )
        self.handles = Handles(self.context, self.symbols, self.memory, self.unloader)
        self.scratch = Scratch(self.context, self.memory, self.room)
        self.state.memory.grow = main_group.grow_memory
        self.state.memory.zero = main_group.zero_memory
        native = main_group.native
        self.state.memory.size = lambda: native.memory_size
        watch(self)

    def __repr__(self) -> str:
        groups = self.context.shared.num_groups
        return f"<Linker of {len(self.state.modules)} modules, {groups} groups>"

    def _drop(self) -> None:
        if hasattr(self, "_exit_hook"):
            release_host(self._exit_hook)

    def is_left_behind(self) -> bool:
        """Whether, in a child of fork(), the program needs a thread that is in the parent."""
        context = self.context
        return (
            (self.threads is not None and self.threads.has_threads)
            or context.main_lock.is_elsewhere
            or context.load_lock.is_elsewhere
        )

    def leave_behind(self) -> None:
        """Cancel the program in a child of fork(): every use raises SynchronizationAborted."""
        self.context.shared.abandon()
        if self.threads is not None:
            self.threads.leave_behind()

    @property
    def main(self) -> LoadedModule | None:
        """The main module, or None."""
        return self.state.main

    @property
    def group(self) -> InstanceGroup:
        """The calling thread's group."""
        return self.context.group

    def do_pending_link_operations(self, *, fast: bool) -> None:
        """Take part in an operation of another group, if one is pending.

        For a thread that runs long without entering the guest. Blocks: until the leader has
        published.

        Args:
            fast: Whether the flag is loaded relaxed: a change that was just made may be missed, so
                call again soon.
        """
        shared = self.context.shared
        if shared.dl_operation_pending_load(RELAXED if fast else SEQ_CST):
            shared.do_pending_link_operations_internal(self.group.state)

    def catch_up(self) -> None:
        """Replay in the calling thread's group what it missed while it was idle.

        Blocks: cooperatively.
        """
        if self.group.state.is_behind:
            self.context.shared.do_pending_link_operations_internal(self.group.state)

    # Groups

    def prepare_for_instance_group(
        self, *, needs_stack: bool = True, stack_top: int = 0
    ) -> PreparedInstanceGroup:
        """Prepare a new group: take the topology token, and the lock if it is free.

        So nothing changes until the group exists. Blocks: cooperatively. Hand the result to
        :meth:`create_instance_group`, or abandon it.

        Args:
            needs_stack: As in PreparedInstanceGroup.
            stack_top: As in PreparedInstanceGroup.
        """
        return self._groups.prepare(needs_stack=needs_stack, stack_top=stack_top)

    def create_instance_group(self, prepared: PreparedInstanceGroup) -> InstanceGroup:
        """Create the group that was prepared, with every module loaded so far.

        Its thread need not exist yet. Blocks: for the write lock if that was not free, holding the
        token. Releases both. Raises what kept a module from being instantiated; nothing is left
        then.
        """
        with self._tracer.span("new thread"):
            return self._groups.create(prepared)

    def shutdown_instance_group(self, group: InstanceGroup) -> None:
        """Remove a group from the program, on its own thread. Blocks: cooperatively.

        Does nothing if the program has ended.
        """
        self._groups.shutdown(group)

    def take_group_out(self, group: InstanceGroup, guard: WriteGuard[LinkerState] | None) -> None:
        """Remove a dead group from the program.

        Requires: the write lock, whose ``guard`` is given; None: the program has ended.
        """
        self._groups.take_out(group, guard)

    def note_thread(self, group: InstanceGroup, tid: int) -> None:
        """Note the guest's number of a group's thread, which is about to begin."""
        self.context.tids[group.state.number] = tid
        self._tracer.name_row(group.state.number, f"thread {tid}")

    def thread_spawn(self, argument: int) -> int:
        """Start a thread, as ``wasi.thread-spawn`` does.

        Returns:
            The number of the thread, or -1 if it could not be started.
        """
        main, threads = self.main, self.threads
        position = main.entry("wasi_thread_start", _THREAD_START) if main is not None else None
        if main is None or threads is None or position is None:
            logger.warning("thread-spawn: the main module exports no function wasi_thread_start")
            return -1
        entry = GuestEntry(main, position, lambda tid: (tid, argument))
        try:
            # The thread finds its own stack: wasi_thread_start sets it up from the argument.
            return threads.start(entry, needs_stack=False).tid
        except (*STOPS, InternalError):
            raise
        except (LinkError, RuntimeError, MemoryError) as error:
            logger.warning("thread-spawn: %s", error)
            return -1

    def become_wasix(self) -> None:
        """Become the linker of a WASIX program, before anything is loaded.

        Signals are delivered to its threads, and its error numbers are WASIX's.
        """
        self.state.wasix = True
        group = self.context.main_group
        group.set_wasi_fault(Errno.MEMVIOLATION)
        group.native.set_thread(MAIN_THREAD)
        group.signals = Signals(self.context, group)
        if self.threads is not None:
            self.threads.reserve(MAIN_THREAD)

    # Loading

    def new_plan(self) -> LoadPlan:
        """Return an empty plan for a load."""
        plan = LoadPlan(self.state, self.locator, self._cache, self._host_functions.function_for)
        plan.check = self.context.check_not_stopped
        plan.tracer = self._tracer
        return plan

    def commit_start(
        self, plan: LoadPlan, operation: LoadModules, begin: Callable[[], None] | None = None
    ) -> None:
        """Load the modules of the start; they become the global scope and are never unloaded.

        Args:
            plan: The plan of the load.
            operation: The operation of the plan.
            begin: Called when all is relocated, before the first constructor.
        """
        for module in plan.scope:
            module.permanent = True
        with (
            self.context.loading() as group,
            Load(self._rollback, self.unloader.nested_opens, group) as load,
        ):
            load.plan = plan
            with self.context.exclusive() as change, self._tracer.span("link", modules=plan.new):
                self._instantiate(
                    change, load, plan, operation, global_=True, bind_now=self.bind_now
                )
            if begin is not None:
                begin()
            self._construct(group, plan)

    def load_later(self, plan: LoadPlan) -> None:
        """Load libraries next to a main module that chose its own addresses and runs already."""
        for module in plan.scope:
            module.permanent = True
        with (
            self.context.loading() as group,
            Load(self._rollback, self.unloader.nested_opens, group) as load,
        ):
            load.plan = plan
            with (
                self._room_for(plan),
                self.context.exclusive() as change,
                self._tracer.span("link", modules=plan.new),
            ):
                self._load(change, load, plan, RTLD_GLOBAL)
            self._construct(group, plan)

    def load_module(
        self,
        name: str | ModuleBytes,
        mode: int = 0,
        *,
        requester: LoadedModule | None = None,
        trusted: bool = False,
        search: Sequence[str] | None = None,
    ) -> LoadedModule:
        """Open a library, as ``dlopen`` does: load it with what it needs, or count a handle.

        Afterwards either everything is loaded or nothing has changed. A guest that exits in a
        constructor raises ExitTrap.

        Args:
            name: The name, path or bytes of the library.
            mode: A combination of RTLD flags.
            requester: The module that opens it.
            trusted: Whether the host wrote the name.
            search: Directories of the guest in place of its ``LD_LIBRARY_PATH``.

        Raises:
            LinkError: The library cannot be loaded; RendezvousTimeout among others.
        """
        request = Request(name, requester, trusted=trusted, search=search)
        if mode & ~MODES:
            raise LinkError(
                f"dlopen({request.name!r}): unknown flags {mode & ~MODES:#x} in mode",
                module=request.name,
            )
        with self._tracer.span("dlopen", library=request):
            files, ahead = Files(), None
            if self._known(request) is None:  # else it is most likely open already
                ahead = self._look_ahead(request, mode, files)
            while True:  # until all files that the load needs have been read, without a lock
                with self.context.loading() as group:
                    root = self._open_again(request, mode) or self._open(
                        group, request, mode, files, ahead
                    )
                if root is not None:
                    break
                ahead = self._look_ahead(request, mode, files)
        if loads := self.unloader.nested_opens.get(group.state.number):
            loads[-1][root] += 1
        return root

    def _open_again(self, request: Request, mode: int) -> LoadedModule | None:
        """Count one more handle of a library that is open, or return None if there is more to do.

        Requires: the load lock, which protects handles.
        """
        module = self._known(request)
        if module is None or not module.handles or self.context.shared.cause:
            return None
        if mode & RTLD_NODELETE or (mode & RTLD_GLOBAL and module not in self.state.global_scope):
            return None
        module.handles += 1
        return module

    def _known(self, request: Request) -> LoadedModule | None:
        return (
            self.state.by_path(request.module_bytes.key)
            if request.module_bytes
            else self.state.by_name(request.name)
        )

    def _binds_now(self, mode: int) -> bool:
        return self.bind_now or bool(mode & RTLD_NOW)

    def _look_ahead(self, request: Request, mode: int, files: Files) -> _Ahead:
        """Find, read and compile what a load may need.

        No lock is held, so no other thread waits for a slow file.
        """
        self.context.check_not_instantiating()
        files.may_read = True
        generation = self.context.shared.changes  # before anything is looked up
        plan = self.new_plan()
        plan.files = files
        root = self._discover(plan, request, mode)
        plan.compile(bind_now=self._binds_now(mode), reading=self.context.reading)
        return _Ahead(generation, plan, root)

    def _discover(self, plan: LoadPlan, request: Request, mode: int) -> LoadedModule | None:
        """Return the module of a request; with RTLD_NOLOAD None if it is not loaded."""
        if mode & RTLD_NOLOAD:
            return self._known(request) or self.state.by_path(plan.path_of(request))
        return plan.discover([request])[0]

    def _open(
        self, group: InstanceGroup, request: Request, mode: int, files: Files, ahead: _Ahead | None
    ) -> LoadedModule | None:
        """Load and count, under the load lock.

        The set of modules changes only under the load lock. If nothing has changed since
        `_look_ahead`, its plan is used; otherwise the load is planned again from the files that
        were read.

        Returns:
            The module, or None if there is more to read first.
        """
        with Load(self._rollback, self.unloader.nested_opens, group) as load:
            if ahead is not None and ahead.generation == self.context.shared.changes:
                plan, found = ahead.plan, ahead.root
            else:
                plan = self.new_plan()
                plan.files = files
                files.may_read = False
                try:
                    found = self._discover(plan, request, mode)
                except Unread:
                    return None
            if found is None:
                where = "bytes" if request.module_bytes else plan.path_of(request)
                raise LibraryNotFoundError(
                    request.name, searched=[(where, "is not loaded, and RTLD_NOLOAD was given")]
                )
            root = found
            # Does nothing for the plan of `_look_ahead`, which has compiled its modules.
            plan.compile(bind_now=self._binds_now(mode))
            load.plan = plan
            with self._room_for(plan), self.context.exclusive(group) as change:
                if plan.new:
                    with self._tracer.span("link", modules=plan.new):
                        self._load(change, load, plan, mode)
                elif mode & RTLD_GLOBAL:
                    load.promoted += self.state.add_to_global_scope(reachable(root))
                root.handles += 1
                load.counted = root
            if plan.new:
                self._construct(group, plan)
            plan.keep()
            if mode & RTLD_NODELETE:
                root.permanent = True
        return root

    def _room_for(self, plan: LoadPlan) -> AbstractContextManager[None]:
        """Return a context manager in which there is room for the modules of a plan.

        Does nothing unless libraries get their memory from the guest's malloc. Requires: the load
        lock.
        """
        return self._fetching(plan) if self.state.memory.from_guest and plan.new else _NO_ROOM

    def _fetching(self, plan: LoadPlan) -> AbstractContextManager[None]:
        def wanted() -> list[tuple[int, int]]:
            blocks = [block for module in plan.new if (block := module.thread_local) is not None]
            return [*plan.wanted_memory(), *(blocks * (len(self.state.groups) - 1))]

        return self.room.fetched(wanted, module=plan.new[-1].name)

    def room_for_thread(self, *, needs_stack: bool) -> AbstractContextManager[None]:
        """Return a context manager in which there is room for a new thread, likewise."""
        if not self.state.memory.from_guest:
            return _NO_ROOM

        def wanted() -> list[tuple[int, int]]:
            blocks = [
                block for module in self.state.order if (block := module.thread_local) is not None
            ]
            return [*([(self.stack_size, 16)] if needs_stack else []), *blocks]

        return self.room.fetched(wanted, module="thread")

    def _load(self, change: LinkTransaction, load: Load, plan: LoadPlan, mode: int) -> None:
        """Place, resolve and instantiate the plan's modules beside those that run already."""
        group = load.group
        table_size, memory_size = group.native.table_size, group.native.memory_size
        if not table_size and not group.has_table:
            group.table  # noqa: B018 - raises the error that says how to link the main module
        self.state.table.note_size(table_size)
        bind_now = self._binds_now(mode)
        plan.make_room(memory_size)
        for module in plan.new:
            plan.allocate(module)
            module.local_scope = plan.scope
        operation = plan.resolve(bind_now=bind_now)
        self._grow_to_minimum(group, plan.new, memory_size)
        self._instantiate(
            change, load, plan, operation, global_=bool(mode & RTLD_GLOBAL), bind_now=bind_now
        )

    def _instantiate(
        self,
        change: LinkTransaction,
        load: Load,
        plan: LoadPlan,
        operation: LoadModules,
        *,
        global_: bool,
        bind_now: bool,
    ) -> None:
        """Instantiate and relocate in this group, then publish: the others instantiate."""
        group = load.group

        def commit() -> None:
            plan.is_published = True  # from now on undoing it takes all groups
            new = set(plan.new)
            self.state.add([module for module in plan.scope if module in new])
            known = set(self.state.order)
            self.state.order += [module for module in plan.new if module not in known]
            plan.pointers.keep()
            if global_:
                known = set(load.promoted)
                load.promoted += [
                    each for each in self.state.not_in_global_scope(plan.scope) if each not in known
                ]
                self.state.add_to_global_scope(plan.scope)

        if self.state.threaded:
            operation = self._with_blocks(operation, group)
        plan.is_applied = True
        group.apply(operation)
        for module in plan.new:
            group.relocate(module)
        if bind_now:
            for module in plan.new:
                for index, entry in enumerate(module.plt):
                    if entry.definition is not None:
                        group.bind(module, index, entry.definition)
        change.publish(operation, commit)

    def _with_blocks(self, operation: LoadModules, leader: InstanceGroup) -> LoadModules:
        """Add the thread-local blocks of the new modules for every group but the leader.

        The leader's group keeps the block inside the module's own data.
        """
        blocks: list[ThreadLocalBlock | None] = []
        for module in operation.modules:
            if module.outline.is_shared:
                continue
            if not module.is_main:  # which may initialise those of its threads itself
                module.check_thread_locals()
            if module.thread_local is not None or module.makes_thread_locals:
                blocks += [
                    self.state.new_block(number, module)
                    for number in self.state.groups
                    if number != leader.state.number
                ]
        made = tuple(filter(None, blocks))
        return dataclasses.replace(operation, blocks=made) if made else operation

    def _construct(self, group: InstanceGroup, plan: LoadPlan) -> None:
        """Run the constructors of a load, dependencies first and main after all of them."""
        for module in (
            sorted(plan.new, key=lambda each: each.is_main) if len(plan.new) > 1 else plan.new
        ):
            number = next(self._initialized)
            if not (module.is_main and module.lifecycle_function("_start", _COMMAND)):
                refused = self.state.destructors_refused
                try:
                    group.construct(module)
                except InitializationError as error:
                    if self.state.destructors_refused == refused:
                        raise
                    limit = (
                        f"the limit of {self.state.limits.destructors} destructors is reached: "
                        "raise Limits(destructors=...)"
                    )
                    raise InitializationError(
                        f"{error}; {limit}", module=error.module, symbol=error.symbol
                    ) from error.__cause__
            module.initialized = number

    def _grow_to_minimum(
        self, group: InstanceGroup, modules: Iterable[LoadedModule], size: int
    ) -> None:
        """Grow the memory, of ``size`` bytes or more, to the minimum that modules import.

        The added memory is free for later libraries.
        """
        for module in modules:
            for memory in module.info.imported_memories:
                if memory.limits.shared != group.memory_is_shared:
                    raise SignatureMismatchError(
                        module=module.name,
                        symbol="memory",
                        wanted=sharing(memory.limits.shared),
                        provider="the program",
                        found=sharing(group.memory_is_shared),
                        note=sharing_note(module.name, shared=memory.limits.shared),
                    )
                minimum = memory.limits.minimum * _PAGE
                if minimum > size and minimum > (size := group.memory_size):
                    allocator = self.state.memory
                    (allocator.grow_for if allocator.from_guest else allocator.reserve)(
                        minimum - size, module=module.name
                    )

    # Closing

    def end_thread(self, *, own_stack: bool = False) -> None:
        """Run the destructors of the calling thread, and unload what only they have kept.

        Blocks: cooperatively, while the destructors run.

        Args:
            own_stack: Whether they get a stack of their own: that of a thread that the guest has
                started may be another thread's by now.

        Raises:
            LimitError: There is no room for the stack.
            BaseException: What the first destructor that failed has raised.
        """
        group = self.group
        if not group.thread_exits:
            return
        top = group.stack_top if own_stack else None
        if top is None:
            self.unloader.end_thread()
            return
        with (
            self.scratch.allocated(self.stack_size, "stack of a thread") as stack,
            self.scratch.stack(group, top, stack + self.stack_size),
        ):
            self.unloader.end_thread()
