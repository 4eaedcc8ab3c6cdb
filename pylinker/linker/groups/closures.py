"""Table slots that belong to no module: the closures of the guest, and the types of all slots."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pylinker.errors import LimitError
from pylinker.linker.plan.operation import AllocateFunctionTable, HostSlot, PrepareClosure
from pylinker.linker.ranges import Grant, release_all
from pylinker.native.enums import SourceKind
from pylinker.native.libraries import pack_source
from pylinker.runtime.types import function_type
from pylinker.wasm import FuncType, closure_module

if TYPE_CHECKING:
    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.runtime.code import Code, CodeCache

__all__ = ["Closures"]

_HOOK = FuncType(("i32",), ())
_BLOCK: Final = 64
"""Slots that are allocated in all tables at once.

The first needs a rendezvous, the others do not.
"""

_TYPES: Final = 4096
"""The maximum of closure types of a program.

Their code lives as long as the program, since any group may have a closure of the type.
"""


class Closures:
    """Table slots that exist in every group, allocated in blocks and reused, and their closures.

    Threads: safe to use from all threads of the program.

    Blocks: cooperatively, except for :meth:`free` and :meth:`type_of`.
    """

    def __init__(self, context: ThreadLinkState, cache: CodeCache) -> None:
        self._context = context
        self._cache = cache
        self._lock = threading.Lock()  # guards _free, _taken, _prepared; a leaf lock
        self._free: list[int] = []
        self._taken: set[int] = set()
        self._prepared: set[int] = set()  # the slots in _taken that have a closure
        self._codes: dict[FuncType, Code] = {}

    def allocate(self, *, finalizer: int | None = None) -> int:
        """Return a free slot; the slot that was freed last comes first.

        Args:
            finalizer: The handle of a host function; each group puts it into the slot as the exit
                hook of the program.

        Raises:
            LimitError: The table is full.
            RendezvousTimeout: Another group did not take part in time.
        """
        if finalizer is None and (slot := self._take()) is not None:
            return slot
        context = self._context
        state, group = context.state, context.group
        grants: list[Grant] = []

        def undo() -> None:
            release_all(grants)

        try:
            with context.exclusive() as transaction:
                # Another thread may have allocated a block meanwhile.
                if finalizer is None and (slot := self._take()) is not None:
                    return slot
                state.table.note_size(group.table_size)
                base = state.table.allocate(_BLOCK, 1, grants, module="closures")
                host = None
                if finalizer is not None:
                    host = HostSlot(
                        base,
                        pack_source(
                            SourceKind.HOST, type_address=function_type(_HOOK), handle=finalizer
                        ),
                    )
                noted = (base, _BLOCK) if host is None else (base + 1, _BLOCK - 1)
                operation = AllocateFunctionTable(state.table.size, host, noted)

                def commit() -> None:
                    if grants:
                        with self._lock:
                            more = [*self._free, *range(base + _BLOCK - 1, base, -1)]
                            taken = self._taken if host is not None else {*self._taken, base}
                            # No call from here to the `del`.
                            self._free, self._taken = more, taken
                            state.closure_slots += [noted]
                            if host is not None:
                                state.finalizer = host
                            del grants[0]

                group.apply(operation)
                transaction.publish(operation, commit)
        except BaseException:
            if grants:
                context.undo(undo)
            raise
        return base

    def _take(self) -> int | None:
        """Return a slot that all groups have already, or None."""
        with self._lock:
            if not self._free:
                return None
            slot = self._free.pop()
            self._taken.add(slot)
            return slot

    def free(self, slot: int) -> bool:
        """Free a slot; False if it was not allocated.

        Its content stays until it is reused, but must not be called.
        """
        with self._lock:
            if slot not in self._taken:
                return False
            self._taken.discard(slot)
            self._prepared.discard(slot)
            self._free.append(slot)
            return True

    def type_of(self, slot: int) -> FuncType | None:
        """Return the type of the closure in a slot, None if there is none."""
        closure = self._context.state.closures.get(slot)
        return closure.type if closure is not None and slot in self._prepared else None

    def prepare(self, slot: int, type_: FuncType, function: int, environment: int) -> bool:
        """Put a closure into a slot, in every group; False if the slot was not allocated.

        On an error the slot keeps its content.

        Args:
            slot: The slot of the closure.
            type_: The type of the closure.
            function: The slot of the function that it calls.
            environment: The environment that it passes.

        Raises:
            UnsupportedError: There is a type that cannot be in memory.
            LimitError: There are too many types.
            RendezvousTimeout: Another group did not take part in time.
        """
        context = self._context
        code = self._code(type_)
        state, group = context.state, context.group
        before = state.closures.get(slot)
        changed: list[PrepareClosure] = []

        def undo() -> None:
            if changed and state.closures.get(slot) is not changed[0]:
                if before is not None:
                    group.apply(before)
                else:
                    group.empty_slot(slot)

        try:
            with context.exclusive() as transaction:
                if slot not in self._taken:
                    return False
                before = state.closures.get(slot)
                operation = PrepareClosure(slot, type_, code, function, environment)

                def commit() -> None:
                    state.closures[slot] = operation
                    with self._lock:
                        # Else it was freed meanwhile, and its next owner prepares it.
                        if slot in self._taken:
                            self._prepared.add(slot)

                changed += [operation]
                group.apply(operation)
                transaction.publish(operation, commit)
        except BaseException:
            if changed:
                context.undo(undo)
            raise
        return True

    def _code(self, type_: FuncType) -> Code:
        """Return the code of the closures of a type, compiled before any thread waits for it."""
        code = self._codes.get(type_)
        if code is None:
            if len(self._codes) >= _TYPES:
                raise LimitError(f"the limit of {_TYPES} types of closures is reached")
            module = closure_module(type_, shared=self._context.main_group.memory_is_shared)
            code = self._codes.setdefault(type_, self._cache.load(module, name="closure"))
        return code
