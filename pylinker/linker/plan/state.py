"""LinkerState: the shared tables of one program.

Metadata only; it is the same for all instance groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pylinker.errors import LimitError
from pylinker.linker.limits import Limits
from pylinker.linker.modules.module import LoadedModule, OwnTag
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
"""How many scopes of either kind are kept: each has 40 bytes for each of its modules."""
_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


class LinkerState:
    """Modules, scopes, names, memory and table of one program.

    Attributes: ``modules`` (in order of loading), ``global_scope`` (main first, breadth-first;
    grows with RTLD_GLOBAL), ``memory`` and ``table`` (allocators), ``heap`` (who has it),
    ``limits``, ``order`` (in which a new group instantiates), ``groups`` (their numbers),
    ``blocks`` (thread-local blocks, by group and module), ``finalizer`` (the exit hook, or None),
    ``imports`` (Python functions of the program's user), ``tags`` (of their own for each group,
    with their numbers), ``threaded``, ``main`` (the main module, or None), ``table_maximum`` (slots
    that a module allows at most, or None), ``rewrite_waits`` (of modules), ``wasix`` (whether a
    module of the start uses it), ``hears_signals`` (whether a thread of it ever wanted to),
    ``closure_slots`` (first, count) and ``closures`` (by slot), ``destructors_refused`` (how many
    were too many), ``texts`` (strings in guest memory that are no module's: address and size in
    bytes, by text). LinkerShared guards it.
    """

    def __init__(self, limits: Limits, imports: HostImports | None = None) -> None:
        self.limits = limits
        self.modules: list[LoadedModule] = []
        self._global_scope: list[LoadedModule] = []
        self._global: tuple[set[LoadedModule], SymbolScope] | None = None
        self._local_scopes: dict[
            int, tuple[Sequence[LoadedModule], SymbolScope]
        ] = {}  # by the id of the list, which stays as long
        self._handle_scopes: dict[LoadedModule, SymbolScope] = {}
        self.global_snapshot: ScopeSnapshot | None = None  # of the host's lookups
        self.memory = MemoryAllocator(limits.memory)
        self.heap = Heap(self.memory)
        self.table = SlotAllocator(limits.table)
        self.known: set[LoadedModule] = set()
        self.order: list[LoadedModule] = []
        self.groups: list[int] = []
        self.blocks: dict[int, dict[LoadedModule, ThreadLocalBlock]] = {}
        self.finalizer: HostSlot | None = None
        self.imports = HostImports() if imports is None else imports
        self.destructors_refused = 0
        self.threaded = False
        self.rewrite_waits = True
        self.wasix = False
        self.hears_signals = False
        self.closure_slots: list[tuple[int, int]] = []
        self.closures: dict[int, PrepareClosure] = {}
        self.main: LoadedModule | None = None
        self.table_maximum: int | None = None
        self.linker_symbols: dict[str, int] = {}
        self.texts: dict[str, tuple[int, int]] = {}
        self._by_name: dict[str, LoadedModule] = {}
        self._by_path: dict[str, LoadedModule] = {}
        self.tags: dict[OwnTag, int] = {}
        self._numbers = itertools.count(1)
        self._places = 0
        self._free_places: list[int] = []
        self.grants: list[Grant] = []
        self._block_grants: dict[tuple[int, LoadedModule], list[Grant]] = {}

    def __repr__(self) -> str:
        return f"<LinkerState of {len(self.modules)} modules>"

    @property
    def global_scope(self) -> list[LoadedModule]:
        """Modules whose symbols are everybody's, in order; to be assigned and not changed."""
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
        """Return the global scope, to look names up in: all of it is instantiated.

        Under the read lock.
        """
        return self._global_lookup()[1]

    def load_scope(self, reached: Iterable[LoadedModule]) -> LoadScope:
        """Return where the symbols of a load that has reached these modules are looked up.

        Under the read lock.
        """
        known, scope = self._global_lookup()
        return LoadScope(self.imports.scope_entry, scope, known, reached)

    def scope_of(self, module: LoadedModule | None) -> SymbolScope:
        """Return where a module's symbols are looked up: the global scope, then the scope of the dlopen that brought it.

        Under the read lock.
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
        """Return where the symbols of a handle are looked up: a module and what it needs, breadth-first. Under the read lock."""
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
        """Return the number of the next module; numbers are never reused, so that a stale handle is known as one."""
        return next(self._numbers)

    def give_place(self, module: LoadedModule) -> None:
        """Give a module its place in every group's list of libraries; :meth:`release` takes it back."""
        if self._free_places:
            module.place = self._free_places[-1]
            del self._free_places[-1]
        else:
            module.place = self._places
            self._places += 1

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
        """Make modules known; the first one under a name keeps it."""
        for module in modules:
            if module not in self.known:
                self.modules += [module]
            self.known.add(module)
            self._by_name.setdefault(module.name, module)
            if module.key:
                self._by_path.setdefault(module.key, module)

    def add_to_global_scope(self, modules: Iterable[LoadedModule]) -> list[LoadedModule]:
        """Append modules to the global scope, each once; returns those that were not in it."""
        added = self.not_in_global_scope(modules)
        self.global_scope = [*self.global_scope, *added]
        return added

    def not_in_global_scope(self, modules: Iterable[LoadedModule]) -> list[LoadedModule]:
        """Return those of modules that are not in the global scope, each once."""
        known = set(self.global_scope)
        return [module for module in dict.fromkeys(modules) if module not in known]

    def hide(self, modules: Iterable[LoadedModule]) -> None:
        """Take modules out of names and scopes: nothing that is looked up from now on finds them."""
        gone = set(modules)
        self.global_scope = [module for module in self.global_scope if module not in gone]
        for index in (self._by_name, self._by_path):
            for key in [key for key, module in index.items() if module in gone]:
                del index[key]

    def remove(self, modules: Iterable[LoadedModule]) -> None:
        """Forget modules: names, scopes, and what they held of memory and table."""
        gone = set(modules)
        self.known -= gone
        self.order = [module for module in self.order if module not in gone]
        self._release_blocks([key for key in self._block_grants if key[1] in gone])
        self.modules = [module for module in self.modules if module not in gone]
        self.hide(gone)
        for module in gone:
            module.gone = True
            module.native.set_gone()
            self.release(module)

    def new_block(self, group: int, module: LoadedModule) -> ThreadLocalBlock | None:
        """Give a group its thread-local block of a module, or None if the module has no thread-local data."""
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
                f"{module.name}: thread-local data aligned to {alignment} bytes; the limit is {_PAGE}",
                module=module.name,
            )
        grants = self._block_grants.setdefault((group, module), [])
        block = ThreadLocalBlock(
            group, module, self.memory.allocate(size, alignment, grants, module=module.name), size
        )
        self.blocks.setdefault(group, {})[module] = block
        return block

    def release_blocks(self, group: int) -> None:
        """Take all blocks of a group back. A second time does nothing."""
        self._release_blocks([key for key in self._block_grants if key[0] == group])
        self.blocks.pop(group, None)

    def _release_blocks(self, keys: Iterable[tuple[int, LoadedModule]]) -> None:
        for key in keys:
            group, module = key
            release_all(self._block_grants[key])
            self.blocks.get(group, {}).pop(module, None)
            self._block_grants.pop(key, None)

    def release(self, module: LoadedModule) -> None:
        """Take back a module's memory and table slots. A second time does nothing."""
        self.heap.release(module)
        release_all(module.grants)
        module.slots.clear()
        module.texts.clear()
        module.has_slots = False
        if module.place is not None:
            self._free_places += [module.place]
            module.place = None

    def definitions(self) -> int:
        """Return the number of exports of all modules."""
        return sum(len(module.info.exports) for module in self.modules)


def scope_of(module: LoadedModule | None) -> Callable[[LinkerState], SymbolScope]:
    """Return what finds where a module's symbols are looked up: ``RTLD_DEFAULT``."""
    return lambda state: state.scope_of(module)


def scope_from(root: LoadedModule) -> Callable[[LinkerState], SymbolScope]:
    """Return what finds where the symbols of a module and of what it needs are looked up."""
    return lambda state: state.scope_from(root)


def scope_of_handle(module: LoadedModule | None) -> Callable[[LinkerState], SymbolScope]:
    """Return what finds where a handle's symbols are looked up; None is the program as a whole."""
    return scope_of(None) if module is None or module.is_main else scope_from(module)
