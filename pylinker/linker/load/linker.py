"""The Linker: groups, loading and closing, for one program.

Loading is a transaction. Under topology token and write lock the leading group plans, places,
resolves, instantiates and relocates: up to there a failure is undone where it happened. Then the
operation is published, every other group carries it out, and the locks are released. Constructors
run last, without locks, since they may call the linker; if one traps, the modules are unloaded
everywhere.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pylinker.errors import (
    ClosedError,
    InitializationError,
    InternalError,
    LibraryNotFoundError,
    LinkError,
    RendezvousTimeout,
    SignatureMismatchError,
    SymbolNotFoundError,
)
from pylinker.linker.debug.log import LIBS
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
    RTLD_DEFAULT,
    RTLD_GLOBAL,
    RTLD_NEXT,
    RTLD_NODELETE,
    RTLD_NOLOAD,
    RTLD_NOW,
)
from pylinker.linker.guests.table import HostTable
from pylinker.linker.guests.wasix import Errno
from pylinker.linker.load.compaction import redundant
from pylinker.linker.load.destructors import Destructors
from pylinker.linker.load.room import GuestRoom
from pylinker.linker.load.symbols import Symbols
from pylinker.linker.modules.layout import sharing, sharing_note
from pylinker.linker.modules.module import AtExit, LoadedModule
from pylinker.linker.modules.scope import reachable
from pylinker.linker.plan.files import Files, ModuleBytes, Request, Unread
from pylinker.linker.plan.imports import HostImports
from pylinker.linker.plan.operation import LoadModules, UnloadModule
from pylinker.linker.plan.plan import LoadPlan
from pylinker.linker.plan.state import LinkerState, scope_of, scope_of_handle
from pylinker.linker.ranges import Grant, align_up, release_all
from pylinker.native.enums import RELAXED, SEQ_CST
from pylinker.native.hostfuncs import register_host, release_host
from pylinker.native.scopes import Finalized, Scope, completed
from pylinker.native.threads import MAIN_THREAD
from pylinker.runtime.failures import STOPS
from pylinker.runtime.memory import Memory
from pylinker.sync import LinkerShared
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from typing import Self

    from pylinker.linker import limits as _limits
    from pylinker.linker.groups.link_state import LinkTransaction
    from pylinker.linker.modules.locator import Locator
    from pylinker.linker.modules.scope import SymbolScope
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


class Load(Scope):
    """A load, from its plan to the end of its constructors: left with an exception, it is undone.

    ``opened`` has how often its constructors open what, to be closed then, or if a load around it
    fails. ``promoted`` are the modules that are new in the global scope, ``counted`` is the module
    that was open already and has one more handle.
    """

    __slots__ = (
        "_journals",
        "_linker",
        "_number",
        "counted",
        "group",
        "opened",
        "plan",
        "promoted",
    )

    def __init__(self, linker: Linker, group: InstanceGroup) -> None:
        self._linker = linker
        self._journals = linker.journals
        self._number = group.state.number
        self.group = group
        self.opened: Counter[LoadedModule] = Counter()
        self.plan: LoadPlan | None = None
        self.promoted: list[LoadedModule] = []
        self.counted: LoadedModule | None = None

    def enter(self) -> Self:
        """Begin to note what is opened."""
        self._journals.setdefault(self._number, []).append(self.opened)
        return self

    def leave(self, error: BaseException | None) -> None:
        """Undo the load if it has failed."""
        if error is not None and self.plan is not None:
            self._linker.undo_load(self, self.plan)
        journals = self._journals.get(self._number, [])
        if not any(each is self.opened for each in journals):
            return
        if error is None and len(journals) > 1:
            outer = journals[-2]
            for module in list(self.opened):
                count = self.opened[module]
                outer[module] += count  # and nothing is called up to the `del`
                del self.opened[module]
        del journals[-1]
        if not journals:
            self._journals.pop(self._number, None)  # groups come and go


class _Ahead(NamedTuple):
    """A plan, as of ``changes``, and the module that was asked for."""

    changes: int
    plan: LoadPlan
    root: LoadedModule | None


class Linker(Finalized):
    """The dynamic linker of one program.

    ``state`` is what all groups share, ``group`` the calling thread's group, ``symbols`` answers
    what names mean, ``threads`` is the table of threads, or None in a program of one. Methods that
    run guest code (loading, closing) block as long as it does; all but those that start the program
    may be called from any of its threads.
    """

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
        # What follows must not lead back to the linker: a program that is dropped is freed at once.
        self.memory = Memory(main_group.store, main_group.native, lambda: main_group.memory)
        self._initialized = itertools.count(1)
        self.journals: dict[
            int, list[Counter[LoadedModule]]
        ] = {}  # by group: what the constructors of loads under way have opened
        self.closures = Closures(self.context, cache)
        self.room = GuestRoom(self.context)
        self._exit_hook = register_host(self._host_functions.function_for(None, EXIT))
        self._destructors = Destructors(self.context, self.closures, self.symbols, self._exit_hook)
        self._keys = Keys(self.context, self._destructors.has_room)
        self.state.memory.grow = main_group.grow_memory
        self.state.memory.zero = main_group.zero_memory
        native = main_group.native
        self.state.memory.size = lambda: native.memory_size
        watch(self)

    def __repr__(self) -> str:
        return f"<Linker of {len(self.state.modules)} modules, {self.context.shared.num_groups} groups>"

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
        """Give the program up in a child of fork(): every use raises SynchronizationAborted."""
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
        """Take part in an operation of another group, if one is pending; for a thread that runs long without entering the guest.

        With ``fast`` the flag is loaded relaxed: a change that was just made may be missed, so call
        again soon. Blocks until the leader has published.
        """
        shared = self.context.shared
        if shared.dl_operation_pending_load(RELAXED if fast else SEQ_CST):
            shared.do_pending_link_operations_internal(self.group.state)

    def catch_up(self) -> None:
        """Have the calling thread's group replay what it missed while it was idle.

        Blocks, cooperatively.
        """
        if self.group.state.is_behind:
            self.context.shared.do_pending_link_operations_internal(self.group.state)

    # Groups

    def prepare_for_instance_group(
        self, *, needs_stack: bool = True, stack_top: int = 0
    ) -> PreparedInstanceGroup:
        """Prepare a new group: take the topology token, so that nothing changes until it exists, and the lock if it is free.

        ``needs_stack`` and ``stack_top`` are those of PreparedInstanceGroup. Blocks, cooperatively.
        Hand the result to :meth:`create_instance_group`, or abandon it.
        """
        return self._groups.prepare(needs_stack=needs_stack, stack_top=stack_top)

    def create_instance_group(self, prepared: PreparedInstanceGroup) -> InstanceGroup:
        """Create the group that was prepared, with every module loaded so far.

        Its thread need not exist yet. Blocks for the write lock if that was not free, holding the
        token; releases both. Raises what kept a module from being instantiated; nothing is left
        then.
        """
        with self._tracer.span("new thread"):
            return self._groups.create(prepared)

    def shutdown_instance_group(self, group: InstanceGroup) -> None:
        """Take a group out of the program, on its own thread. Blocks, cooperatively.

        Nothing to do if the program has ended.
        """
        self._groups.shutdown(group)

    def take_group_out(self, group: InstanceGroup, guard: WriteGuard[LinkerState] | None) -> None:
        """Take a dead group out of the program, for whoever has the write lock; None: the program has ended."""
        self._groups.take_out(group, guard)

    def note_thread(self, group: InstanceGroup, tid: int) -> None:
        """Note the number that the guest has for a group's thread, which is about to begin."""
        self.context.tids[group.state.number] = tid
        self._tracer.name_row(group.state.number, f"thread {tid}")

    def thread_spawn(self, argument: int) -> int:
        """Start a thread as ``wasi.thread-spawn`` wants it; returns its number, or -1 if it could not be started."""
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
        """Be the linker of a WASIX program, before anything is loaded: its threads hear signals, and its error numbers are WASIX's."""
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
        """Carry out the load of what is there from the start; it becomes the global scope and is never unloaded.

        ``begin`` is called when all is relocated, before the first constructor.
        """
        for module in plan.scope:
            module.permanent = True
        with self.context.loading() as group, Load(self, group) as load:
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
        with self.context.loading() as group, Load(self, group) as load:
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
        """Open a library, as ``dlopen`` does: load it with what it needs, or count one more handle of it.

        ``mode`` is a combination of RTLD flags; ``trusted`` says that the host wrote the name,
        ``search`` are directories of the guest that take the place of its ``LD_LIBRARY_PATH``.
        Raises LinkError children, RendezvousTimeout among them; a guest that exits in a constructor
        raises ExitTrap. Afterwards either everything is loaded or nothing has changed.
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
            while True:
                with self.context.loading() as group:
                    root = self._open_again(request, mode) or self._open(
                        group, request, mode, files, ahead
                    )
                if root is not None:
                    break
                ahead = self._look_ahead(request, mode, files)
        if self.journals:
            journals = self.journals.get(group.state.number)
            if journals:
                journals[-1][root] += 1
        return root

    def _open_again(self, request: Request, mode: int) -> LoadedModule | None:
        """Count one more handle of a library that is open, or return None if there is more to do.

        Under the load lock, which guards handles.
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
        """Find, read and compile what a load may need, without any lock: a file that is slow keeps no other thread waiting."""
        self.context.check_not_instantiating()
        files.may_read = True
        changes = self.context.shared.changes  # before anything is looked at
        plan = self.new_plan()
        plan.files = files
        root = self._discover(plan, request, mode)
        plan.compile(bind_now=self._binds_now(mode), reading=self.context.reading)
        return _Ahead(changes, plan, root)

    def _discover(self, plan: LoadPlan, request: Request, mode: int) -> LoadedModule | None:
        """Return the module that a request means; with RTLD_NOLOAD None if it is not loaded."""
        if mode & RTLD_NOLOAD:
            return self._known(request) or self.state.by_path(plan.path_of(request))
        return plan.discover([request])[0]

    def _open(
        self, group: InstanceGroup, request: Request, mode: int, files: Files, ahead: _Ahead | None
    ) -> LoadedModule | None:
        """Do all of that which :meth:`load_module` does, under the load lock.

        None: there is more to read first. Which modules there are changes only under the load lock.
        If nothing has changed since the look ahead, its plan holds; else a new one is made of the
        files that were read.
        """
        with Load(self, group) as load:
            if ahead is not None and ahead.changes == self.context.shared.changes:
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
            plan.compile(
                bind_now=self._binds_now(mode)
            )  # it is, already, unless the plan is new and something else is new in it
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
        """Have room for what a plan loads, where the guest's malloc gives it; needs the load lock."""
        return self._fetching(plan) if self.state.memory.from_guest and plan.new else _NO_ROOM

    def _fetching(self, plan: LoadPlan) -> AbstractContextManager[None]:
        def wanted() -> list[tuple[int, int]]:
            blocks = [block for module in plan.new if (block := module.thread_local) is not None]
            return [*plan.wanted_memory(), *(blocks * (len(self.state.groups) - 1))]

        return self.room.fetched(wanted, module=plan.new[-1].name)

    def room_for_thread(self, *, needs_stack: bool) -> AbstractContextManager[None]:
        """Have room for a thread that begins, where the guest's malloc gives it."""
        if not self.state.memory.from_guest:
            return _NO_ROOM

        def wanted() -> list[tuple[int, int]]:
            blocks = [
                block for module in self.state.order if (block := module.thread_local) is not None
            ]
            return [*([(self.stack_size, 16)] if needs_stack else []), *blocks]

        return self.room.fetched(wanted, module="thread")

    def _load(self, change: LinkTransaction, load: Load, plan: LoadPlan, mode: int) -> None:
        """Place and resolve the plan's modules behind what runs already, and instantiate them in all groups."""
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
        self._meet_memory(group, plan.new, memory_size)
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
        """Instantiate and relocate in this group, then in all."""
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
        """Give every other group its thread-local blocks of the new modules; the leader uses the modules' initial copies."""
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
                    limit = f"the limit of {self.state.limits.destructors} destructors is reached: raise Limits(destructors=...)"
                    raise InitializationError(
                        f"{error}; {limit}", module=error.module, symbol=error.symbol
                    ) from error.__cause__
            module.initialized = number

    def undo_load(self, load: Load, plan: LoadPlan) -> None:
        """Undo a load that failed, as far as it came. Under the load lock."""
        if plan.is_published:
            self._roll_back(load, plan)
        else:
            self.context.undo(lambda: self._take_back(load, plan))
        if self.state.memory.from_guest:
            with _logged("giving back the room of a failed load"):
                self.room.trim()

    def _take_back(self, load: Load, plan: LoadPlan) -> None:
        """Undo what no other group has seen. Under the write lock."""
        if not plan.new:
            promoted = set(load.promoted)
            self.state.global_scope = [
                module for module in self.state.global_scope if module not in promoted
            ]
            if load.counted is not None:
                load.counted.handles -= 1
                load.counted = None
            return
        if plan.is_applied:
            load.group.apply(self._unloading(plan.new, plan))
        plan.undo()
        if plan.is_applied:
            self.state.remove(plan.new)

    def _roll_back(self, load: Load, plan: LoadPlan) -> None:
        """Undo a load whose constructors failed, with what they opened."""
        gone = self._dependents(plan.new)
        initialized = [module for module in gone if module.initialized]
        with _logged("destructor during the undoing of a failed load"):
            self._destructors.run_thread(initialized)
        with _logged("destructor during the undoing of a failed load"):
            self._destructors.run(initialized)
        with _logged("key of a failed load"):
            self._keys.drop(gone)
        try:
            if not all(module.unloaded for module in plan.new):
                with self.context.exclusive() as change:
                    self._close_opened(load, gone)
                    self._unload(change, gone, plan)
            self.collect()
        except LinkError as error:
            logger.warning("undoing a failed load: %s", error)

    def _close_opened(self, load: Load, gone: set[LoadedModule]) -> None:
        kept = set(load.promoted) - gone
        self.state.global_scope = [
            module for module in self.state.global_scope if module not in kept
        ]
        for module in gone:
            module.handles, module.permanent = 0, False
        for module in list(load.opened):
            count = 0 if module in gone else load.opened[module]
            module.handles -= count  # and nothing is called up to the `del`
            del load.opened[module]
        self.state.hide(gone)

    def _dependents(self, modules: Iterable[LoadedModule]) -> set[LoadedModule]:
        """Return the modules and all others that use them (a constructor may have opened some)."""
        gone = set(modules)
        while True:
            more = {
                each
                for each in self.state.modules
                if each not in gone
                and not each.permanent
                and not gone.isdisjoint((*each.needed, *each.bound))
            }
            if not more:
                return gone
            gone |= more

    def _unloading(
        self, gone: Iterable[LoadedModule], plan: LoadPlan | None = None
    ) -> UnloadModule:
        """Return the operation that takes modules out of a group: their slots, and calls of others that lead to them.

        With ``plan``, the load is undone: slots that it gave to functions of other modules go, too.
        """
        modules = tuple(gone)
        dead = set(modules)
        slots = [
            slots
            for module in modules
            for slots in (
                (module.table_base, module.table_size),
                (module.slot_base, module.slot_count),
                *((slot, 1) for slot in module.slots.values()),
            )
            if slots[1]
        ]
        unbind = [
            (module, index)
            for module in self.state.modules
            if module not in dead and not dead.isdisjoint(module.bound)
            for index, entry in enumerate(module.plt)
            if entry.definition is not None and entry.definition.module in dead
        ]
        if plan is not None:
            slots += [(slot, 1) for slot in plan.allocated_slots]
        return UnloadModule(modules, tuple(slots), tuple(unbind))

    def _unload(
        self, change: LinkTransaction, gone: set[LoadedModule], plan: LoadPlan | None = None
    ) -> None:
        """Take modules out of all groups and give back what they held.

        RendezvousTimeout: they stay, hidden, until the next collection.
        """
        operation = self._unloading(gone, plan)
        LIBS.debug("%r", operation)

        def commit() -> None:
            self.group.apply(operation)
            if plan is not None:
                plan.undo()
            self.state.remove(gone)
            for module, index in operation.unbind:
                module.plt[index].definition = None
                module.native.miss(index)
            for module in self.state.modules:
                module.bound -= gone

        change.publish(operation, commit)

    def _meet_memory(
        self, group: InstanceGroup, modules: Iterable[LoadedModule], size: int
    ) -> None:
        """Grow the memory, of ``size`` bytes or more, to the minimum that modules import; what is added is theirs to be placed in."""
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

    # Handles

    def resolve_export(self, handle: int, name: str, caller: LoadedModule | None = None) -> int:
        """Return the address or table slot of a symbol, as ``dlsym`` does for a guest.

        ``handle`` is one of :meth:`load_module` (a module's number), RTLD_DEFAULT or RTLD_NEXT;
        ``caller`` is the module that asks. Raises SymbolNotFoundError, ClosedError. Blocks for a
        rendezvous if the symbol is a function that has no slot yet.
        """
        return self.find_value(handle, name, caller)[0]

    def find_value(
        self, handle: int, name: str, caller: LoadedModule | None = None
    ) -> tuple[int, bool]:
        """Return what :meth:`resolve_export` does, and whether it is the same for all threads as long as nothing is loaded."""
        where = caller.name if caller else "program"
        is_global = handle in (RTLD_DEFAULT, self.main_handle)
        after = None
        if handle == RTLD_DEFAULT:
            scope = scope_of(caller)
        elif handle == RTLD_NEXT:
            scope, after = scope_of(caller), caller or self.main
        else:
            module = self.by_handle(handle)
            scope = scope_of_handle(module)
            where = module.name if module else where
        return self.find_value_in(scope, name, where, caller, is_global=is_global, after=after)

    def find_value_in(
        self,
        scope: Callable[[LinkerState], SymbolScope],
        name: str,
        where: str,
        caller: LoadedModule | None,
        *,
        is_global: bool,
        after: LoadedModule | None = None,
    ) -> tuple[int, bool]:
        """Return what :meth:`find_value` does in a scope, behind the module ``after``; ``where`` is named in an error.

        Functions that pylinker provides come last and, if the scope ``is_global``, those of the
        program's user first.
        """
        slot = self.symbols.imported(name) if is_global else None
        if slot is not None:
            return slot, True
        definition = self.symbols.find(name, scope, asks=caller, after=after)
        if definition is None:
            slot = self.symbols.provided(name)
            if slot is None:
                raise SymbolNotFoundError(
                    f"{where}: undefined symbol: {name}", module=where, symbol=name
                )
            return slot, True
        value = self.symbols.value_of(definition)
        if value is None:
            raise SymbolNotFoundError(f"{where}: {name} has no address", module=where, symbol=name)
        return value, not definition.is_thread_local

    def write_symbol_info(self, value: int, address: int) -> int:
        """Write at ``address`` what a guest's ``dladdr`` says of a function pointer or of an address; 0 if it belongs to no module.

        A number that is both is taken for a function pointer. The strings are in guest memory as
        long as the module is. Raises MemoryAccessError, LimitError, LinkError to a module that is
        just being loaded. Blocks for the linker's lock.
        """
        self.context.check_not_instantiating()
        self.memory.check(address, 16)
        with self.context.reading():
            words = self._symbol_info(value, known=True)
        if words is None:
            with self.context.exclusive():
                words = self._symbol_info(value, known=False)
        if words:
            self.memory.write(address, b"".join([word.to_bytes(4, "little") for word in words]))
        return 1 if words else 0

    def _symbol_info(self, value: int, *, known: bool) -> tuple[int, ...] | None:
        """Return the four members of a guest's Dl_info, () if the value belongs to no module.

        None if a string is not in memory yet and only those that are ``known`` may be used, as
        under the read lock.
        """
        found = self.symbols.locate(value)
        if found is None:
            return ()
        module, name, base, symbol, at = found
        texts, owner = (
            (self.state.texts, self.state.grants)
            if module is None
            else (module.texts, module.grants)
        )
        if known and (name not in texts or (symbol is not None and symbol not in texts)):
            return None
        return (
            self._text(texts, owner, name),
            base,
            0 if symbol is None else self._text(texts, owner, symbol),
            at or 0,
        )

    def _text(self, texts: dict[str, tuple[int, int]], owner: list[Grant], text: str) -> int:
        """Return the address of a C string that stays in guest memory as long as its owner.

        Under the write lock.
        """
        known = texts.get(text)
        if known is None:
            data = text.encode("utf-8", "surrogateescape") + b"\0"
            grants: list[Grant] = []
            try:
                known = (
                    self.state.memory.allocate(len(data), 1, grants, module="dladdr", zero=False),
                    len(data),
                )
                self.memory.write(known[0], data)
                texts[text] = known
                owner += grants
            except BaseException:
                completed(release_all, grants if text not in texts else [])
                raise
        return known[0]

    def by_handle(self, handle: int) -> LoadedModule | None:
        """Return the module behind a guest's handle (None: the program as a whole); ClosedError if it is not open."""
        if handle == self.main_handle:
            return self.main
        module = self.state.by_number(handle)
        if module is None or not (module.handles or module.permanent):
            raise ClosedError(f"handle {handle} is not open")
        return module

    @property
    def main_handle(self) -> int:
        """The handle of the program itself: what ``dlopen(NULL)`` answers."""
        return self.main.number if self.main else 1

    def borrow(self, texts: Sequence[bytes], *, stack: int) -> AbstractContextManager[list[int]]:
        """Put byte strings into guest memory and yield their addresses; they are gone afterwards.

        Up to ``stack`` bytes in all go on the calling group's stack, more into memory of their own.
        """
        group = self.group
        total = sum(align_up(len(text), 16) for text in texts)
        top = group.stack_top
        if top is not None and total <= stack and (base := (top - total) & ~15) > 0:
            return _OnStack(self, group, texts, top, base)
        return _InMemory(self, texts, total)

    def put(self, texts: Sequence[bytes], base: int) -> list[int]:
        """Write byte strings to guest memory, each at a multiple of 16 from ``base`` on, and return their addresses."""
        addresses = []
        for text in texts:
            self.memory.write(base, text)
            addresses.append(base)
            base += align_up(len(text), 16)
        return addresses

    # Closing

    def dlclose_handle(self, handle: int) -> None:
        """Close a guest's handle."""
        module = self.by_handle(handle)
        if module is not None and module is not self.main:
            self.dlclose(module)

    def dlclose(self, module: LoadedModule, holder: Holder | None = None) -> None:
        """Drop one handle; the last one runs the destructors of all that nobody uses any more and gives back what they held.

        ``holder`` learns when it is dropped: if the rest is interrupted, :meth:`collect` completes
        it. Raises ClosedError if the module has no open handle, Trap if a destructor traps (the
        modules are gone then, too).
        """
        with self._tracer.span("dlclose", library=module), self.context.loading():
            with _Burial() as burial:
                with self.context.exclusive():
                    if module.handles < 1:
                        raise ClosedError(f"{module.name} is not open", module=module.name)
                    opened = next(
                        (
                            each
                            for each in reversed(self.journals.get(self.group.state.number, []))
                            if each[module] > 0
                        ),
                        None,
                    )
                    # Nothing is called from here on, up to the condition.
                    module.handles -= 1
                    if holder is not None:
                        holder.dropped = True
                    if opened is not None:
                        opened[module] -= 1
                        if not opened[module]:
                            del opened[module]  # or it would keep every module that came and went
                    if not module.handles:
                        self._condemn(burial)
                again = bool(burial.dead) and (self._bury(burial.dead) or self.room.is_used)
            if again:
                self.collect()

    def collect(self) -> None:
        """Unload the modules that no handle, no permanent module and no binding leads to."""
        with self.context.loading():
            while True:
                self.context.check_not_stopped()  # a destructor may open and close others for ever
                with _Burial() as burial:
                    with self.context.exclusive():
                        self._condemn(burial)
                    again = bool(burial.dead) and self._bury(burial.dead)
                if not self.room.trim() and not again:
                    break

    def _condemn(self, burial: _Burial) -> None:
        """Note what is dead now, hidden from all that is looked up. Under the write lock.

        What is dying still needs all it leads to.
        """
        kept, in_heap = self._destructors.kept(), self.room.keeps
        roots = [
            module
            for module in self.state.modules
            if module.handles
            or module.permanent
            or module.closing
            or module in kept
            or in_heap(module)
        ]
        alive = set(reachable(*roots, bound=True))
        burial.dead = {module for module in self.state.modules if module not in alive}
        # A destructor that opens one of them again must get a fresh copy.
        self.state.hide(burial.dead)
        for module in burial.dead:
            module.closing = True

    def _bury(self, dead: set[LoadedModule]) -> bool:
        """Run the destructors of the dead and unload them; answers whether a destructor may have closed yet another.

        What cannot be unloaded now waits for the next collection.
        """
        again = any(module.at_exit for module in dead)
        try:
            self._destructors.run(dead)
        finally:
            try:
                with self.context.exclusive() as change:
                    # What keys of threads need is still there when these end, but hidden as the
                    # rest.
                    kept = dead.intersection(
                        reachable(*[module for module in dead if module.keys], bound=True)
                    )
                    self._unload(change, dead - kept)
                    for module in kept:
                        module.lingering = True
            except RendezvousTimeout as error:
                again = False
                logger.warning("closing %s: %s", ", ".join(module.name for module in dead), error)
        return again

    def at_exit(self, module: LoadedModule | None, entry: AtExit, dso: int = 0) -> bool:
        """Register a destructor of a module, to be run when it is unloaded or the program exits.

        False: there are too many. If the module is not known (None), it is that of the address
            ``dso``, or that of the destructor.
        """
        return self._destructors.register(module, entry, dso)

    def at_thread_exit(self, module: LoadedModule | None, entry: AtExit, dso: int) -> bool:
        """Register a destructor of the calling thread, to be run when it ends; until then its module stays loaded. False: too many."""
        return self._destructors.register_thread(module, entry, dso)

    def end_thread(self, *, own_stack: bool = False) -> None:
        """Run the destructors of the calling thread, and unload what only they have kept.

        Blocks, cooperatively.

        With ``own_stack`` on a stack of their own: that of a thread that the guest has started may
        be another's by now. Raises LimitError if there is no room for it, and what the first
        destructor that failed has raised.
        """
        group = self.group
        if not group.thread_exits:
            return
        top = group.stack_top if own_stack else None
        if top is None:
            self._run_thread_exits()
            return
        with (
            _Borrowed(self, self.stack_size, "stack of a thread") as stack,
            _OnStack(self, group, (), top, stack + self.stack_size),
        ):
            self._run_thread_exits()

    def _run_thread_exits(self) -> None:
        modules = {each.module for each in self.group.thread_exits}
        try:
            self._destructors.run_thread()
        finally:
            if any(
                module is not None and not module.handles and not module.permanent
                for module in modules
            ):
                self.collect()

    def create_key(self, caller: LoadedModule, name: str, address: int, destructor: int) -> int:
        """Have the C library create a key of threads; while it exists, the code of its destructor does. Returns what that returned."""
        return self._keys.create(caller, name, address, destructor)

    def delete_key(self, caller: LoadedModule, name: str, key: int) -> int:
        """Have the C library delete a key, and unload what only that has kept.

        Returns what that returned.
        """
        result, freed = self._keys.delete(caller, name, key)
        if freed:
            with self.context.exclusive():
                for module in self.state.modules:
                    if module.lingering:
                        module.lingering = module.closing = False
            self.collect()
        return result

    def finalize(self) -> None:
        """Run all destructors that are left, those of the calling thread first: the program exits."""
        try:
            self._destructors.run_thread()
        finally:
            try:
                self._destructors.run(list(self.state.modules))
            finally:
                self._destructors.run_unowned()

    def allocate_closure_slot(self) -> int:
        """Return a table slot that is free in every group, for a function that is no module's.

        Slots come in blocks, so that most calls need no rendezvous.
        """
        return self.closures.allocate()


class Holder(Protocol):
    """Whose handle a module has; ``dropped`` becomes True with the last use of it."""

    dropped: bool


class _Burial(Scope):
    """Modules that are dying, ``dead``: those that could not be unloaded wait for the next collection."""

    __slots__ = ("dead",)

    def __init__(self) -> None:
        self.dead: set[LoadedModule] = set()

    def enter(self) -> Self:
        """Nothing is dying yet."""
        return self

    def leave(self, _error: BaseException | None) -> None:
        """Leave the rest to the next collection."""
        for module in self.dead:
            module.closing = module.lingering


class _OnStack(Scope):
    """Byte strings on a group's stack, between ``base`` and ``top``."""

    __slots__ = ("_base", "_group", "_linker", "_texts", "_top")

    def __init__(
        self, linker: Linker, group: InstanceGroup, texts: Sequence[bytes], top: int, base: int
    ) -> None:
        self._linker = linker
        self._group = group
        self._texts = texts
        self._top = top
        self._base = base

    def enter(self) -> list[int]:
        """Put them there."""
        self._group.stack_top = self._base
        return self._linker.put(self._texts, self._base)

    def leave(self, _error: BaseException | None) -> None:
        """Move the top of the stack back."""
        self._group.native.set_stack_top(self._top)


class _Borrowed(Scope):
    """``size`` bytes of memory, for ``purpose``."""

    __slots__ = ("_grants", "_linker", "_purpose", "_size")

    def __init__(self, linker: Linker, size: int, purpose: str) -> None:
        self._linker = linker
        self._size = size
        self._purpose = purpose
        self._grants: list[Grant] = []

    def enter(self) -> int:
        """Allocate them, and return where they begin."""
        linker = self._linker
        with (
            linker.room.fetched(lambda: [(self._size, 16)], module=self._purpose),
            linker.context.exclusive(),
        ):
            return linker.state.memory.allocate(
                self._size, 16, self._grants, module=self._purpose, zero=False
            )

    def leave(self, _error: BaseException | None) -> None:
        """Give them back."""
        if self._grants:
            with self._linker.context.exclusive():
                release_all(self._grants)


class _InMemory(_Borrowed):
    """Byte strings in memory of their own."""

    __slots__ = ("_texts",)

    def __init__(self, linker: Linker, texts: Sequence[bytes], size: int) -> None:
        super().__init__(linker, size, "arguments")
        self._texts = texts

    def enter(self) -> list[int]:  # type: ignore[override]
        """Put them there."""
        return self._linker.put(self._texts, super().enter())


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log what goes wrong where another failure is on its way to the caller already."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a guest may call Python functions, which raise what they like
        logger.warning("%s: %s", what, error)
