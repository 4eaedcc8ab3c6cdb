"""Plans of loads: search, order, compilation, allocation, and resolution.

The result is a LoadModules operation.

Nothing here runs guest code or creates an instance; the memory may be grown and zeroed.
:meth:`LoadPlan.undo` reverts all changes of a plan: the linker calls it on any failure, up to and
including a trap in the last constructor.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from pylinker.errors import (
    LimitError,
    NotDynamicError,
    UndefinedSymbol,
    UndefinedSymbolError,
)
from pylinker.linker.debug.trace import UNTRACED
from pylinker.linker.modules.module import Definition, LoadedModule
from pylinker.linker.plan.debug_load import is_load_logged, log_load
from pylinker.linker.plan.files import Files, FoundFile, Request, Unread, why_no_library
from pylinker.linker.plan.imports import NewPointers
from pylinker.linker.plan.operation import LoadModules, SlotPatch
from pylinker.linker.plan.record import SharedTrampolines, lower_module
from pylinker.linker.plan.resolver import Resolver
from pylinker.linker.plan.space import SlotAllocator
from pylinker.linker.plan.state import LinkerState
from pylinker.linker.ranges import Grant, release_all
from pylinker.runtime.code import Uncompiled

if TYPE_CHECKING:
    from pylinker.linker.debug.trace import Untraced
    from pylinker.linker.modules.locator import Located, Locator
    from pylinker.linker.plan.record import HostCalls
    from pylinker.runtime.code import Code, CodeCache


__all__ = ["DryRun", "LoadPlan", "check_alignment"]

logger = logging.getLogger("pylinker.linker")

_PAGE = 1 << 16


class LoadPlan:
    """One load: its modules, their order, and the definitions of their imports."""

    state: LinkerState
    """The state of the program."""
    is_dry_run: bool
    """Whether the plan holds only the read lock, and changes nothing that others see."""
    is_applied: bool
    """Whether the loading group may have instances of it."""
    is_published: bool
    """Whether undoing it takes all groups: it was committed."""
    permanent: bool
    """Whether nothing of it will be unloaded."""
    check: Callable[[], None]
    """Called in loops whose length the modules choose; its exception ends them."""
    files: Files
    """The files that were read for this load before."""
    tracer: Untraced
    """Records the steps of the load."""
    pointers: NewPointers
    """Pointers to functions of the user."""
    scope: list[LoadedModule]
    """All modules reached, breadth-first."""
    new: list[LoadedModule]
    """The modules that were not loaded before, dependencies first."""

    def __init__(
        self, state: LinkerState, locator: Locator, cache: CodeCache, host_calls: HostCalls
    ) -> None:
        self.state = state
        self._locator = locator
        self._cache = cache
        self._host_calls = host_calls
        self.is_dry_run = False
        self._names: dict[str, LoadedModule] = {}
        self._paths: dict[str, LoadedModule] = {}
        self._added: list[LoadedModule] = []
        self._slot_owners: list[tuple[LoadedModule, int]] = []
        self._grants: list[Grant] = []  # of the slots in _slot_owners, in the same order
        self.is_applied = False
        self.is_published = False
        self.permanent = False
        self.check = lambda: None
        self.files = Files()
        self.tracer = UNTRACED
        self._targets: list[tuple[LoadedModule, int, LoadedModule, int]] = []
        self._uncompiled: list[tuple[LoadedModule, Uncompiled, FoundFile | None]] = []
        self.pointers = NewPointers(state.imports, state.table, host_calls)
        self.scope = []
        self.new = []

    # 1. Search

    def discover(self, roots: Sequence[LoadedModule | Request]) -> list[LoadedModule]:
        """Find the roots and all their dependencies, breadth-first.

        Returns:
            The roots.

        Raises:
            LinkError: One of its subclasses: a library is not found or not valid, or exceeds a
                limit.
        """
        with self.tracer.span("find", names=roots):
            return self._reach(roots)

    def _reach(self, roots: Sequence[LoadedModule | Request]) -> list[LoadedModule]:
        found = [root if isinstance(root, LoadedModule) else self._find(root) for root in roots]
        if len(found) == 1 and self._discover_one(found[0]):
            return found
        for root in found:
            if root not in self.state.known and root not in self._added:
                self._names.setdefault(root.name, root)
                self._added.append(root)
        queue = deque(dict.fromkeys(found))
        seen = set(queue)
        depth, left = 0, len(queue)  # the modules of this depth that are left in the queue
        while queue:
            if not left:
                depth, left = depth + 1, len(queue)
                if depth > self.state.limits.needed_depth:
                    raise LimitError(
                        f"{queue[0].name}: libraries need each other in a chain of more than "
                        f"{self.state.limits.needed_depth}; "
                        "raise Limits(needed_depth=...)",
                        module=queue[0].name,
                    )
            left -= 1
            module = queue.popleft()
            self.scope.append(module)
            if module not in self.state.known and module.info.dylink is not None:
                names = dict.fromkeys(module.info.dylink.needed)
                if len(names) > self.state.limits.modules:
                    raise LimitError(
                        f"{module.name}: needs {len(names)} libraries; the limit is "
                        f"{self.state.limits.modules} modules: "
                        "raise Limits(modules=...)",
                        module=module.name,
                    )
                module.needed = self._find_needed(module, names)
            for each in module.needed:
                if each not in seen:
                    seen.add(each)
                    queue.append(each)
        self._order(found)
        return found

    def _find_needed(self, module: LoadedModule, names: Iterable[str]) -> list[LoadedModule]:
        """Find the dependencies of a module."""
        return [self._find(Request(name, module)) for name in names]

    def _discover_one(self, root: LoadedModule) -> bool:
        """Discover a new root without dependencies, as most later ones are; else False."""
        dylink = root.info.dylink
        if dylink is None or dylink.needed or len(self._added) != 1 or self._added[0] is not root:
            return False
        self.scope.append(root)
        self.new.append(root)
        return True

    def find_loaded(self, request: Request) -> LoadedModule | None:
        """Return the module of a request if it is loaded or part of this load, by name only."""
        if request.module_bytes is not None:
            return self._paths.get(request.module_bytes.key) or self.state.by_path(
                request.module_bytes.key
            )
        return self._names.get(request.name) or self.state.by_name(request.name)

    def path_of(self, request: Request) -> str:
        """Return the path of the file of a request.

        Raises:
            LibraryNotFoundError: There is none.
            Unread: It would have to be searched for.
        """
        return self._file_of(request).key

    def _file_of(self, request: Request) -> FoundFile:
        requester = request.requester
        dylink = requester.info.dylink if requester else None
        search = None if request.search is None else tuple(request.search)
        origin, home = (requester.origin, requester.home) if requester else (None, None)
        key: tuple[object, ...] = (
            request.name,
            request.trusted,
            search,
            origin,
            home,
            dylink.runtime_path if dylink else (),
        )
        if request.module_bytes is not None:
            key = (request.module_bytes.key,)
        found = self.files.known.get(key)
        if found is None:
            if not self.files.may_read:
                raise Unread
            found = self.files.known[key] = FoundFile(
                None if request.module_bytes else self._locate(request), request.module_bytes
            )
        return found

    def _locate(self, request: Request) -> Located:
        requester = request.requester
        dylink = requester.info.dylink if requester else None
        limit = self.state.limits.runtime_path
        if requester is not None and dylink is not None and len(dylink.runtime_path) > limit:
            raise LimitError(
                f"{requester.name}: a runtime path of {len(dylink.runtime_path)} directories; the "
                f"limit is {limit}: "
                "raise Limits(runtime_path=...)",
                module=requester.name,
            )
        return self._locator.find(
            request.name,
            origin=requester.origin if requester and dylink and dylink.runtime_path else None,
            runtime_path=dylink.runtime_path if dylink else (),
            requester=requester.name if requester else None,
            search=request.search,
            home=requester.home if requester else None,
            trusted=request.trusted,
        )

    def _find(self, request: Request) -> LoadedModule:
        self.check()
        module = self.find_loaded(request)
        if module is not None:
            return module
        found = self._file_of(request)
        module = self._paths.get(found.key) or self.state.by_path(found.key)
        if module is None:
            name = os.path.basename(request.name) if request.trusted else request.name
            requester = request.requester
            module = self._new_module(name, found, requester=requester.name if requester else None)
            module.home = found.home or (requester.home if requester else None)
            self._names[module.name] = module
        self._names.setdefault(request.name, module)
        return module

    def _new_module(self, name: str, found: FoundFile, *, requester: str | None) -> LoadedModule:
        code = found.code
        if code is None:
            if not self.files.may_read:
                raise Unread
            code = found.code = self._cache.find(
                found.read(name, self.state.limits.library_size, requester),
                name=name,
                rewrite=self.state.rewrite_waits,
            )
        reason = why_no_library(code.info)
        if reason is not None:
            raise NotDynamicError(f"{name} {reason}\n  {found.path or 'bytes'}", module=name)
        module = LoadedModule(
            name, found.path, code.info, None, self.state.next_number(), key=found.key
        )
        count = len(self.state.modules) + len(self._added)
        if count >= self.state.limits.modules:
            raise LimitError(
                f"{name}: the limit of {self.state.limits.modules} modules is reached: raise "
                "Limits(modules=...)",
                module=name,
            )
        self._have(module, code, found)
        self._paths[found.key] = module
        self._added.append(module)
        return module

    def load(self, module: LoadedModule, data: bytes) -> None:
        """Give a module its code, at once or by :meth:`compile`.

        Raises:
            LinkError: One of its subclasses: the module is not valid.
        """
        self._have(
            module, self._cache.find(data, name=module.name, rewrite=self.state.rewrite_waits)
        )

    def _have(
        self, module: LoadedModule, found: Code | Uncompiled, file: FoundFile | None = None
    ) -> None:
        if isinstance(found, Uncompiled):
            self._uncompiled.append((module, found, file))
        else:
            module.code = found

    def validate(self) -> None:
        """Validate the modules that have no code yet.

        Raises:
            ParseError: A module is not valid.
            UnsupportedError: It needs a feature that is not supported.
        """
        for _, each, _ in self._uncompiled:
            each.validate()

    def compile(
        self, *, bind_now: bool, reading: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        """Compile the modules that have no code yet.

        The faster checks come first: undefined symbols and validation.

        Args:
            bind_now: Whether functions are bound at load.
            reading: Without the load lock, this keeps the modules of the program unchanged.

        Raises:
            LinkError: One of its subclasses, as :meth:`resolve`.
        """
        if self._uncompiled:
            with reading():
                DryRun(self).decide(bind_now=bind_now)
            self.validate()
            for module, each, file in self._uncompiled:
                self.check()
                module.code = each.compile()
                if file is not None:
                    file.code = module.code
            self._uncompiled.clear()

    def _order(self, roots: Sequence[LoadedModule]) -> None:
        """Fill ``new``: dependencies first.

        In a cycle, the module that was reached first comes last, as with ``ld.so``.
        """
        if len(self.scope) == 1:
            self.new += self._added
            return
        done: set[LoadedModule] = set()
        added = set(self._added)
        for root in roots:
            if root in done:
                continue
            done.add(root)
            stack: list[tuple[LoadedModule, Iterator[LoadedModule]]] = [(root, iter(root.needed))]
            while stack:  # not recursive: a chain of libraries may be longer than Python's stack
                module, rest = stack[-1]
                following = next((each for each in rest if each not in done), None)
                if following is None:
                    stack.pop()
                    if module in added:
                        self.new.append(module)
                else:
                    done.add(following)
                    stack.append((following, iter(following.needed)))

    # 2. Allocate

    def make_room(self, memory_size: int) -> None:
        """Grow the memory, of ``memory_size`` bytes now, for all new modules at once.

        Raises:
            LimitError: There is no room; the memory has not grown.
        """
        self.state.memory.make_room(
            self.wanted_memory(), memory_size=memory_size, module=self.scope[0].name
        )

    def wanted_memory(self) -> list[tuple[int, int]]:
        """Return the memory that each new module needs: size and alignment in bytes.

        Raises:
            LimitError: An alignment is too large.
        """
        wanted = []
        for module in self.new:
            if module.info.dylink is not None:
                check_alignment(module)
                wanted.append((module.info.dylink.memory_size, module.info.dylink.memory_alignment))
        return wanted

    def allocate(self, module: LoadedModule, *, memory_base: int | None = None) -> None:
        """Allocate memory and table slots for a module whose alignments are checked.

        Args:
            module: The module.
            memory_base: The address of its memory, if the caller chose it.

        Raises:
            LimitError: There is no room.
        """
        dylink = module.info.dylink
        if dylink is None:
            return
        if memory_base is not None:
            module.memory_base = memory_base
        else:
            module.memory_base = self.state.memory.allocate(
                dylink.memory_size, dylink.memory_alignment, module.grants, module=module.name
            )
        module.table_base = self.state.table.allocate(
            dylink.table_size, dylink.table_alignment, module.grants, module=module.name
        )
        module.memory_reserved = memory_base is None
        # Else they get slots on demand: its table can grow only once it is instantiated.
        if not module.brings_table:
            self._allocate_slots(module)

    def _allocate_slots(self, module: LoadedModule) -> None:
        """Allocate the table slots of the exported functions of a module.

        No pointer to one of them ever needs a rendezvous then. Where there is no room for all of
        them, slots are allocated one by one on demand.
        """
        count = len(module.outline.slot_exports)
        if count:
            try:
                module.slot_base = self.state.table.allocate(
                    count, 1, module.grants, module=module.name
                )
            except LimitError as error:
                logger.debug(
                    "%s: functions get slots when they are asked for: %s", module.name, error
                )
            else:
                module.has_slots = True

    # 3. Resolve

    def resolve(self, *, bind_now: bool) -> LoadModules:
        """Bind all imports of the new modules, and return the operation of the load.

        Raises:
            UndefinedSymbolError: It lists all undefined symbols.
            SignatureMismatchError: A definition has another type than the import.
            UnsupportedError: An import cannot be served.
            LimitError: The table is full.
        """
        with self.tracer.span("resolve", modules=self.new):
            return self._resolve(bind_now=bind_now)

    def _resolve(self, *, bind_now: bool) -> LoadModules:
        self.state.heap.give([module for module in self.scope if module not in self.state.known])
        undefined: list[UndefinedSymbol] = []
        notes: list[str] = []
        patches: list[SlotPatch] = []
        scope = self.state.load_scope(self.scope)
        shared = SharedTrampolines() if self.permanent else None
        resolvers = []
        for module in self.new:
            self.check()
            resolver = Resolver(self, module, scope, undefined, patches, notes, bind_now=bind_now)
            resolver.resolve()
            resolvers.append(resolver)
            if not undefined:
                self._lower(module, shared)
                if module is not self.new[-1]:
                    scope.become_ready(module)
            module.ready = True
        if undefined:
            raise UndefinedSymbolError(undefined, note="; ".join(notes))
        if shared is not None:
            shared.make(self._cache, self._host_calls, self.check)
        lazy = [module for module in self.new if module.plt.lazy]
        if lazy:
            addresses = scope.addresses()
            for module in lazy:
                module.native.bind_lazily(module.plt.lazy, addresses)
        for module, index, target, position in self._targets:
            module.native.aim(index, target.native, position)
        if is_load_logged():
            everything = list(dict.fromkeys((*self.state.global_scope, *self.scope)))
            log_load(
                [
                    (module, resolver.symbols())
                    for module, resolver in zip(self.new, resolvers, strict=True)
                ],
                everything,
            )
        return LoadModules(
            tuple(self.new), self._table_size(), tuple(patches), hosts=self.pointers.slots
        )

    def _lower(self, module: LoadedModule, shared: SharedTrampolines | None) -> None:
        """Create the record from which all groups instantiate a new module."""
        self.state.assign_ordinal(module)
        module.native = lower_module(
            module, self.state.tags, self._cache, self._host_calls, shared, self.check
        )
        module.address = module.native.address

    def set_target_later(
        self, module: LoadedModule, index: int, target: LoadedModule, position: int
    ) -> None:
        """Set the target of a PLT entry as soon as both modules have their records."""
        self._targets.append((module, index, target, position))

    def _table_size(self) -> int:
        """Return the table size for the allocated slots and the imports of the modules."""
        wanted = self.state.table.size
        for module in self.new:
            for table in module.info.imported_tables:
                if table.limits.minimum > wanted:
                    wanted = table.limits.minimum
                    if wanted > self.state.limits.table:
                        raise LimitError(
                            f"{module.name}: imports a table of {wanted} slots; the limit is "
                            f"{self.state.limits.table}: "
                            "raise Limits(table=...)",
                            module=module.name,
                        )
        return wanted

    def slot_for(self, definition: Definition, patches: list[SlotPatch]) -> int:
        """Return the table slot of a function, allocating one if it has none yet."""
        slot = definition.value
        if slot is None:
            module, export = definition.module, definition.export
            slot = self.state.table.allocate(1, 1, self._grants, module=module.name)
            module.slots[export.index] = slot
            self._slot_owners.append((module, export.index))
            patches.append(SlotPatch(slot, definition))
        return slot

    @property
    def allocated_slots(self) -> list[int]:
        """The table slots that the plan allocated for functions, of new modules and of others."""
        slots = [
            module.slots[function]
            for module, function in self._slot_owners
            if function in module.slots
        ]
        return slots + [each.slot for each in self.pointers.slots]

    def keep(self) -> None:
        """Transfer the allocated slots to the modules that define the functions.

        If it is interrupted, :meth:`undo` does the rest.
        """
        while self._slot_owners:
            module, grant = self._slot_owners[-1][0], self._grants[-1]
            module.grants += [grant]  # no call from here to the second `del`
            del self._slot_owners[-1]
            del self._grants[-1]

    def undo(self) -> None:
        """Roll back: release memory and slots. A second call does nothing."""
        self.pointers.undo()
        for module, function in self._slot_owners:
            module.slots.pop(function, None)
        release_all(self._grants)
        self._slot_owners = []
        for module in self._added:
            self.state.release(module)


class _NoSlots(SlotAllocator):
    """A table that allocates nothing."""

    def allocate(self, count: int, alignment: int, grants: list[Grant], *, module: str) -> int:  # noqa: ARG002
        """Return no slot."""
        return 0


class DryRun(LoadPlan):
    """Decides the imports of another plan's modules as :meth:`LoadPlan.resolve` will.

    It works on stand-ins and keeps nothing.
    """

    def __init__(self, plan: LoadPlan) -> None:
        super().__init__(plan.state, plan._locator, plan._cache, plan._host_calls)
        self.is_dry_run = True
        double = {
            each: LoadedModule(
                each.name, each.path, each.info, None, each.number, is_main=each.is_main
            )
            for each in plan.new
        }
        self.new = [*double.values()]
        self.scope = [double.get(each, each) for each in plan.scope]
        self.pointers = NewPointers(plan.state.imports, _NoSlots(0), plan._host_calls, dry_run=True)

    def decide(self, *, bind_now: bool) -> None:
        """Raise what :meth:`LoadPlan.resolve` would."""
        undefined: list[UndefinedSymbol] = []
        notes: list[str] = []
        for _, resolver in self.resolvers(undefined, notes, bind_now=bind_now):
            resolver.resolve()
        if undefined:
            raise UndefinedSymbolError(undefined, note="; ".join(notes))

    def resolvers(
        self, undefined: list[UndefinedSymbol], notes: list[str], *, bind_now: bool
    ) -> Iterator[tuple[LoadedModule, Resolver]]:
        """Iterate over the resolvers of the new modules, in the order of a load.

        Each must have finished before the next one is asked for.
        """
        scope = self.state.load_scope(self.scope)
        for module in self.new:
            check_alignment(module)
            # The owner of the heap is decided with the allocation.
            module.heap = None if self.state.heap.is_unknown_to(module) else (0, 0)
            yield module, Resolver(self, module, scope, undefined, [], notes, bind_now=bind_now)
            module.ready = True

    def slot_for(self, definition: Definition, patches: list[SlotPatch]) -> int:  # noqa: ARG002
        """Return no slot."""
        return 0


def check_alignment(module: LoadedModule) -> None:
    """Refuse alignments beyond a page.

    No compiler asks for one, and a hostile one would waste gigabytes.

    Raises:
        LimitError: An alignment is too large.
    """
    dylink = module.info.dylink
    if dylink is not None and max(dylink.memory_alignment, dylink.table_alignment) > _PAGE:
        raise LimitError(
            f"{module.name}: asks for data aligned to {dylink.memory_alignment} bytes and slots "
            f"aligned to {dylink.table_alignment}; "
            f"the limit is {_PAGE}",
            module=module.name,
        )
