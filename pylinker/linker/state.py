"""LinkerState: the shared tables of one program. Metadata only; it is the same for all instance groups."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from pylinker.errors import LimitError
from pylinker.linker.heap import Heap
from pylinker.linker.imports import HostImports
from pylinker.linker.limits import Limits
from pylinker.linker.module import Definition, LoadedModule, OwnTag
from pylinker.linker.operation import HostSlot, PrepareClosure, ThreadLocalBlock
from pylinker.linker.ranges import Grant, RangeAllocator, align_up, release_all
from pylinker.native.replay import BLOCK_OWN

__all__ = ["LinkerState", "MemoryAllocator", "SlotAllocator"]

_PAGE = 1 << 16


class MemoryAllocator:
    """Places for libraries in guest memory.

    New room comes from ``grow`` (pages -> first new address, or None if the memory cannot grow); what is given out is zero. ``size``
    returns how large the memory is (bytes), 0 before it exists. With ``from_guest`` the memory does not grow for what is allocated:
    room is taken over from the guest's malloc before.
    """

    def __init__(self, limit: int) -> None:
        self._ranges = RangeAllocator()
        self._limit = limit
        self.grow: Callable[[int], int | None] = lambda _pages: None
        self.zero: Callable[[int, int], None] = lambda _start, _size: None
        self.size: Callable[[], int] = lambda: 0
        self.from_guest = False
        self._grown: list[tuple[int, int]] = []
        self._taken_over: set[tuple[int, int]] = set()

    @property
    def used(self) -> int:
        """Bytes given out."""
        return self._ranges.used

    def allocate(self, size: int, alignment: int, grants: list[Grant], *, module: str, zero: bool = True) -> int:
        """Return the address of ``size`` bytes at a multiple of ``alignment``; LimitError if there is no room.

        They are zero unless that does not matter: a stack, or what is written at once. The grant is added to ``grants``.
        """
        if not size:
            return 0
        base = self._ranges.allocate(size, alignment, grants)
        dirty = size
        if base is None and self.from_guest:
            raise LimitError(f"{module}: no room for {size} more bytes of guest memory", module=module)
        if base is None:
            fresh = self.reserve(size, module=module)  # begins at a page, which suits every alignment
            base = self._ranges.allocate(size, alignment, grants)
            assert base is not None
            dirty = max(0, min(size, fresh - base))  # what the guest's memory has just grown by is zero
        if zero:
            self.zero(base, dirty)
        return base

    def make_room(self, wanted: Sequence[tuple[int, int]], *, memory_size: int, module: str) -> None:
        """Grow the memory, of ``memory_size`` bytes now, so that all (size, alignment) that are ``wanted`` will fit.

        LimitError if the limit does not allow that; the memory has not grown then.
        """
        if self.from_guest or self._ranges.has_room(sum([size + alignment - 1 for size, alignment in wanted])):
            return
        ranges = self._ranges.copy()
        missing = sum(align_up(size, _PAGE) for size, alignment in wanted if size and ranges.allocate(size, alignment) is None)
        if memory_size + missing > self._limit:
            raise LimitError(
                f"{module}: no room for {missing} more bytes in a memory of {memory_size}; the limit is {self._limit}: "
                "raise Limits(memory=...)",
                module=module,
            )
        if missing:
            self.reserve(missing, module=module)

    def reserve(self, size: int, *, module: str) -> int:
        """Grow the memory by ``size`` (> 0) bytes or more for later use; returns where that begins. LimitError if it cannot."""
        start = self.grow_for(size, module=module)
        self.reuse(start, start + align_up(size, _PAGE))
        return start

    def grow_for(self, size: int, *, module: str) -> int:
        """Grow the memory by ``size`` (> 0) bytes, rounded up to pages, that are the caller's; returns where they begin."""
        pages = align_up(size, _PAGE) // _PAGE
        start = self.grow(pages) if pages * _PAGE <= self._limit else None
        if start is None:
            raise LimitError(f"{module}: no room for {size} more bytes of guest memory", module=module)
        if self._grown and self._grown[-1][1] == start:
            self._grown[-1] = (self._grown[-1][0], start + pages * _PAGE)
        else:
            self._grown.append((start, start + pages * _PAGE))
        return start

    def reuse(self, start: int, stop: int) -> None:
        """Take back memory that :meth:`grow_for` gave."""
        self._ranges.extend(start, stop)

    def reuse_page(self, pages: dict[LoadedModule, int], module: LoadedModule) -> None:
        """Take back the page of a module, which ``pages`` loses in the same step."""
        free = self._ranges.with_range(pages[module], pages[module] + _PAGE)
        self._ranges.free_ranges = free
        del pages[module]

    def missing(self, wanted: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return which of the (size, alignment) that are ``wanted`` do not fit, if they are allocated in this order."""
        ranges = self._ranges.copy()
        return [(size, alignment) for size, alignment in wanted if size and ranges.allocate(size, alignment) is None]

    def take_over(self, start: int, stop: int) -> bool:
        """Take over memory of the guest's malloc; False if some of it is the allocator's already."""
        if any(first < stop and start < end for first, end in (*self._grown, *self._taken_over)):
            return False
        self._taken_over.add((start, stop))
        self._ranges.extend(start, stop)
        return True

    def hand_back(self, start: int, stop: int) -> bool:
        """Give up what :meth:`take_over` took; False if some of it is given out."""
        if not self._ranges.withdraw(start, stop):
            return False
        self._taken_over.remove((start, stop))
        return True


class SlotAllocator:
    """Slots of the function table. ``size`` is how large the table must be for all that was given out."""

    def __init__(self, limit: int) -> None:
        self._ranges = RangeAllocator()
        self._limit = limit
        self.size = 1  # slot 0 is the null pointer

    @property
    def used(self) -> int:
        """Slots given out."""
        return self._ranges.used

    def note_size(self, size: int) -> None:
        """Learn that the table has ``size`` slots: those the linker did not ask for belong to the guest."""
        self.size = max(self.size, size)

    def allocate(self, count: int, alignment: int, grants: list[Grant], *, module: str) -> int:
        """Return the first of ``count`` slots at a multiple of ``alignment``; LimitError if the table would be too large.

        The grant is added to ``grants``.
        """
        if not count:
            return 0
        base = self._ranges.allocate(count, alignment, grants)
        if base is None:
            start = align_up(self.size, alignment)
            if start + count > self._limit:
                raise LimitError(
                    f"{module}: {count} table slots more than the {self.size} in use; the limit is {self._limit}: raise Limits(table=...)",
                    module=module,
                )
            ranges = self._ranges
            if start == self.size and ranges.ends_before(start):
                grant = [Grant(ranges, start, count)]
                # Nothing is called from here on: `size` covers what was given out, whatever interrupts this.
                self.size += count
                ranges.used += count
                grants += grant
                return start
            before, self.size = self.size, start + count  # first: nothing beyond it is ever free
            ranges.extend(before, start + count)
            base = ranges.allocate(count, alignment, grants)
            assert base is not None
        return base


class LinkerState:
    """Modules, scopes, names, memory and table of one program.

    Attributes: ``modules`` (in order of loading), ``global_scope`` (main first, breadth-first; grows with RTLD_GLOBAL), ``memory`` and
    ``table`` (allocators), ``heap`` (who has it), ``limits``, ``order`` (in which a new group instantiates), ``groups`` (their numbers),
    ``blocks``
    (thread-local blocks, by group and module), ``finalizer`` (the exit hook, or None), ``imports`` (Python functions of the
    program's user), ``tags`` (of their own for each group, with their numbers), ``threaded``, ``main`` (the main module, or None),
    ``table_maximum`` (slots that a module allows at most, or None), ``rewrite_waits`` (of modules), ``wasix`` (whether a module of the
    start uses it), ``hears_signals`` (whether a thread of it ever wanted to), ``closure_slots`` (first, count) and ``closures`` (by slot),
    ``destructors_refused`` (how many were too many),
    ``texts`` (strings in guest memory that are no module's: address and size in bytes, by text).
    LinkerShared guards it.
    """

    def __init__(self, limits: Limits, imports: HostImports | None = None) -> None:
        self.limits = limits
        self.modules: list[LoadedModule] = []
        self._global_scope: list[LoadedModule] = []
        self._candidates: tuple[set[LoadedModule], bytes] | None = None
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
        self._candidates = None

    @property
    def candidates(self) -> tuple[set[LoadedModule], bytes]:
        """The global scope as a set, and packed for the core. All of it is instantiated."""
        if self._candidates is None:
            self._candidates = set(self._global_scope), b"".join([module.candidate for module in self._global_scope])
        return self._candidates

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
            return ThreadLocalBlock(group, module, BLOCK_OWN, 0) if module.makes_thread_locals else None
        size, alignment = wanted
        if alignment > _PAGE:
            raise LimitError(f"{module.name}: thread-local data aligned to {alignment} bytes; the limit is {_PAGE}", module=module.name)
        grants = self._block_grants.setdefault((group, module), [])
        block = ThreadLocalBlock(group, module, self.memory.allocate(size, alignment, grants, module=module.name), size)
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

    def scope_of(self, module: LoadedModule | None) -> Iterator[LoadedModule]:
        """Iterate over where a module's symbols are looked up: the global scope, then the scope of the dlopen that brought it."""
        yield from self.global_scope
        if module is not None:
            known = set(self.global_scope)
            yield from (each for each in module.local_scope if each not in known)

    @staticmethod
    def lookup(name: str, scope: Iterable[LoadedModule]) -> Definition | None:
        """Return the first definition in scope order; weak or strong makes no difference, as with ``ld.so``."""
        for module in scope:
            found = module.find(name)
            if found is not None:
                return found
        return None

    def definitions(self) -> int:
        """Return the number of exports of all modules."""
        return sum(len(module.info.exports) for module in self.modules)
