"""A load as a transaction, and its rollback."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pylinker.errors import LinkError
from pylinker.native.scopes import Scope

if TYPE_CHECKING:
    from typing import Self

    from pylinker.linker.groups.group import InstanceGroup
    from pylinker.linker.groups.keys import Keys
    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.linker.load.destructors import Destructors
    from pylinker.linker.load.room import GuestRoom
    from pylinker.linker.load.unload import Unloader
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.plan import LoadPlan

__all__ = ["Load", "Rollback"]

logger = logging.getLogger("pylinker.linker")


class Load(Scope):
    """A load, from its plan to the end of its constructors: left with an exception, it is undone.

    One thread, which holds the load lock.
    """

    __slots__ = (
        "_nested",
        "_number",
        "_rollback",
        "counted",
        "group",
        "opened",
        "plan",
        "promoted",
    )

    group: InstanceGroup
    """The leader."""
    plan: LoadPlan | None
    """What the load does, or None before it is known."""
    opened: Counter[LoadedModule]
    """The handles that its constructors opened, by module: closed if it or an outer load fails."""
    promoted: list[LoadedModule]
    """The modules that are new in the global scope."""
    counted: LoadedModule | None
    """The module that has one more handle."""

    def __init__(
        self,
        rollback: Rollback,
        nested_opens: dict[int, list[Counter[LoadedModule]]],
        group: InstanceGroup,
    ) -> None:
        self._rollback = rollback
        self._nested = nested_opens
        self._number = group.state.number
        self.group = group
        self.opened = Counter()
        self.plan = None
        self.promoted = []
        self.counted = None

    def enter(self) -> Self:
        """Begin to note the libraries that are opened."""
        self._nested.setdefault(self._number, []).append(self.opened)
        return self

    def leave(self, error: BaseException | None) -> None:
        """Roll the load back if it has failed."""
        if error is not None and self.plan is not None:
            self._rollback.undo(self, self.plan)
        loads = self._nested.get(self._number, [])
        if not any(each is self.opened for each in loads):
            return
        if error is None and len(loads) > 1:
            outer = loads[-2]
            for module in list(self.opened):
                count = self.opened[module]
                outer[module] += count  # and nothing is called up to the `del`
                del self.opened[module]
        del loads[-1]
        if not loads:
            self._nested.pop(self._number, None)  # groups come and go


class Rollback:
    """Rolls loads back that failed. Requires: the load lock."""

    def __init__(
        self,
        context: ThreadLinkState,
        unloader: Unloader,
        destructors: Destructors,
        keys: Keys,
        room: GuestRoom,
    ) -> None:
        self._context = context
        self._state = context.state
        self._unloader = unloader
        self._destructors = destructors
        self._keys = keys
        self._room = room

    def undo(self, load: Load, plan: LoadPlan) -> None:
        """Undo a load that failed, as far as it came."""
        if plan.is_published:
            self._everywhere(load, plan)
        else:
            self._context.undo(lambda: self._here(load, plan))
        if self._state.memory.from_guest:
            with _logged("giving back the room of a failed load"):
                self._room.trim()

    def _here(self, load: Load, plan: LoadPlan) -> None:
        """Undo a load that no other group has seen. Requires: the write lock."""
        if not plan.new:
            promoted = set(load.promoted)
            self._state.global_scope = [
                module for module in self._state.global_scope if module not in promoted
            ]
            if load.counted is not None:
                load.counted.handles -= 1
                load.counted = None
            return
        if plan.is_applied:
            load.group.apply(self._unloader.unloading(plan.new, plan))
        plan.undo()
        if plan.is_applied:
            self._state.remove(plan.new)

    def _everywhere(self, load: Load, plan: LoadPlan) -> None:
        """Undo a load whose constructors failed, with what they opened."""
        modules = self._dependents(plan.new)
        initialized = [module for module in modules if module.initialized]
        with _logged("destructor during the undoing of a failed load"):
            self._destructors.run_thread(initialized)
        with _logged("destructor during the undoing of a failed load"):
            self._destructors.run(initialized)
        with _logged("key of a failed load"):
            self._keys.drop(modules)
        try:
            if not all(module.unloaded for module in plan.new):
                with self._context.exclusive() as change:
                    self._close_opened(load, modules)
                    self._unloader.unload(change, modules, plan)
            self._unloader.collect()
        except LinkError as error:
            logger.warning("undoing a failed load: %s", error)

    def _close_opened(self, load: Load, modules: set[LoadedModule]) -> None:
        """Release what the constructors have opened, and hide ``modules``."""
        demoted = set(load.promoted) - modules
        self._state.global_scope = [
            module for module in self._state.global_scope if module not in demoted
        ]
        for module in modules:
            module.handles, module.permanent = 0, False
        for module in list(load.opened):
            count = 0 if module in modules else load.opened[module]
            module.handles -= count  # and nothing is called up to the `del`
            del load.opened[module]
        self._state.hide(modules)

    def _dependents(self, modules: Iterable[LoadedModule]) -> set[LoadedModule]:
        """Return the modules and all that use them: a constructor may have opened some."""
        found = set(modules)
        while True:
            more = {
                each
                for each in self._state.modules
                if each not in found
                and not each.permanent
                and not found.isdisjoint((*each.needed, *each.bound))
            }
            if not more:
                return found
            found |= more


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log a failure while another one is on its way to the caller."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - functions of the user raise anything
        logger.warning("%s: %s", what, error)
