"""Room for libraries from a malloc of the guest, for programs in which no other memory is safe.

The linker puts libraries into memory that it has grown itself. Where a heap takes all memory up to
``memory.size``, as Emscripten's ``sbrk`` does, that would be given out twice. So the room is taken
from that heap, as Emscripten's own loader does:

* a main module at fixed addresses that exports ``malloc``: one cannot see how far its heap goes;
* the module that has the heap of a program, if it does not ask for ``__heap_end`` or is
  Emscripten's: its ``malloc``, else its ``sbrk``. One of Emscripten's that exports neither is
  refused with the first library that comes later.

Other heaps stay in what they were given and in what they have grown, and so does the linker.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import wasmtime

from pylinker.errors import LimitError, LinkError, UnsupportedError
from pylinker.native.recursive import RecursiveMutex, Taken
from pylinker.runtime.outline import HeapUse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.linker.modules.module import LoadedModule

__all__ = ["GuestRoom"]

logger = logging.getLogger("pylinker.linker")

_MALLOC_ALIGNMENT = 16


class _Block(NamedTuple):
    """A block of the guest's malloc: ``address``, and the part of it that the linker uses."""

    address: int
    start: int
    stop: int


class GuestRoom:
    """Room that comes from the guest.

    Protects: the blocks, and the memory fetched for an operation until its use, by a lock that
    comes after the load lock and before topology token and write lock. The guest's malloc runs
    under that lock but never under the write lock: another thread may be inside the same malloc,
    hold its mutex, and wait for the linker. Blocks, cooperatively, for both.
    """

    def __init__(self, context: ThreadLinkState) -> None:
        self.context = context
        self.lock = RecursiveMutex()
        self._blocks: list[_Block] = []

    @property
    def provider(self) -> LoadedModule | None:
        """The module whose heap gives the room, or None if the linker grows the memory."""
        state = self.context.state
        return state.heap.owner if state.memory.from_guest else None

    @property
    def is_used(self) -> bool:
        """Whether there are blocks of the guest's malloc."""
        return bool(self._blocks)

    def keeps(self, module: LoadedModule) -> bool:
        """Whether a module must stay loaded, since others lie in its heap."""
        return bool(self._blocks) and module is self.provider

    def fetched(
        self, wanted: Callable[[], Sequence[tuple[int, int]]], *, module: str
    ) -> AbstractContextManager[None]:
        """Return a context manager in which there is room for libraries.

        It does nothing where the linker grows the memory. Requires: neither token nor write lock.
        Blocks: as long as the guest's malloc runs.

        Args:
            wanted: Returns the sizes and alignments of the blocks.
            module: The name in messages.

        Raises:
            LinkError: When it is entered: the guest's malloc returns no block, or traps.
        """
        return _Fetched(self, wanted, module) if self.provider is not None else nullcontext()

    def fetch(self, wanted: Sequence[tuple[int, int]], module: str) -> None:
        """Allocate the missing ones of the ``wanted`` blocks. Requires: :attr:`lock`."""
        memory = self.context.state.memory
        for _ in range(len(wanted) + 1):  # one may get into the block of another, first fit
            with self.context.exclusive():
                missing = memory.missing(wanted)
            if not missing:
                return
            for size, alignment in missing:
                block = self._malloc(size + max(alignment - _MALLOC_ALIGNMENT, 0), module)
                with self.context.exclusive():
                    if block.stop > memory.size() or not memory.take_over(block.start, block.stop):
                        raise LinkError(
                            f"{module}: the malloc of {self._name} gave {block.address:#x}, "
                            "which is in use or not in the memory",
                            module=self._name,
                            symbol="malloc",
                        )
                    self._blocks.append(block)
        raise LimitError(
            f"{module}: no room for {sum(size for size, _ in wanted)} more bytes of guest memory",
            module=module,
        )

    @property
    def _name(self) -> str:
        provider = self.provider
        return provider.name if provider is not None else "the program"

    def _malloc(self, size: int, module: str) -> _Block:
        provider = self.provider
        assert provider is not None
        use = provider.outline.heap
        name = "malloc" if use & HeapUse.MALLOC else "sbrk" if use & HeapUse.SBRK else None
        if name is None:
            raise UnsupportedError(
                f"{module}: no room: the heap of {provider.name} takes all memory, and it "
                "exports no malloc; link it with --export=malloc",
                module=provider.name,
                symbol="malloc",
            )
        size += _MALLOC_ALIGNMENT  # neither promises an alignment
        if size > self.context.state.limits.memory:
            raise LimitError(
                f"{module}: no room for {size} more bytes of guest memory", module=module
            )
        address = self._call(provider, name, size)
        if address in (0, 0xFFFFFFFF):
            raise LimitError(
                f"{module}: {name} of {provider.name} has no room for {size} bytes",
                module=module,
                symbol=name,
            )
        start = -(-address // _MALLOC_ALIGNMENT) * _MALLOC_ALIGNMENT
        return _Block(address, start, address + size)

    def _call(self, provider: LoadedModule, name: str, argument: int) -> int:
        group = self.context.group
        try:
            return group.call(group.function(provider, name), argument)
        except wasmtime.Trap as error:
            raise LinkError(
                f"{provider.name}: {name} trapped: {error}".split("\n", 1)[0],
                module=provider.name,
                symbol=name,
            ) from error

    def trim(self) -> bool:
        """Free the blocks in which nothing lies any more; returns whether there were any.

        Requires: the load lock. Failures of the guest's ``free`` are logged: the unloading that
        led here is done.
        """
        provider = self.provider
        if (
            not self._blocks
            or provider is None
            or not provider.outline.heap & HeapUse.FREE
            or not provider.outline.heap & HeapUse.MALLOC
        ):
            return False
        with self.lock.taken(self.context.check_not_cancelled):
            with self.context.exclusive():
                unused = [
                    block
                    for block in self._blocks
                    if self.context.state.memory.hand_back(block.start, block.stop)
                ]
                self._blocks = [block for block in self._blocks if block not in unused]
            for block in unused:
                try:
                    self._call(provider, "free", block.address)
                except LinkError as error:  # the other blocks are freed all the same
                    logger.warning("%s", error)
        return bool(unused)


class _Fetched(Taken):
    """Fetched room, under the lock, from entering to leaving."""

    __slots__ = ("_module", "_room", "_wanted")

    def __init__(
        self, room: GuestRoom, wanted: Callable[[], Sequence[tuple[int, int]]], module: str
    ) -> None:
        super().__init__(room.lock, room.context.check_not_cancelled)
        self._room = room
        self._wanted = wanted
        self._module = module

    def enter(self) -> None:
        """Fetch it."""
        super().enter()
        self._room.fetch(self._wanted(), self._module)
