"""Handles of guests: ``dlsym``, ``dladdr`` and ``dlclose`` by the number of a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pylinker.errors import ClosedError, SymbolNotFoundError
from pylinker.linker.guests.abi import RTLD_DEFAULT, RTLD_NEXT
from pylinker.linker.plan.state import scope_of, scope_of_handle
from pylinker.linker.ranges import Grant, release_all
from pylinker.native.scopes import completed

if TYPE_CHECKING:
    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.linker.load.symbols import Symbols
    from pylinker.linker.load.unload import Unloader
    from pylinker.linker.modules.module import LoadedModule
    from pylinker.linker.modules.scope import SymbolScope
    from pylinker.linker.plan.state import LinkerState
    from pylinker.runtime.memory import Memory

__all__ = ["Handles"]


class Handles:
    """The handles that guests have. The handle of a library is the number of its module.

    Threads: any.
    """

    def __init__(
        self, context: ThreadLinkState, symbols: Symbols, memory: Memory, unloader: Unloader
    ) -> None:
        self._context = context
        self._state = context.state
        self._symbols = symbols
        self._memory = memory
        self._unloader = unloader

    def close(self, handle: int) -> None:
        """Close a handle, as ``dlclose`` does; the program itself stays.

        Raises:
            ClosedError: The handle is not open.
        """
        module = self.by_handle(handle)
        if module is not None and module is not self._state.main:
            self._unloader.dlclose(module)

    def resolve_export(self, handle: int, name: str, caller: LoadedModule | None = None) -> int:
        """Return the address or table slot of a symbol, as ``dlsym`` does for a guest.

        Blocks: for a rendezvous if the symbol is a function that has no slot yet.

        Args:
            handle: The number of a module, RTLD_DEFAULT or RTLD_NEXT.
            name: The symbol.
            caller: The calling module.

        Raises:
            SymbolNotFoundError: The symbol is undefined in the scope, or has no value.
            ClosedError: The handle is not open.
        """
        return self.find_value(handle, name, caller)[0]

    def find_value(
        self, handle: int, name: str, caller: LoadedModule | None = None
    ) -> tuple[int, bool]:
        """Return the value of :meth:`resolve_export`, and whether it may be cached.

        It may be cached for a generation if it is the same for all threads.
        """
        where = caller.name if caller else "program"
        is_global = handle in (RTLD_DEFAULT, self.main_handle)
        after = None
        if handle == RTLD_DEFAULT:
            scope = scope_of(caller)
        elif handle == RTLD_NEXT:
            scope, after = scope_of(caller), caller or self._state.main
        else:
            module = self.by_handle(handle)
            scope = scope_of_handle(module)
            where = module.name if module else where
        return self.find_value_in(scope, name, where, caller, is_global=is_global, after=after)

    def find_value_in(
        self,
        scope: Callable[[LinkerState], SymbolScope],
        name: str,
        where: str,
        caller: LoadedModule | None,
        *,
        is_global: bool,
        after: LoadedModule | None = None,
    ) -> tuple[int, bool]:
        """Return the value of a symbol in a scope, and whether it may be cached.

        Functions that pylinker provides come last.

        Args:
            scope: Returns the scope.
            name: The symbol.
            where: The name of the scope in an error.
            caller: The calling module.
            is_global: Whether functions of the program's user come first.
            after: The module behind which the search begins.
        """
        slot = self._symbols.imported(name) if is_global else None
        if slot is not None:
            return slot, True
        definition = self._symbols.find(name, scope, asks=caller, after=after)
        if definition is None:
            slot = self._symbols.provided(name)
            if slot is None:
                raise SymbolNotFoundError(
                    f"{where}: undefined symbol: {name}", module=where, symbol=name
                )
            return slot, True
        value = self._symbols.value_of(definition)
        if value is None:
            raise SymbolNotFoundError(f"{where}: {name} has no address", module=where, symbol=name)
        return value, not definition.is_thread_local

    def write_symbol_info(self, value: int, address: int) -> int:
        """Write the Dl_info of a function pointer or an address to guest memory at ``address``.

        A number that is both is taken for a function pointer. The strings are in guest memory as
        long as the module is loaded. Blocks: for the linker's lock.

        Returns:
            1, or 0 if the value belongs to no module.

        Raises:
            MemoryAccessError: ``address`` is out of bounds.
            LimitError: There is no memory for the strings.
            LinkError: The caller is a module that is just being loaded.
        """
        self._context.check_not_instantiating()
        self._memory.check(address, 16)
        with self._context.reading():
            words = self._symbol_info(value, known=True)
        if words is None:
            with self._context.exclusive():
                words = self._symbol_info(value, known=False)
        if words:
            self._memory.write(address, b"".join([word.to_bytes(4, "little") for word in words]))
        return 1 if words else 0

    def _symbol_info(self, value: int, *, known: bool) -> tuple[int, ...] | None:
        """Return the four members of a guest's Dl_info, () if the value belongs to no module.

        None if a string is not in guest memory yet, and ``known`` says that only such may be used:
        under the read lock.
        """
        found = self._symbols.locate(value)
        if found is None:
            return ()
        module, name, base, symbol, at = found
        texts, owner = (
            (self._state.texts, self._state.grants)
            if module is None
            else (module.texts, module.grants)
        )
        if known and (name not in texts or (symbol is not None and symbol not in texts)):
            return None
        return (
            self._text(texts, owner, name),
            base,
            0 if symbol is None else self._text(texts, owner, symbol),
            at or 0,
        )

    def _text(self, texts: dict[str, tuple[int, int]], owner: list[Grant], text: str) -> int:
        """Return the address of a C string that stays in guest memory as long as its owner.

        Requires: the write lock.
        """
        known = texts.get(text)
        if known is None:
            data = text.encode("utf-8", "surrogateescape") + b"\0"
            grants: list[Grant] = []
            try:
                known = (
                    self._state.memory.allocate(len(data), 1, grants, module="dladdr", zero=False),
                    len(data),
                )
                self._memory.write(known[0], data)
                texts[text] = known
                owner += grants
            except BaseException:
                completed(release_all, grants if text not in texts else [])
                raise
        return known[0]

    def by_handle(self, handle: int) -> LoadedModule | None:
        """Return the module of a guest's handle; None if a program without a main module is meant.

        Raises:
            ClosedError: The handle is not open.
        """
        if handle == self.main_handle:
            return self._state.main
        module = self._state.by_number(handle)
        if module is None or not (module.handles or module.permanent):
            raise ClosedError(f"handle {handle} is not open")
        return module

    @property
    def main_handle(self) -> int:
        """The handle of the program itself, which ``dlopen(NULL)`` returns."""
        return self._state.main.number if self._state.main else 1
