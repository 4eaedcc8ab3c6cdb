"""Closing: ``dlclose``, and the unloading of modules that are not reachable any more.

A module is reachable from open handles, from permanent modules and from bindings. One that is not
is hidden from lookups, then finalized (its destructors run), then unloaded in all groups.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from pylinker.errors import ClosedError, RendezvousTimeout
from pylinker.linker.debug.log import LIBS
from pylinker.linker.modules.scope import reachable
from pylinker.linker.plan.operation import UnloadModule
from pylinker.native.scopes import Scope

if TYPE_CHECKING:
    from typing import Self

    from pylinker.linker.debug.trace import Untraced
    from pylinker.linker.groups.keys import Keys
    from pylinker.linker.groups.link_state import LinkTransaction, ThreadLinkState
    from pylinker.linker.load.destructors import Destructors
    from pylinker.linker.load.room import GuestRoom
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.plan.plan import LoadPlan

__all__ = ["Holder", "Unloader"]

logger = logging.getLogger("pylinker.linker")


class Holder(Protocol):
    """The owner of a handle."""

    dropped: bool
    """Set when the linker has released the handle."""


class Unloader:
    """Closes and unloads the modules of a program.

    Threads: any. Blocks: for the load lock, for a rendezvous, and while destructors of the guest
    run.
    """

    nested_opens: dict[int, list[Counter[LoadedModule]]]
    """By group: how often the constructors of each load under way have opened what."""

    def __init__(
        self,
        context: ThreadLinkState,
        destructors: Destructors,
        keys: Keys,
        room: GuestRoom,
        tracer: Untraced,
    ) -> None:
        self._context = context
        self._state = context.state
        self._destructors = destructors
        self._keys = keys
        self._room = room
        self._tracer = tracer
        self.nested_opens = {}

    def dlclose(self, module: LoadedModule, holder: Holder | None = None) -> None:
        """Release one handle; the last one finalizes and unloads the unreachable modules.

        Args:
            module: The library.
            holder: The owner of the handle. If the call is interrupted after the release,
                :meth:`collect` completes it.

        Raises:
            ClosedError: The module has no open handle.
            Trap: A destructor trapped; the modules are unloaded all the same.
        """
        context = self._context
        with self._tracer.span("dlclose", library=module), context.loading():
            with _Unreachable() as unreachable:
                with context.exclusive():
                    if module.handles < 1:
                        raise ClosedError(f"{module.name} is not open", module=module.name)
                    opened = self._nested_open_of(module)
                    # Nothing is called from here on, up to the condition.
                    module.handles -= 1
                    if holder is not None:
                        holder.dropped = True
                    if opened is not None:
                        opened[module] -= 1
                        if not opened[module]:
                            del opened[module]  # or it would keep every module that came and went
                    if not module.handles:
                        self._mark(unreachable)
                again = bool(unreachable.modules) and (
                    self._finalize(unreachable.modules) or self._room.is_used
                )
            if again:
                self.collect()

    def _nested_open_of(self, module: LoadedModule) -> Counter[LoadedModule] | None:
        """Return the newest load of the calling group whose constructors have opened a module."""
        loads = self.nested_opens.get(self._context.group.state.number, [])
        return next((each for each in reversed(loads) if each[module] > 0), None)

    def collect(self) -> None:
        """Unload the modules that no handle, permanent module or binding leads to."""
        context = self._context
        with context.loading():
            while True:
                context.check_not_stopped()  # a destructor may open and close others for ever
                with _Unreachable() as unreachable:
                    with context.exclusive():
                        self._mark(unreachable)
                    again = bool(unreachable.modules) and self._finalize(unreachable.modules)
                if not self._room.trim() and not again:
                    break

    def _mark(self, unreachable: _Unreachable) -> None:
        """Note the modules that are unreachable, and hide them from lookups.

        Requires: the write lock. A module that is being finalized still needs all it leads to.
        """
        kept, in_heap = self._destructors.kept(), self._room.keeps
        roots = [
            module
            for module in self._state.modules
            if module.handles
            or module.permanent
            or module.closing
            or module in kept
            or in_heap(module)
        ]
        found = set(reachable(*roots, bound=True))
        unreachable.modules = {module for module in self._state.modules if module not in found}
        # A destructor that opens one of them again must get a fresh copy.
        self._state.hide(unreachable.modules)
        for module in unreachable.modules:
            module.closing = True

    def _finalize(self, modules: set[LoadedModule]) -> bool:
        """Run the destructors of unreachable modules and unload them.

        Modules that cannot be unloaded now wait for the next collection.

        Returns:
            Whether a destructor may have closed another module.
        """
        again = any(module.at_exit for module in modules)
        try:
            self._destructors.run(modules)
        finally:
            try:
                with self._context.exclusive() as change:
                    # The destructors of keys run when their threads exit: until then what they
                    # need stays, hidden as the rest.
                    kept = modules.intersection(
                        reachable(*[module for module in modules if module.keys], bound=True)
                    )
                    self.unload(change, modules - kept)
                    for module in kept:
                        module.lingering = True
            except RendezvousTimeout as error:
                again = False
                names = ", ".join(module.name for module in modules)
                logger.warning("closing %s: %s", names, error)
        return again

    def delete_key(self, caller: LoadedModule, name: str, key: int) -> int:
        """Call the C library's function that deletes a key, and unload what only the key has kept.

        Returns:
            The result of that function.
        """
        result, freed = self._keys.delete(caller, name, key)
        if freed:
            with self._context.exclusive():
                for module in self._state.modules:
                    if module.lingering:
                        module.lingering = module.closing = False
            self.collect()
        return result

    def end_thread(self) -> None:
        """Run the destructors of the calling thread, and unload what only they have kept."""
        modules = {each.module for each in self._context.group.thread_exits}
        try:
            self._destructors.run_thread()
        finally:
            if any(
                module is not None and not module.handles and not module.permanent
                for module in modules
            ):
                self.collect()

    def finalize_all(self) -> None:
        """Run all destructors that are left, the calling thread's first: the program exits."""
        try:
            self._destructors.run_thread()
        finally:
            try:
                self._destructors.run(list(self._state.modules))
            finally:
                self._destructors.run_unowned()

    def unloading(
        self, modules: Iterable[LoadedModule], plan: LoadPlan | None = None
    ) -> UnloadModule:
        """Return the operation that unloads modules from a group.

        It empties their slots and unbinds the PLT entries of others that lead to them. With
        ``plan``, a load is rolled back: slots that it gave to functions of other modules are
        emptied, too.
        """
        modules = tuple(modules)
        unloaded = set(modules)
        slots = [
            slots
            for module in modules
            for slots in (
                (module.table_base, module.table_size),
                (module.slot_base, module.slot_count),
                *((slot, 1) for slot in module.slots.values()),
            )
            if slots[1]
        ]
        unbind = [
            (module, index)
            for module in self._state.modules
            if module not in unloaded and not unloaded.isdisjoint(module.bound)
            for index, entry in enumerate(module.plt)
            if entry.definition is not None and entry.definition.module in unloaded
        ]
        if plan is not None:
            slots += [(slot, 1) for slot in plan.allocated_slots]
        return UnloadModule(modules, tuple(slots), tuple(unbind))

    def unload(
        self, change: LinkTransaction, modules: set[LoadedModule], plan: LoadPlan | None = None
    ) -> None:
        """Unload modules in all groups and free what they held.

        Raises:
            RendezvousTimeout: They stay loaded, hidden, until the next collection.
        """
        operation = self.unloading(modules, plan)
        LIBS.debug("%r", operation)

        def commit() -> None:
            self._context.group.apply(operation)
            if plan is not None:
                plan.undo()
            self._state.remove(modules)
            for module, index in operation.unbind:
                module.plt[index].definition = None
                module.native.miss(index)
            for module in self._state.modules:
                module.bound -= modules

        change.publish(operation, commit)


class _Unreachable(Scope):
    """Modules that are being finalized; those that remain wait for the next collection."""

    __slots__ = ("modules",)

    def __init__(self) -> None:
        self.modules: set[LoadedModule] = set()

    def enter(self) -> Self:
        """Begin with none."""
        return self

    def leave(self, _error: BaseException | None) -> None:
        """Leave the rest to the next collection."""
        for module in self.modules:
            module.closing = module.lingering
