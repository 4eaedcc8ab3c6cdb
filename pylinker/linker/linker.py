"""The Linker: loads, opens, resolves and closes, for one program.

Loading is a transaction (:meth:`Linker._commit`): what a plan decided is carried out step by step, and any failure, up to a trap in
the last constructor, puts everything back: modules, scopes, memory, slots, and calls that were already bound.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import wasmtime

from pylinker.errors import (
    ClosedError,
    LibraryNotFoundError,
    LinkError,
    SignatureMismatchError,
    UndefinedSymbol,
    UndefinedSymbolError,
)
from pylinker.linker.dlfcn import MODES, PROVIDED, RTLD_GLOBAL, RTLD_NODELETE, RTLD_NOLOAD, RTLD_NOW, GuestCalls
from pylinker.linker.group import InstanceGroup
from pylinker.linker.module import AtExit, Definition, LoadedModule
from pylinker.linker.operation import AllocateFunctionTable, ResolveFunction, SlotPatch, UnloadModule
from pylinker.linker.plan import LoadPlan, Request
from pylinker.linker.ranges import align_up
from pylinker.linker.state import LinkerState
from pylinker.runtime.memory import Memory
from pylinker.wasm import FuncType, Kind, MemoryType

if TYPE_CHECKING:
    from pylinker.linker.limits import Limits
    from pylinker.linker.locator import Locator
    from pylinker.linker.operation import LoadModules
    from pylinker.runtime.code import CodeCache
    from pylinker.runtime.store import GuestStore
    from pylinker.runtime.wasi import Wasi

__all__ = ["Linker", "SymbolInfo"]

logger = logging.getLogger("pylinker.linker")

_PAGE = 1 << 16
_COMMAND = FuncType((), ())


class SymbolInfo(NamedTuple):
    """What an address or a table slot belongs to, as ``dladdr`` tells it.

    ``module`` (name), ``base`` (the module's memory base, or for a function its table base), ``symbol`` (the nearest at or below, None
    if there is none) and ``value`` (the symbol's own address or slot).
    """

    module: str
    base: int
    symbol: str | None
    value: int | None


class Linker:
    """The dynamic linker of one program.

    ``state`` is what all groups share; ``group`` is the one that runs. Methods that run guest code (loading, closing) block as long as
    it does. One thread at a time.
    """

    def __init__(
        self,
        *,
        store: GuestStore,
        wasi: Wasi,
        cache: CodeCache,
        locator: Locator,
        limits: Limits,
        bind_now: bool = False,
    ) -> None:
        self.state = LinkerState(limits)
        self.locator = locator
        self.bind_now = bind_now
        self.main: LoadedModule | None = None
        self._cache = cache
        self._guest_calls = GuestCalls(self)
        self.group = InstanceGroup(store, wasi, cache, self._guest_calls.function_for)
        group = self.group  # what follows must not lead back to the linker: a program that is dropped is freed at once
        self.memory = Memory(store, lambda: group.memory)
        self._initialized = itertools.count(1)
        self._exit_hook_made = False
        self._opened: list[list[LoadedModule]] = []  # what the constructors of each load under way have opened, outermost first
        self.state.memory.grow = group.grow_memory
        self.state.memory.zero = self.memory.zero

    def __repr__(self) -> str:
        return f"<Linker of {len(self.state.modules)} modules>"

    # Loading

    def new_plan(self) -> LoadPlan:
        """Return an empty plan for a load."""
        return LoadPlan(self.state, self.locator, self._cache)

    def commit_start(self, plan: LoadPlan, operation: LoadModules) -> None:
        """Carry out the load of what is there from the start; it becomes the global scope and is never unloaded."""
        for module in plan.scope:
            module.permanent = True
        self._commit(plan, operation, global_=True, bind_now=self.bind_now)

    def dlopen(self, name: str, mode: int = 0, *, requester: LoadedModule | None = None, trusted: bool = False) -> LoadedModule:
        """Open a library: load it with what it needs, or count one more handle of it.

        ``mode`` is a combination of RTLD flags; ``trusted`` says that the host wrote the name. Raises LinkError children; a guest that
        exits in a constructor raises ExitTrap. Afterwards either everything is loaded or nothing has changed.
        """
        if mode & ~MODES:
            raise LinkError(f"dlopen({name!r}): unknown flags {mode & ~MODES:#x} in mode", module=name)
        plan = self.new_plan()
        request = Request(name, requester, trusted=trusted)
        if mode & RTLD_NOLOAD:
            root = self._loaded(request)
        else:
            (root,) = plan.discover([request])
        root.handles += 1
        if plan.new:
            try:
                self._load(plan, mode)
            except BaseException:
                root.handles = 0
                raise
        elif mode & RTLD_GLOBAL:
            self.state.add_to_global_scope(reachable(root))
        if mode & RTLD_NODELETE:
            root.permanent = True
        if self._opened:
            self._opened[-1].append(root)
        return root

    def _loaded(self, request: Request) -> LoadedModule:
        module = self.state.by_name(request.name)
        if module is None:
            requester = request.requester
            dylink = requester.info.dylink if requester else None
            located = self.locator.find(
                request.name,
                origin=requester.origin if requester else None,
                runtime_path=dylink.runtime_path if dylink else (),
                trusted=request.trusted,
            )
            module = self.state.by_path(located.path)
            if module is None:
                raise LibraryNotFoundError(request.name, searched=[(located.path, "is not loaded, and RTLD_NOLOAD was given")])
        return module

    def _load(self, plan: LoadPlan, mode: int) -> None:
        if not self.group.has_table:
            self.group.table  # noqa: B018 - raises the error that says how to link the main module
        self.state.table.note_size(self.group.table_size)
        bind_now = self.bind_now or bool(mode & RTLD_NOW)
        try:
            plan.make_room(self.group.memory_size)
            for module in plan.new:
                plan.place(module)
                module.local_scope = plan.scope
            operation = plan.resolve(bind_now=bind_now)
            self._meet_memory(plan.new)
        except BaseException:
            plan.undo()
            raise
        self._commit(plan, operation, global_=bool(mode & RTLD_GLOBAL), bind_now=bind_now)

    def load_later(self, plan: LoadPlan) -> None:
        """Load libraries next to a main module that chose its own addresses and runs already."""
        for module in plan.scope:
            module.permanent = True
        self._load(plan, RTLD_GLOBAL)

    def _commit(self, plan: LoadPlan, operation: LoadModules, *, global_: bool, bind_now: bool) -> None:
        promoted: list[LoadedModule] = []
        self._opened.append([])
        try:
            new = set(plan.new)
            self.state.add(module for module in plan.scope if module in new)
            if global_:
                promoted = self.state.add_to_global_scope(plan.scope)
            self.group.apply(operation)
            for module in plan.new:
                self.group.relocate(module)
            if bind_now:
                for module in plan.new:
                    for index, entry in enumerate(module.plt):
                        if entry.definition is not None:
                            self.resolve_trampoline(module, index)
            for module in sorted(plan.new, key=lambda each: each.is_main):  # dependencies first, and main after all of them
                if not (module.is_main and module.lifecycle_function("_start", _COMMAND)):
                    self.group.construct(module)
                module.initialized = next(self._initialized)
        except BaseException:
            self._roll_back(plan, promoted, self._opened.pop())
            raise
        opened = self._opened.pop()
        if self._opened:
            self._opened[-1] += opened

    def _roll_back(self, plan: LoadPlan, promoted: Sequence[LoadedModule], opened: Sequence[LoadedModule]) -> None:
        """Undo a load that failed after it became visible, with what its constructors opened."""
        gone = self._dependents(plan.new)
        with _logged("destructor during the undoing of a failed load"):
            self._run_destructors([module for module in gone if module.initialized])
        kept = set(promoted) - gone
        self.state.global_scope = [module for module in self.state.global_scope if module not in kept]
        self._drop(gone)
        plan.undo()
        for module in opened:
            module.handles -= module not in gone
        with _logged("destructor during the undoing of a failed load"):
            self.collect()

    def _dependents(self, modules: Iterable[LoadedModule]) -> set[LoadedModule]:
        """Return the modules and all others that use them (a constructor may have opened some)."""
        gone = set(modules)
        while True:
            more = {
                each
                for each in self.state.modules
                if each not in gone and not each.permanent and not gone.isdisjoint((*each.needed, *each.bound))
            }
            if not more:
                return gone
            gone |= more

    def _drop(self, gone: set[LoadedModule]) -> None:
        for module in gone:
            self.group.apply(UnloadModule(module))
        self.state.remove(gone)
        for module in self.state.modules:
            module.bound -= gone
            for index, entry in enumerate(module.plt):
                if entry.definition is not None and entry.definition.module in gone:
                    if entry.bound:
                        self.group.unbind(module, index)
                    entry.definition = None
                    entry.bound = False

    def _meet_memory(self, modules: Iterable[LoadedModule]) -> None:
        """Grow the memory to the minimum that modules import; what is added is theirs to be placed in."""
        for module in modules:
            for wanted in module.info.imports:
                if wanted.kind is Kind.MEMORY:
                    assert isinstance(wanted.type, MemoryType)
                    missing = wanted.type.limits.minimum * _PAGE - self.group.memory_size
                    if missing > 0:
                        self.state.memory.reserve(missing, module=module.name)

    # Symbols

    def resolve_trampoline(self, module: LoadedModule, index: int) -> None:
        """Bind an entry of a module's PLT: what the host does when the guest calls it for the first time.

        Raises UndefinedSymbolError or SignatureMismatchError, which the guest sees as a trap with the same text.
        """
        entry = module.plt[index]
        if entry.definition is None:
            definition = self.state.lookup(entry.name, self.state.scope_of(module)) if entry.module == "env" else None
            if definition is None:
                name = entry.name if entry.module == "env" else f"{entry.module}.{entry.name}"
                raise UndefinedSymbolError([UndefinedSymbol(module.name, name, "function")], note="it was called")
            if definition.type != entry.type:
                raise SignatureMismatchError(
                    module=module.name,
                    symbol=entry.name,
                    wanted=str(entry.type),
                    provider=definition.module.name,
                    found=str(definition.type),
                )
            entry.definition = definition
            if definition.module is not module:
                module.bound.add(definition.module)
        if not self.group.has(entry.definition.module):
            raise LinkError(
                f"{module.name}: {entry.name} of {entry.definition.module.name} was called before that module was instantiated",
                module=module.name,
                symbol=entry.name,
            )
        self.group.bind(module, index, entry.definition)
        entry.bound = True

    def check_trampolines(self, module: LoadedModule) -> None:
        """Check the calls of a module that was linked before its libraries were loaded: types, and with ``bind_now`` all of it."""
        undefined = []
        for index, entry in enumerate(module.plt):
            definition = self.state.lookup(entry.name, self.state.scope_of(module)) if entry.module == "env" else None
            if definition is not None and (definition.type != entry.type or self.bind_now):
                self.resolve_trampoline(module, index)
            elif definition is None and self.bind_now and entry.definition is None:
                undefined.append(UndefinedSymbol(module.name, entry.name, "function"))
        if undefined:
            raise UndefinedSymbolError(undefined)

    def dlsym(self, scope: Iterable[LoadedModule], name: str) -> int | None:
        """Return the address of a data symbol or the table slot of a function, or None if the scope does not define it."""
        definition = self.state.lookup(name, scope)
        return None if definition is None else self.value_of(definition)

    def value_of(self, definition: Definition) -> int | None:
        """Return a definition's address or table slot; None for a tag or another thing that has neither."""
        module, export = definition
        if export.kind is Kind.FUNC:
            slot = module.slot_of(export.index)
            if slot is None:
                self.state.table.note_size(self.group.table_size)
                slot = self.state.table.allocate(1, 1, module=module.name)
                module.slots[export.index] = slot
                self.group.apply(ResolveFunction(self.state.table.size, SlotPatch(slot, definition)))
            return slot
        if export.kind is not Kind.GLOBAL:
            return None
        value = module.data_value(export)
        if value is not None and module.is_thread_local(export):
            value += self.group.tls_base(module)
        return value

    def scope_of_handle(self, handle: int) -> Sequence[LoadedModule]:
        """Return where a handle's symbols are looked up: the module and what it needs, breadth-first."""
        module = self.by_handle(handle)
        return self.state.global_scope if module is None or module is self.main else reachable(module)

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

    def scope_after(self, caller: LoadedModule) -> Iterator[LoadedModule]:
        """Iterate over what comes after a module in its scope: ``RTLD_NEXT``."""
        rest = itertools.dropwhile(lambda each: each is not caller, self.state.scope_of(caller))
        return itertools.islice(rest, 1, None)

    def symbol_at(self, *, address: int | None = None, slot: int | None = None) -> SymbolInfo | None:
        """Tell which module and symbol an address or a table slot belongs to, or None."""
        for module in self.state.modules:
            if slot is not None:
                function = module.function_at(slot)
                if function is not None:
                    names = [
                        each.name
                        for each in module.info.exports.values()
                        if each.kind is Kind.FUNC and each.index == function and module.find(each.name)
                    ]
                    return SymbolInfo(module.name, module.table_base, names[0] if names else None, slot if names else None)
            elif address is not None and module.memory_base <= address < module.memory_base + module.memory_size:
                return self._data_symbol(module, address)
        return None

    @staticmethod
    def _data_symbol(module: LoadedModule, address: int) -> SymbolInfo:
        best: tuple[int, str] | None = None
        for export in module.info.exports.values():
            if export.kind is Kind.GLOBAL and module.find(export.name) and not module.is_thread_local(export):
                value = module.data_value(export)
                if value is not None and value <= address and (best is None or value > best[0]):
                    best = (value, export.name)
        return SymbolInfo(module.name, module.memory_base, best[1] if best else None, best[0] if best else None)

    # Strings for one call

    @contextmanager
    def borrow(self, texts: Sequence[bytes], *, stack: int) -> Iterator[list[int]]:
        """Put byte strings into guest memory and yield their addresses; they are gone afterwards.

        Up to ``stack`` bytes in all go on the guest's stack, more into memory of their own.
        """
        total = sum(align_up(len(text), 16) for text in texts)
        top = self.group.stack_top
        base = (top - total) & ~15 if top is not None and total <= stack else -1
        on_stack = base > 0
        if on_stack:
            self.group.stack_top = base
        else:
            base = self.state.memory.allocate(total, 16, module="arguments")
        try:
            addresses = []
            cursor = base
            for text in texts:
                self.memory.write(cursor, text)
                addresses.append(cursor)
                cursor += align_up(len(text), 16)
            yield addresses
        finally:
            if on_stack:
                self.group.stack_top = top
            else:
                self.state.memory.release(base, total)

    # Closing

    def dlclose_handle(self, handle: int) -> None:
        """Close a guest's handle."""
        module = self.by_handle(handle)
        if module is not None and module is not self.main:
            self.dlclose(module)

    def dlclose(self, module: LoadedModule) -> None:
        """Drop one handle; the last one runs the destructors of all that nobody uses any more and gives back what they held.

        Raises ClosedError if the module has no open handle, Trap if a destructor traps (the modules are gone then, too).
        """
        if module.handles < 1:
            raise ClosedError(f"{module.name} is not open", module=module.name)
        module.handles -= 1
        for opened in reversed(self._opened):
            if module in opened:
                opened.remove(module)
                break
        if module.handles == 0:
            self.collect()

    def collect(self) -> None:
        """Unload the modules that no handle, no permanent module and no binding leads to."""
        alive = set(reachable(*(module for module in self.state.modules if module.handles or module.permanent), bound=True))
        dead = {module for module in self.state.modules if module not in alive}
        if not dead:
            return
        # A destructor that opens one of them again must get a fresh copy.
        self.state.hide(dead)
        try:
            self._run_destructors(dead)
        finally:
            self._drop(dead)

    def _run_destructors(self, modules: Iterable[LoadedModule]) -> None:
        """Run what the modules registered, the last constructed module first, the last registration first."""
        failure: BaseException | None = None
        for module in sorted(modules, key=lambda each: each.initialized, reverse=True):
            while module.at_exit:
                slot, argument = module.at_exit.pop()
                try:
                    self.group.call_slot(slot, *(() if argument is None else (argument,)))
                except (wasmtime.Trap, wasmtime.WasmtimeError, LinkError) as error:
                    failure = failure or error
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # no cycle through this frame

    def at_exit(self, module: LoadedModule, entry: AtExit) -> None:
        """Register a destructor of a module, to be run when it is unloaded or the program exits."""
        module.at_exit.append(entry)
        if not self._exit_hook_made:
            self._exit_hook_made = True
            self._make_exit_hook()

    def _make_exit_hook(self) -> None:
        """Have the program's own ``exit`` run the libraries' destructors, so that they come before its streams are flushed.

        Where no module exports ``__cxa_atexit``, they run after the program has exited instead.
        """
        definition = self.state.lookup("__cxa_atexit", self.state.global_scope)
        if definition is None or definition.type != PROVIDED["__cxa_atexit"] or not self.group.has(definition.module):
            return
        self.state.table.note_size(self.group.table_size)
        slot = self.state.table.allocate(1, 1, module="exit hook")
        self.group.apply(AllocateFunctionTable(self.state.table.size))
        self.group.place_host_function(slot, FuncType(("i32",), ()), self._guest_calls.finalize)
        self.group.call(self.group.function(definition.module, definition.export.name), slot, 0, 0)

    def finalize(self) -> None:
        """Run all destructors that are left: the program exits."""
        self._run_destructors(list(self.state.modules))


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log what goes wrong in the guest where another failure is on its way to the caller already."""
    try:
        yield
    except (LinkError, wasmtime.WasmtimeError, wasmtime.Trap) as error:
        logger.warning("%s: %s", what, error)


def reachable(*roots: LoadedModule, bound: bool = False) -> list[LoadedModule]:
    """Return the modules and all they need (with ``bound``, also all they are bound to), breadth-first, each once."""
    found = dict.fromkeys(roots)
    queue = deque(found)
    while queue:
        module = queue.popleft()
        for each in (*module.needed, *(module.bound if bound else ())):
            if each not in found:
                found[each] = None
                queue.append(each)
    return list(found)
