"""Destructors of libraries."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from pylinker.linker.dlfcn import PROVIDED, THREAD_EXITS
from pylinker.linker.group import ThreadExit
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.linker.closures import Closures
    from pylinker.linker.context import LinkContext
    from pylinker.linker.group import InstanceGroup
    from pylinker.linker.module import AtExit, LoadedModule
    from pylinker.linker.symbols import Symbols

__all__ = ["Destructors"]

_HOOK = FuncType(("i32",), ())


class Destructors:
    """What modules have registered with ``__cxa_atexit`` and ``atexit``, and what threads have with ``__cxa_thread_atexit``.

    ``hook`` is the handle of the host function that runs it all.
    """

    def __init__(self, context: LinkContext, closures: Closures, symbols: Symbols, hook: int) -> None:
        self._context = context
        self._closures = closures
        self._symbols = symbols
        self._hook = hook
        self._hook_made = False
        self._unowned: list[AtExit] = []

    def register(self, module: LoadedModule | None, entry: AtExit, dso: int = 0) -> None:
        """Remember a destructor of a module, to be run when it is unloaded or the program exits.

        If it is not known who calls (None), the module is that of the address ``dso`` (``__dso_handle``) or of the destructor itself.
        """
        module = module or self._symbols.owner_of(slot=entry.slot, address=dso)
        (self._unowned if module is None else module.at_exit).append(entry)
        self._make_hook()

    def register_thread(self, module: LoadedModule | None, entry: AtExit, dso: int) -> None:
        """Remember a destructor of the calling thread, to be run when it ends. The module, found as above, stays loaded until then.

        Raises LinkError to a module that is just being loaded.
        """
        group = self._context.check_not_instantiating()
        module = module or self._symbols.owner_of(slot=entry.slot, address=dso)
        group.thread_exits.append(ThreadExit(module, entry))
        group.native.set_exits(True)
        if not group.has_exit_hook:
            group.has_exit_hook = True
            self._make_thread_hook(group)
        if group is self._context.main_group:
            self._make_hook()

    def _make_thread_hook(self, group: InstanceGroup) -> None:
        """Have the guest's own list of the thread's destructors run those of libraries: while the thread is whole.

        Where no module exports such a list, they run after the thread's function has returned.
        """
        state = self._context.state
        for name in ("__cxa_thread_atexit", "__cxa_thread_atexit_impl"):
            with self._context.reading():
                definition = state.lookup(name, state.global_scope)
            if definition is not None and definition.type == PROVIDED[name] and group.has(definition.module):
                slot = self._symbols.provided(THREAD_EXITS, _HOOK)
                assert slot is not None
                group.call(group.function(definition.module, name), slot, 0, 0)
                return

    def run_thread(self, only: Collection[LoadedModule] | None = None) -> bool:
        """Run what the calling thread has registered, the last first, also what is registered meanwhile; whether there was anything.

        With ``only``, what these modules have. All of them run; the first failure is raised at the end.
        """
        group = self._context.group
        calls = _Calls()
        group.has_exit_hook = False  # what the guest's list has called is not called again
        while (index := _last(group.thread_exits, only)) is not None:
            exit_ = group.thread_exits.pop(index)
            group.ending.append(exit_)  # so that the library stays
            try:
                if exit_.module is None or not exit_.module.gone:
                    calls.make(group, exit_.entry)
            finally:
                group.ending.pop()
        if not group.thread_exits:
            group.native.set_exits(False)
        calls.finish()
        return calls.made

    def kept(self) -> set[LoadedModule]:
        """Return the modules that destructors of threads need. Under the write lock."""
        groups = (self._context.main_group, *self._context.groups.values())
        exits = [each for group in groups for each in (*group.thread_exits, *group.ending)]
        return {each.module for each in exits if each.module is not None}

    def _make_hook(self) -> None:
        """Have the program's own ``exit`` run the libraries' destructors, so that they come before its streams are flushed.

        Where no module exports ``__cxa_atexit``, they run after the program has exited instead.
        """
        if self._hook_made:
            return
        self._hook_made = True
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
        calls = _Calls()
        for module in sorted(modules, key=lambda each: each.initialized, reverse=True):
            while module.at_exit:
                calls.make(self._context.group, module.at_exit.pop())
        calls.finish()

    def run_unowned(self) -> None:
        """Run what no module is known to have registered: the program exits."""
        calls = _Calls()
        while self._unowned:
            calls.make(self._context.group, self._unowned.pop())
        calls.finish()


class _Calls:
    """Calls that are all made, whatever becomes of each: the first failure is raised at the end. ``made``: there was one."""

    def __init__(self) -> None:
        self.made = False
        self._failure: BaseException | None = None

    def make(self, group: InstanceGroup, entry: AtExit) -> None:
        self.made = True
        try:
            group.call_slot(entry.slot, *(() if entry.argument is None else (entry.argument,)))
        except Exception as error:  # noqa: BLE001 - raised by finish
            self._failure = self._failure or error

    def finish(self) -> None:
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # no cycle through this frame


def _last(exits: list[ThreadExit], only: Collection[LoadedModule] | None) -> int | None:
    """Return the place of the last of the destructors, or of the last that these modules have; None if there is none."""
    return next((index for index in range(len(exits) - 1, -1, -1) if only is None or exits[index].module in only), None)
