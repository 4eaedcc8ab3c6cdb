"""Destructors of libraries."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from pylinker.linker.groups.group import ThreadExit
from pylinker.linker.guests.abi import THREAD_EXITS
from pylinker.linker.guests.table import host_type
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.linker.groups.closures import Closures
    from pylinker.linker.groups.group import InstanceGroup
    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.linker.load.symbols import Symbols
    from pylinker.linker.modules.module import AtExit, LoadedModule

__all__ = ["Destructors"]

logger = logging.getLogger("pylinker.linker")

_HOOK = FuncType(("i32",), ())


class Destructors:
    """Registered destructors: of modules (``__cxa_atexit``, ``atexit``) and of threads.

    Threads register theirs with ``__cxa_thread_atexit``. ``hook`` is the handle of the host
    function that runs the destructors of modules.
    """

    def __init__(
        self, context: ThreadLinkState, closures: Closures, symbols: Symbols, hook: int
    ) -> None:
        self._context = context
        self._closures = closures
        self._symbols = symbols
        self._hook = hook
        self._hook_made = False
        self._unowned: list[AtExit] = []
        self._numbers = itertools.count(1)  # of registrations
        # Up to this number of registrations they need not be counted.
        self._counted = context.state.limits.destructors

    def register(self, module: LoadedModule | None, entry: AtExit, dso: int = 0) -> bool:
        """Register a destructor of a module, which runs when it is unloaded or the program exits.

        Args:
            module: The calling module, or None if it is not known: then it is the module of the
                address ``dso`` (``__dso_handle``) or of the destructor itself.
            entry: The destructor.
            dso: An address in the module.

        Returns:
            Whether it was registered; False if there are too many.
        """
        if not self.has_room():
            return False
        module = module or self._symbols.owner_of(slot=entry.slot, address=dso)
        (self._unowned if module is None else module.at_exit).append(entry)
        self._make_hook()
        return True

    def register_thread(self, module: LoadedModule | None, entry: AtExit, dso: int) -> bool:
        """Register a destructor of the calling thread, which runs when it exits.

        The module, found as above, stays loaded until then.

        Returns:
            Whether it was registered; False if there are too many.

        Raises:
            LinkError: The caller is a module that is just being loaded.
        """
        group = self._context.check_not_instantiating()
        if not self.has_room():
            return False
        module = module or self._symbols.owner_of(slot=entry.slot, address=dso)
        group.thread_exits.append(ThreadExit(module, entry))
        group.native.set_exits(True)
        if not group.has_exit_hook:
            group.has_exit_hook = True
            self._make_thread_hook(group)
        if group is self._context.main_group:
            self._make_hook()
        return True

    def has_room(self) -> bool:
        """Count one more registration, of a destructor or of a key with one; False: no room."""
        number = next(self._numbers)
        return number <= self._counted or self._is_room(number)

    def _is_room(self, number: int) -> bool:
        """Count the destructors that are left; returns whether there may be one more."""
        limit = self._context.state.limits.destructors
        groups = (self._context.main_group, *list(self._context.groups.values()))
        modules = self._context.state.modules
        held = sum(len(module.at_exit) + len(module.keys) for module in modules) + sum(
            len(group.thread_exits) for group in groups
        )
        room = limit - held - len(self._unowned)
        if room > 0:
            self._counted = number + room - 1
            return True
        if not self._context.state.destructors_refused:
            logger.warning(
                "the limit of %d destructors is reached: raise Limits(destructors=...)", limit
            )
        self._context.state.destructors_refused += 1
        return False

    def _make_thread_hook(self, group: InstanceGroup) -> None:
        """Have the guest's own list of a thread's destructors run those of libraries, too.

        The thread is complete then. Where no module exports such a list, they run after the
        thread's function has returned.
        """
        state = self._context.state
        for name in ("__cxa_thread_atexit", "__cxa_thread_atexit_impl"):
            with self._context.reading():
                definition = state.global_lookup().find(name)
            if (
                definition is not None
                and definition.type == host_type("env", name)
                and group.has(definition.module)
            ):
                slot = self._symbols.provided(THREAD_EXITS, _HOOK)
                assert slot is not None
                group.call(group.defined(definition), slot, 0, 0)
                return

    def run_thread(self, only: Collection[LoadedModule] | None = None) -> bool:
        """Run the destructors of the calling thread, the last first.

        All of them run, also those registered meanwhile; the first failure is raised at the end.

        Args:
            only: The modules whose destructors run; None: all.

        Returns:
            Whether there were any.
        """
        group = self._context.group
        calls = _Calls(self._context)
        group.has_exit_hook = False  # what the guest's list has called is not called again
        while (index := _last(group.thread_exits, only)) is not None:
            self._context.check_not_stopped()
            exit_ = group.thread_exits.pop(index)
            group.ending.append(exit_)  # so that the library stays
            try:
                if exit_.module is None or not exit_.module.unloaded:
                    calls.make(group, exit_.entry)
            finally:
                group.ending.pop()
        if not group.thread_exits:
            group.native.set_exits(False)
        calls.finish()
        return calls.made

    def kept(self) -> set[LoadedModule]:
        """Return the modules that destructors of threads need. Requires: the write lock."""
        groups = (self._context.main_group, *self._context.groups.values())
        exits = [each for group in groups for each in (*group.thread_exits, *group.ending)]
        return {each.module for each in exits if each.module is not None}

    def _make_hook(self) -> None:
        """Have the program's own ``exit`` run the libraries' destructors before it flushes.

        Where no module exports ``__cxa_atexit``, they run after the program has exited instead.
        """
        if self._hook_made:
            return
        self._hook_made = True
        state, group = self._context.state, self._context.group
        with self._context.reading():
            definition = state.global_lookup().find("__cxa_atexit")
        if (
            definition is None
            or definition.type != host_type("env", "__cxa_atexit")
            or not group.has(definition.module)
        ):
            return
        slot = self._closures.allocate(finalizer=self._hook)
        group.call(group.defined(definition), slot, 0, 0)

    def run(self, modules: Iterable[LoadedModule]) -> None:
        """Run the destructors of modules: the last constructed module first, its last one first.

        All of them run; the first failure is raised at the end. (A guest may call Python functions,
        which raise anything.) If the guest is to stop, those that are left stay registered.
        """
        calls = _Calls(self._context)
        for module in sorted(modules, key=lambda each: each.initialized, reverse=True):
            while module.at_exit:
                # A guest registers any number, and a destructor may register another one.
                self._context.check_not_stopped()
                calls.make(self._context.group, module.at_exit.pop())
        calls.finish()

    def run_unowned(self) -> None:
        """Run the destructors whose module is not known: the program exits."""
        calls = _Calls(self._context)
        while self._unowned:
            self._context.check_not_stopped()
            calls.make(self._context.group, self._unowned.pop())
        calls.finish()


class _Calls:
    """Calls that are all made, even if some fail: the first failure is raised at the end.

    ``made``: there was one.
    """

    def __init__(self, context: ThreadLinkState) -> None:
        self._context = context
        self.made = False
        self._failure: BaseException | None = None

    def make(self, group: InstanceGroup, entry: AtExit) -> None:
        self.made = True
        try:
            group.call_slot(entry.slot, *(() if entry.argument is None else (entry.argument,)))
        except Exception as error:
            if self._context.stops(error):
                raise
            self._failure = self._failure or error

    def finish(self) -> None:
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # no cycle through this frame


def _last(exits: list[ThreadExit], only: Collection[LoadedModule] | None) -> int | None:
    """Return the place of the last destructor, or of the last of these modules, or None."""
    return next(
        (
            index
            for index in range(len(exits) - 1, -1, -1)
            if only is None or exits[index].module in only
        ),
        None,
    )
