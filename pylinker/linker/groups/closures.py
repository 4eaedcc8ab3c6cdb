"""Table slots that are no module's, the closures that a guest puts there, and the types of functions behind all slots."""

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
    from pylinker.linker.groups.context import LinkContext
    from pylinker.runtime.code import Code, CodeCache

__all__ = ["Closures"]

_HOOK = FuncType(("i32",), ())
_BLOCK: Final = 64
"""Slots that are given out to all tables at once when one is needed: a rendezvous for the first, none for the rest."""

_TYPES: Final = 4096
"""Types of closures that a program may have.

Their code is kept as long as the program, since any group may have a closure of it.
"""


class Closures:
    """Table slots that exist in every group, given out in blocks and reused, and what is in them.

    Safe to use from all threads of the program. All but :meth:`free` and :meth:`type_of` block,
    cooperatively.
    """

    def __init__(self, context: LinkContext, cache: CodeCache) -> None:
        self._context = context
        self._cache = cache
        self._lock = threading.Lock()  # of the three that follow; nobody waits while he has it
        self._free: list[int] = []
        self._taken: set[int] = set()
        self._prepared: set[int] = set()  # those of the taken that have a closure
        self._codes: dict[FuncType, Code] = {}

    def allocate(self, *, finalizer: int | None = None) -> int:
        """Return a free slot; with ``finalizer`` (a host function's handle) one in which each group has put the program's exit hook.

        The slot that was freed last comes first. Raises LimitError, RendezvousTimeout.
        """
        if finalizer is None and (slot := self._take()) is not None:
            return slot
        context = self._context
        state, group = context.state, context.group
        grants: list[Grant] = []

        def undo() -> None:
            release_all(grants)

        try:
            with context.exclusive() as change:
                if (
                    finalizer is None and (slot := self._take()) is not None
                ):  # another has made some
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
                            self._free, self._taken = (
                                more,
                                taken,
                            )  # and nothing is called up to the `del`
                            state.closure_slots += [noted]
                            if host is not None:
                                state.finalizer = host
                            del grants[0]

                group.apply(operation)
                change.publish(operation, commit)
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
        """Take a slot back; False if it was not given out.

        What is in it stays until it is used again, but nobody may call it.
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
        """Put a closure of this type into a slot, in every group: it calls ``function`` (a slot) with ``environment``.

        False if the slot was not given out.

        Raises UnsupportedError for values that cannot be in memory, LimitError, RendezvousTimeout;
        what was in the slot is there still.
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
            with context.exclusive() as change:
                if slot not in self._taken:
                    return False
                before = state.closures.get(slot)
                operation = PrepareClosure(slot, type_, code, function, environment)

                def commit() -> None:
                    state.closures[slot] = operation
                    with self._lock:
                        if (
                            slot in self._taken
                        ):  # else it was freed meanwhile, and its next owner prepares it
                            self._prepared.add(slot)

                changed += [operation]
                group.apply(operation)
                change.publish(operation, commit)
        except BaseException:
            if changed:
                context.undo(undo)
            raise
        return True

    def _code(self, type_: FuncType) -> Code:
        """Return the code of a type's closures, compiled before anybody has to wait for it."""
        code = self._codes.get(type_)
        if code is None:
            if len(self._codes) >= _TYPES:
                raise LimitError(f"the limit of {_TYPES} types of closures is reached")
            module = closure_module(type_, shared=self._context.main_group.memory_is_shared)
            code = self._codes.setdefault(type_, self._cache.load(module, name="closure"))
        return code
