"""LinkerState: the shared tables of one program.

Metadata only; it is the same for all instance groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pylinker.errors import LimitError
from pylinker.linker.limits import Limits
from pylinker.linker.modules.module import GroupTag, LoadedModule
from pylinker.linker.modules.scope import LoadScope, ScopeSnapshot, SymbolScope, reachable
from pylinker.linker.plan.heap import Heap
from pylinker.linker.plan.imports import HostImports
from pylinker.linker.plan.operation import HostSlot, PrepareClosure, ThreadLocalBlock
from pylinker.linker.plan.space import MemoryAllocator, SlotAllocator
from pylinker.linker.ranges import Grant, release_all
from pylinker.native.replay import BLOCK_OWN

__all__ = ["LinkerState", "scope_from", "scope_of", "scope_of_handle"]

_PAGE = 1 << 16
_SCOPES = 64
"""The maximum of cached scopes of either kind: each takes 40 bytes for each of its modules."""
_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


class LinkerState:
    """Modules, scopes, names, memory and table of one program.

    Threads: guarded by LinkerShared.
    """

    limits: Limits
    """The limits of the program."""
    modules: list[LoadedModule]
    """The modules in order of loading."""
    memory: MemoryAllocator
    """The allocator of guest memory."""
    heap: Heap
    """The owner of the heap."""
    table: SlotAllocator
    """The allocator of table slots."""
    known: set[LoadedModule]
    """The modules as a set."""
    order: list[LoadedModule]
    """The order in which a new group instantiates modules."""
    groups: list[int]
    """The numbers of the groups."""
    blocks: dict[int, dict[LoadedModule, ThreadLocalBlock]]
    """The thread-local blocks, by group and module."""
    finalizer: HostSlot | None
    """The exit hook, or None."""
    imports: HostImports
    """Python functions of the user."""
    destructors_refused: int
    """How many destructors exceeded the limit."""
    threaded: bool
    """Whether the program has threads."""
    rewrite_waits: bool
    """Whether the waits of modules are rewritten."""
    wasix: bool
    """Whether a module that is loaded at the start uses WASIX."""
    delivers_signals: bool
    """Whether a thread ever set a signal handler."""
    closure_slots: list[tuple[int, int]]
    """The slots for closures: first, count."""
    closures: dict[int, PrepareClosure]
    """The closures, by slot."""
    main: LoadedModule | None
    """The main module, or None."""
    table_maximum: int | None
    """The maximum of slots that a module allows, or None."""
    linker_symbols: dict[str, int]
    """The addresses of the symbols that the linker defines."""
    texts: dict[str, tuple[int, int]]
    """Strings in guest memory that belong to no module: address and size in bytes, by text."""
    tags: dict[GroupTag, int]
    """The tags that each group creates, with their numbers."""
    grants: list[Grant]
    """Allocations that belong to no module."""

    def __init__(self, limits: Limits, imports: HostImports | None = None) -> None:
        self.limits = limits
        self.modules = []
        self._global_scope: list[LoadedModule] = []
        self._global: tuple[set[LoadedModule], SymbolScope] | None = None
        self._local_scopes: dict[
            int, tuple[Sequence[LoadedModule], SymbolScope]
        ] = {}  # by the id of the list, which lives as long
        self._handle_scopes: dict[LoadedModule, SymbolScope] = {}
        self.global_snapshot: ScopeSnapshot | None = None  # of the host's lookups
        self.memory = MemoryAllocator(limits.memory)
        self.heap = Heap(self.memory)
        self.table = SlotAllocator(limits.table)
        self.known = set()
        self.order = []
        self.groups = []
        self.blocks = {}
        self.finalizer = None
        self.imports = HostImports() if imports is None else imports
        self.destructors_refused = 0
        self.threaded = False
        self.rewrite_waits = True
        self.wasix = False
        self.delivers_signals = False
        self.closure_slots = []
        self.closures = {}
        self.main = None
        self.table_maximum = None
        self.linker_symbols = {}
        self.texts = {}
        self._by_name: dict[str, LoadedModule] = {}
        self._by_path: dict[str, LoadedModule] = {}
        self.tags = {}
        self._numbers = itertools.count(1)
        self._ordinals = 0
        self._free_ordinals: list[int] = []
        self.grants = []
        self._block_grants: dict[tuple[int, LoadedModule], list[Grant]] = {}

    def __repr__(self) -> str:
        return f"<LinkerState of {len(self.modules)} modules>"

    @property
    def global_scope(self) -> list[LoadedModule]:
        """The modules whose symbols are visible to all, main first. Assign it, never mutate it.

        It is in breadth-first order, and grows with RTLD_GLOBAL.
        """
        return self._global_scope

    @global_scope.setter
    def global_scope(self, modules: list[LoadedModule]) -> None:
        self._global_scope = modules
        self._global = None
        self._local_scopes = {}
        self._handle_scopes = {}
        self.global_snapshot = None

    def _global_lookup(self) -> tuple[set[LoadedModule], SymbolScope]:
        known = self._global
        if known is None:
            known = self._global = set(self._global_scope), SymbolScope(self._global_scope)
        return known

    def global_lookup(self) -> SymbolScope:
        """Return the global scope for lookups: all of its modules are instantiated.

        Requires the read lock.
        """
        return self._global_lookup()[1]

    def load_scope(self, reached: Iterable[LoadedModule]) -> LoadScope:
        """Return the scope of a load that has reached these modules.

        Requires the read lock.
        """
        known, scope = self._global_lookup()
        return LoadScope(self.imports.scope_entry, scope, known, reached)

    def scope_of(self, module: LoadedModule | None) -> SymbolScope:
        """Return the scope of a module: the global scope, then that of the dlopen that loaded it.

        Requires the read lock.
        """
        known, scope = self._global_lookup()
        if module is None or not module.local_scope:
            return scope
        modules, found = self._local_scopes.get(id(module.local_scope), (None, scope))
        if modules is None:
            modules = module.local_scope
            local = [each for each in modules if each not in known]
            found = (
                SymbolScope(
                    [*scope.modules, *local],
                    scope.packed + b"".join([each.scope_entry for each in local]),
                )
                if local
                else scope
            )
            self._keep_scope(self._local_scopes, id(modules), (modules, found))
        return found

    def scope_from(self, root: LoadedModule) -> SymbolScope:
        """Return the scope of a handle: a module and its dependencies, breadth-first.

        Requires the read lock.
        """
        found = self._handle_scopes.get(root)
        if found is None:
            found = SymbolScope(reachable(root))
            self._keep_scope(self._handle_scopes, root, found)
        return found

    @staticmethod
    def _keep_scope(scopes: dict[_Key, _Kept], key: _Key, scope: _Kept) -> None:
        if len(scopes) >= _SCOPES:
            scopes.clear()
        scopes[key] = scope

    def next_number(self) -> int:
        """Return the number of the next module.

        Numbers are never reused, so that a stale handle is recognised.
        """
        return next(self._numbers)

    def assign_ordinal(self, module: LoadedModule) -> None:
        """Assign a module its index in every group's libraries; :meth:`release` frees it."""
        if self._free_ordinals:
            module.ordinal = self._free_ordinals[-1]
            del self._free_ordinals[-1]
        else:
            module.ordinal = self._ordinals
            self._ordinals += 1

    def host_slots(self) -> list[HostSlot]:
        """Return the table slots that every group fills with a host function of its own."""
        return [*self.imports.slots(), *([] if self.finalizer is None else [self.finalizer])]

    def by_name(self, name: str) -> LoadedModule | None:
        """Return the module that was loaded under this name."""
        return self._by_name.get(name)

    def by_path(self, path: str) -> LoadedModule | None:
        """Return the module that was loaded from this file, or has this key."""
        return self._by_path.get(path)

    def by_number(self, number: int) -> LoadedModule | None:
        """Return the module with this number, which is also its handle in the guest."""
        return next((module for module in self.modules if module.number == number), None)

    def add(self, modules: Iterable[LoadedModule]) -> None:
        """Register modules; the first one under a name keeps it."""
        for module in modules:
            if module not in self.known:
                self.modules += [module]
            self.known.add(module)
            self._by_name.setdefault(module.name, module)
            if module.key:
                self._by_path.setdefault(module.key, module)

    def add_to_global_scope(self, modules: Iterable[LoadedModule]) -> list[LoadedModule]:
        """Append modules to the global scope, each once; return those that were not in it."""
        added = self.not_in_global_scope(modules)
        self.global_scope = [*self.global_scope, *added]
        return added

    def not_in_global_scope(self, modules: Iterable[LoadedModule]) -> list[LoadedModule]:
        """Return the ``modules`` that are not in the global scope, each once."""
        known = set(self.global_scope)
        return [module for module in dict.fromkeys(modules) if module not in known]

    def hide(self, modules: Iterable[LoadedModule]) -> None:
        """Remove modules from names and scopes: lookups do not find them any more."""
        removed = set(modules)
        self.global_scope = [module for module in self.global_scope if module not in removed]
        for index in (self._by_name, self._by_path):
            for key in [key for key, module in index.items() if module in removed]:
                del index[key]

    def remove(self, modules: Iterable[LoadedModule]) -> None:
        """Remove modules: names, scopes, and their memory and table slots."""
        removed = set(modules)
        self.known -= removed
        self.order = [module for module in self.order if module not in removed]
        self._release_blocks([key for key in self._block_grants if key[1] in removed])
        self.modules = [module for module in self.modules if module not in removed]
        self.hide(removed)
        for module in removed:
            module.unloaded = True
            module.native.set_unloaded()
            self.release(module)

    def new_block(self, group: int, module: LoadedModule) -> ThreadLocalBlock | None:
        """Allocate the thread-local block of a module for a group; None if it needs none."""
        wanted = module.thread_local
        if wanted is None:
            return (
                ThreadLocalBlock(group, module, BLOCK_OWN, 0)
                if module.makes_thread_locals
                else None
            )
        size, alignment = wanted
        if alignment > _PAGE:
            raise LimitError(
                f"{module.name}: thread-local data aligned to {alignment} bytes; the limit is "
                f"{_PAGE}",
                module=module.name,
            )
        grants = self._block_grants.setdefault((group, module), [])
        block = ThreadLocalBlock(
            group, module, self.memory.allocate(size, alignment, grants, module=module.name), size
        )
        self.blocks.setdefault(group, {})[module] = block
        return block

    def release_blocks(self, group: int) -> None:
        """Release all blocks of a group. A second call does nothing."""
        self._release_blocks([key for key in self._block_grants if key[0] == group])
        self.blocks.pop(group, None)

    def _release_blocks(self, keys: Iterable[tuple[int, LoadedModule]]) -> None:
        for key in keys:
            group, module = key
            release_all(self._block_grants[key])
            self.blocks.get(group, {}).pop(module, None)
            self._block_grants.pop(key, None)

    def release(self, module: LoadedModule) -> None:
        """Release the memory and table slots of a module. A second call does nothing."""
        self.heap.release(module)
        release_all(module.grants)
        module.slots.clear()
        module.texts.clear()
        module.has_slots = False
        if module.ordinal is not None:
            self._free_ordinals += [module.ordinal]
            module.ordinal = None

    def definitions(self) -> int:
        """Return the number of exports of all modules."""
        return sum(len(module.info.exports) for module in self.modules)


def scope_of(module: LoadedModule | None) -> Callable[[LinkerState], SymbolScope]:
    """Return a function that returns the scope of a module: ``RTLD_DEFAULT``."""
    return lambda state: state.scope_of(module)


def scope_from(root: LoadedModule) -> Callable[[LinkerState], SymbolScope]:
    """Return a function that returns the scope of a module and its dependencies."""
    return lambda state: state.scope_from(root)


def scope_of_handle(module: LoadedModule | None) -> Callable[[LinkerState], SymbolScope]:
    """Return a function that returns the scope of a handle; None is the program as a whole."""
    return scope_of(None) if module is None or module.is_main else scope_from(module)
