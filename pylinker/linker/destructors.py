"""Destructors of libraries, and the table slots of functions that are no module's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pylinker._native import Source, pack_source
from pylinker.errors import LinkError
from pylinker.linker.dlfcn import PROVIDED
from pylinker.linker.operation import AllocateFunctionTable, HostSlot
from pylinker.runtime.types import function_type
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.linker.context import LinkContext
    from pylinker.linker.module import AtExit, LoadedModule

__all__ = ["Closures", "Destructors"]

_HOOK = FuncType(("i32",), ())
_BLOCK = 64
"""Slots that are given out to all tables at once when one is needed: a rendezvous for the first, none for the rest."""


class Closures:
    """Table slots that exist in every group, given out in blocks and reused. Safe to use from all threads of the program."""

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._free: list[int] = []

    def allocate(self, *, finalizer: int | None = None) -> int:
        """Return a free slot; with ``finalizer`` (a host function's handle) one in which each group has put the program's exit hook.

        Blocks, cooperatively.
        """
        context = self._context
        state, group = context.state, context.group
        with context.exclusive() as change:
            if self._free and finalizer is None:
                return self._free.pop()
            state.table.note_size(group.table_size)
            base = state.table.allocate(_BLOCK, 1, module="closures")
            host = None
            if finalizer is not None:
                host = HostSlot(base, pack_source(Source.HOST, type_address=function_type(_HOOK), handle=finalizer))
            operation = AllocateFunctionTable(state.table.size, host)

            def commit() -> None:
                self._free += range(base + 1, base + _BLOCK)
                if host is not None:
                    state.finalizer = host

            try:
                group.apply(operation)
                change.publish(operation, commit)
            except LinkError:
                with change.undoing():
                    state.table.release(base, _BLOCK)
                raise
            return base

    def free(self, slot: int) -> None:
        """Take a slot back; the caller has emptied it in every group that filled it. Blocks, cooperatively."""
        with self._context.exclusive():
            self._free.append(slot)


class Destructors:
    """What modules have registered with ``__cxa_atexit`` and ``atexit``. ``hook`` is the handle of the host function that runs it all."""

    def __init__(self, context: LinkContext, closures: Closures, hook: int) -> None:
        self._context = context
        self._closures = closures
        self._hook = hook
        self._hook_made = False

    def register(self, module: LoadedModule, entry: AtExit) -> None:
        """Remember a destructor of a module, to be run when it is unloaded or the program exits."""
        module.at_exit.append(entry)
        if not self._hook_made:
            self._hook_made = True
            self._make_hook()

    def _make_hook(self) -> None:
        """Have the program's own ``exit`` run the libraries' destructors, so that they come before its streams are flushed.

        Where no module exports ``__cxa_atexit``, they run after the program has exited instead.
        """
        state, group = self._context.state, self._context.group
        with self._context.reading():
            definition = state.lookup("__cxa_atexit", state.global_scope)
        if definition is None or definition.type != PROVIDED["__cxa_atexit"] or not group.has(definition.module):
            return
        slot = self._closures.allocate(finalizer=self._hook)
        group.call(group.function(definition.module, definition.export.name), slot, 0, 0)

    def run(self, modules: Iterable[LoadedModule]) -> None:
        """Run what the modules registered, the last constructed module first, the last registration first.

        All of them run; the first failure is raised at the end. (A guest may call Python functions, which raise what they like.)
        """
        failure: BaseException | None = None
        for module in sorted(modules, key=lambda each: each.initialized, reverse=True):
            while module.at_exit:
                slot, argument = module.at_exit.pop()
                try:
                    self._context.group.call_slot(slot, *(() if argument is None else (argument,)))
                except Exception as error:  # noqa: BLE001 - raised below
                    failure = failure or error
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # no cycle through this frame
