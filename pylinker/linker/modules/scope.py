"""Scopes, and the lookup of a name in one, which the C core makes (``csrc/lookup.h``).

A load, ``dlsym`` of the host and of guests, the first call through a trampoline, destructors, keys,
the debug output and ``pylinker check`` all use this lookup, and get a :class:`Definition`.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pylinker.linker.modules.module import Definition
from pylinker.native.symbols import LoadedScope, ScopeEntries

if TYPE_CHECKING:
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.native.recursive import RecursiveMutex
    from pylinker.native.shared import Shared
    from pylinker.native.symbols import Found, Resolved

__all__ = ["LoadScope", "ScopeSnapshot", "SymbolScope", "reachable"]

_MAIN = ("main", "__main_argc_argv", "__main_void", "__original_main")
"""The names that ``main`` has in WebAssembly, by its parameters."""


class SymbolScope:
    """Modules in the order in which a name is looked up in them.

    They are loaded, and the scope does not change: any thread may look names up.
    """

    __slots__ = ("_entries", "modules", "packed")

    modules: Sequence[LoadedModule]
    """The modules, in order."""
    packed: bytes
    """The same as ``pl_scope_entry`` records."""

    def __init__(self, modules: Sequence[LoadedModule], packed: bytes | None = None) -> None:
        self.modules = modules
        self.packed = (
            b"".join([module.scope_entry for module in modules]) if packed is None else packed
        )
        self._entries = ScopeEntries(bytearray(self.packed))

    def find(
        self, name: str, *, asks: LoadedModule | None = None, after: LoadedModule | None = None
    ) -> Definition | None:
        """Return the first definition of a name, weak or strong, or None.

        Args:
            name: The symbol.
            asks: The calling module: a library's destructors are registered by the linker.
            after: The module behind which the search begins; None is returned if it is not in the
                scope.
        """
        if asks is not None and asks.leaves_to_linker(name):
            return None
        start = 0
        if after is not None:
            if after not in self.modules:
                return None
            start = self.modules.index(after) + 1
        found = self._entries.find(name, start)
        return (
            None if found is None else Definition(self.modules[start + found.number], name, found)
        )

    def at_slot(self, slot: int) -> Definition | None:
        """Return the definition of the exported function in a table slot, or None."""
        found = self._entries.at_slot(slot) if 0 <= slot < 1 << 32 else None
        return None if found is None else self._named(found)

    def at_address(self, address: int) -> tuple[LoadedModule, Definition | None] | None:
        """Return the module whose data is at an address, and its data symbol nearest below."""
        for number, module in enumerate(self.modules):
            if module.memory_base <= address < module.memory_base + module.memory_size:
                found = self._entries.at_address(address, number)
                return module, None if found is None else self._named(found)
        return None

    def _named(self, found: Found) -> Definition:
        module = self.modules[found.number]
        return Definition(module, module.outline.names[found.position], found)

    def find_main(self, *, after: LoadedModule | None = None) -> Definition | None:
        """Return the first definition of ``main``, under any of its names."""
        found = [
            definition for name in _MAIN if (definition := self.find(name, after=after)) is not None
        ]
        return min(found, key=lambda each: self.modules.index(each.module), default=None)


class ScopeSnapshot:
    """A scope as of one generation, in which a name is looked up without a lock held before.

    One call into C takes the main lock and the read lock, compares the generation, looks the name
    up and releases both. Threads: any. Blocks: never.
    """

    generation: int
    """The generation whose modules it lists."""

    __slots__ = ("_modules", "_native", "generation")

    def __init__(
        self,
        modules: Sequence[LoadedModule],
        shared: Shared,
        main_lock: RecursiveMutex,
        generation: int,
    ) -> None:
        packed = bytearray(b"".join([module.scope_entry for module in modules]))
        self.generation = generation
        self._modules = modules
        self._native = LoadedScope(shared, main_lock, ScopeEntries(packed), generation)

    def find(self, name: str) -> Definition | None:
        """Return the first definition of a name, or None.

        None: undefined, a stale snapshot, a cancelled linker, or the lookup would have to wait.
        """
        found = self._native.find(name)
        return None if found is None else Definition(self._modules[found.number], name, found)


class LoadScope:
    """The scope of a load: functions of the program's user, the global scope, the load's modules.

    The core finds a name of the user first, and leaves the import to the caller.
    """

    __slots__ = ("_entries", "_given", "_modules", "_numbers")

    def __init__(
        self,
        given: bytes,
        global_scope: SymbolScope,
        known: set[LoadedModule],
        reached: Iterable[LoadedModule],
    ) -> None:
        local = [module for module in reached if module not in known]
        self._given = 1 if given else 0
        self._modules: list[LoadedModule | None] = [
            *([None] if given else []),
            *global_scope.modules,
            *local,
        ]
        self._entries = ScopeEntries(
            bytearray(
                b"".join((given, global_scope.packed, *[module.scope_entry for module in local]))
            )
        )
        self._numbers: dict[LoadedModule, int] | None = None

    def addresses(self) -> array[int]:
        """Return the addresses of the ``pl_library`` of all modules, by number.

        All of them have their records by now.
        """
        return array("Q", [0 if module is None else module.address for module in self._modules])

    def become_ready(self, module: LoadedModule) -> None:
        """Let modules that come later import from this one directly."""
        if self._numbers is None:
            self._numbers = {
                each: number for number, each in enumerate(self._modules) if each is not None
            }
        number = self._numbers.get(module)
        if number is not None:
            self._entries.set(number, module.scope_entry)

    def resolve(self, module: LoadedModule) -> tuple[Resolved, Sequence[LoadedModule | None]]:
        """Decide the imports that name and type alone decide.

        Returns:
            The decisions, and the modules by the numbers in them.
        """
        resolved = module.outline.native.resolve(
            self._entries, module.memory_base, module.table_base
        )
        modules = self._modules
        for number in resolved.used:
            used = modules[number]
            if used is not None and used is not module:
                module.bound.add(used)
        return resolved, modules

    def has(self, resolved: Resolved, index: int) -> bool:
        """Whether import ``index`` was found, in a module or among the functions of the user."""
        return resolved.number(index) < len(self._modules)

    def definition(self, resolved: Resolved, index: int, name: str) -> Definition | None:
        """Return the definition that import ``index`` was found to be in a module, or None."""
        if resolved.number(index) >= len(self._modules):
            return None
        found = resolved.found(index)
        if found.number < self._given:  # the user has a function of this name, too
            behind = self._entries.find(name, self._given)
            if behind is None:
                return None
            found = behind._replace(number=behind.number + self._given)
        module = self._modules[found.number]
        return None if module is None else Definition(module, name, found)


def reachable(*roots: LoadedModule, bound: bool = False) -> list[LoadedModule]:
    """Return the modules and all they need, breadth-first, each once.

    With ``bound``, also all they are bound to.
    """
    found = dict.fromkeys(roots)
    queue = deque(found)
    while queue:
        module = queue.popleft()
        for each in (*module.needed, *(module.bound if bound else ())):
            if each not in found:
                found[each] = None
                queue.append(each)
    return list(found)
