"""Destructors of libraries."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pylinker.linker.dlfcn import PROVIDED
from pylinker.runtime.failures import STOPS

if TYPE_CHECKING:
    from pylinker.linker.closures import Closures
    from pylinker.linker.context import LinkContext
    from pylinker.linker.module import AtExit, LoadedModule

__all__ = ["Destructors"]

logger = logging.getLogger("pylinker.linker")


class Destructors:
    """What modules have registered with ``__cxa_atexit`` and ``atexit``. ``hook`` is the handle of the host function that runs it all."""

    def __init__(self, context: LinkContext, closures: Closures, hook: int) -> None:
        self._context = context
        self._closures = closures
        self._hook = hook
        self._hook_made = False
        self._numbers = itertools.count(1)  # of registrations
        self._counted = context.state.limits.destructors  # up to this number of registrations they need not be counted
        self._told = False

    def register(self, module: LoadedModule, entry: AtExit) -> bool:
        """Remember a destructor of a module, to be run when it is unloaded or the program exits. False: there are too many."""
        number = next(self._numbers)
        if number > self._counted and not self._is_room(number):
            return False
        module.at_exit.append(entry)
        if not self._hook_made:
            self._hook_made = True
            self._make_hook()
        return True

    def _is_room(self, number: int) -> bool:
        """Count the destructors that are left, when registration ``number`` comes: whether there may be one more."""
        limit = self._context.state.limits.destructors
        room = limit - sum(len(module.at_exit) for module in self._context.state.modules)
        if room > 0:
            self._counted = number + room - 1
            return True
        if not self._told:
            self._told = True
            logger.warning("the limit of %d destructors is reached", limit)
        return False

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

        All of them run; the first failure is raised at the end. (A guest may call Python functions, which raise what they like.) If the
        guest is to stop, those that are left stay registered.
        """
        failure: BaseException | None = None
        for module in sorted(modules, key=lambda each: each.initialized, reverse=True):
            while module.at_exit:
                self._context.check_going_on()  # a guest registers as many as it likes, and a destructor another one
                slot, argument = module.at_exit.pop()
                try:
                    self._context.group.call_slot(slot, *(() if argument is None else (argument,)))
                except STOPS:
                    raise
                except Exception as error:  # noqa: BLE001 - raised below
                    failure = failure or error
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # no cycle through this frame
