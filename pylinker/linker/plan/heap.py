"""The owner of the memory between ``__heap_base`` and ``__heap_end``: one module at a time.

A malloc takes that range for its own before it asks for more with ``memory.grow`` (wasi-libc#377),
so two modules with a malloc each must not get the same range. The first module that asks gets it;
every other module gets an empty range (``__heap_base == __heap_end``), and its malloc then uses
only memory that it grows. When the owner is unloaded, the range is zeroed and free for the next
module that asks. A program at fixed addresses keeps its own heap for good.

Some heaps have no end but that of the memory: Emscripten's ``sbrk`` takes all memory from
``__heap_base`` up to ``memory.size``, whichever code grew it. There can be one such heap, and no
memory grown by the linker is safe from it: :mod:`pylinker.linker.load.room` handles that case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker.errors import UnsupportedError
from pylinker.linker.modules.layout import program_layout
from pylinker.runtime.outline import HeapUse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.space import MemoryAllocator

__all__ = ["Heap", "asks_for_heap", "gives_room", "has_no_end", "takes_heap_first"]

_PAGE = 1 << 16


def asks_for_heap(use: int) -> bool:
    """Whether a module imports the start or the end of the heap."""
    return bool(use & (HeapUse.BASE | HeapUse.END))


def has_no_end(use: int) -> bool:
    """Whether a module asks for the start of the heap, not its end, and may take all memory."""
    return bool(use & HeapUse.BASE) and not use & HeapUse.END


def takes_heap_first(use: int) -> int:
    """Return the rank of a module among those that ask together.

    Equal ones keep the order of the scope.
    """
    return 0 if use & HeapUse.TAKES_ALL else 1


def gives_room(module: LoadedModule | None) -> bool:
    """Whether memory must come from the malloc of ``module``, the owner of the heap.

    No other memory is safe from it then.
    """
    if module is None:
        return False
    use = module.outline.heap
    if use & HeapUse.TAKES_ALL:
        return True
    fixed = module.is_main and not module.is_position_independent
    has_malloc = bool(use & HeapUse.MALLOC)
    return (has_malloc and fixed) or (has_no_end(use) and (has_malloc or bool(use & HeapUse.SBRK)))


class Heap:
    """The heap range of one program.

    Threads: changed under the write lock.
    """

    start: int
    """The first address of the range."""
    stop: int
    """The address after the range."""
    owner: LoadedModule | None
    """The module that has the range, or None."""

    __slots__ = ("_clean", "_is_fixed", "_memory", "_pages", "owner", "start", "stop")

    def __init__(self, memory: MemoryAllocator) -> None:
        self._memory = memory
        self.start = self.stop = 0
        self.owner = None
        self._is_fixed = False
        self._clean = True
        self._pages: dict[LoadedModule, int] = {}

    def lay_out(self, start: int, stop: int) -> None:
        """Set the range, if the linker chooses it."""
        self.start, self.stop = start, stop

    def belongs_to_program(self, main: LoadedModule) -> None:
        """Leave the heap to a main module at fixed addresses.

        All other modules get an empty range at the start of its heap, if that is known.
        """
        layout = program_layout(main.info)
        self.stop = layout.get("__heap_end", 0)
        self.start = layout.get("__heap_base", self.stop)
        self._set_owner(main)
        self._is_fixed = "__heap_base" in layout

    def give(self, modules: Iterable[LoadedModule]) -> None:
        """Decide the ranges of those ``modules`` that ask, in the order of the scope.

        A second call for the same modules changes nothing. :meth:`release` reverts it.

        Raises:
            UnsupportedError: A second module needs a heap without an end.
            LimitError: The memory cannot grow.
        """
        asking = [
            module
            for module in modules
            if module.heap is None and asks_for_heap(module.outline.heap)
        ]
        for module in (
            sorted(asking, key=lambda each: takes_heap_first(each.outline.heap))
            if len(asking) > 1
            else asking
        ):
            module.heap = self._range_for(module)

    def _range_for(self, module: LoadedModule) -> tuple[int, int] | None:
        use = module.outline.heap
        if self.owner is module:
            return self.start, self.stop
        if self.owner is None:
            self._set_owner(module)
            size = self._memory.size()
            if size and self.start == self.stop:  # the layout left no range
                self.start = self._memory.grow_for(_PAGE, module=module.name)
                self.stop = self.start + _PAGE
            elif has_no_end(use) and size > self.stop:
                return self._page_for(module)  # the memory after the range may be in use by now
            if not self._clean:
                self._memory.zero(self.start, self.stop - self.start)
            self._clean = False
            return self.start, self.stop
        if use & HeapUse.TAKES_ALL:
            raise UnsupportedError(
                f"{module.name} has a heap that takes all memory, but the heap of the program is "
                f"that of {self.owner.name}",
                module=module.name,
            )
        if has_no_end(use):
            if use & HeapUse.MALLOC and self._memory.size():
                return self._page_for(module)  # it takes all memory up to the end, once
            if self.is_unknown_to(module):
                return None
        return self.start, self.start

    def is_unknown_to(self, module: LoadedModule) -> bool:
        """Whether a module could only get an empty range, whose address is unknown."""
        owner, use = self.owner, module.outline.heap
        if (
            owner is None
            or owner is module
            or not has_no_end(use)
            or (use & HeapUse.MALLOC and self._memory.size())
        ):
            return False
        return owner.is_main and not owner.is_position_independent and not self._is_fixed

    def _page_for(self, module: LoadedModule) -> tuple[int, int]:
        page = self._pages[module] = self._memory.grow_for(_PAGE, module=module.name)
        return page, page + _PAGE

    def release(self, module: LoadedModule) -> None:
        """Revert :meth:`give` for a module."""
        module.heap = None
        if self.owner is module:
            self._set_owner(None)
        if module in self._pages:
            self._memory.reuse_page(self._pages, module)

    def _set_owner(self, module: LoadedModule | None) -> None:
        self.owner = module
        self._memory.from_guest = gives_room(module)
