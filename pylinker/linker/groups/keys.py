"""Keys of thread-specific data whose destructors are functions of libraries.

The keys are those of ``pthread_key_create`` and ``tss_create``. The C library calls such a
destructor when a thread exits, also after the library was closed. So the linker forwards the calls
with which libraries create and delete keys: as long as a key exists, the library of its destructor
stays in memory, hidden from all lookups. Calls of the main module are not forwarded; it is never
unloaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from pylinker.errors import UndefinedSymbol, UndefinedSymbolError
from pylinker.linker.guests.table import watched

if TYPE_CHECKING:
    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.linker.modules.module import LoadedModule

__all__ = ["Keys"]

FULL: Final = {"pthread_key_create": 6, "tss_create": 2}
"""The error results: ``EAGAIN`` of WASI, ``thrd_error`` of musl."""


class Keys:
    """The keys of one program.

    Threads: safe to use from all threads of the program.

    Blocks: for the read lock only.

    Args:
        context: The locks and the state of the linker.
        has_room: Counts one more key with a destructor; False if there are too many.
    """

    def __init__(self, context: ThreadLinkState, has_room: Callable[[], bool]) -> None:
        self._context = context
        self._has_room = has_room

    def create(self, caller: LoadedModule, name: str, address: int, destructor: int) -> int:
        """Call the guest's function, and record the owner of the destructor of the key.

        Without room for one more, the guest's function is not called, and the result is its error.
        Also raises the errors of the guest's function.

        Raises:
            UndefinedSymbolError: There is no such function.
        """
        if destructor and not self._has_room():
            return FULL[name]
        result = self._call(caller, name, address, destructor)
        data = self._context.group.native.read(address, 4)
        if result == 0 and data is not None:
            key = int.from_bytes(data, "little")
            with self._context.reading():
                modules = self._context.state.modules
                for module in modules:
                    module.keys.discard(
                        key
                    )  # the main module has deleted it, which is not forwarded
                owner = next(
                    (module for module in modules if module.function_at(destructor) is not None),
                    None,
                )
                if destructor and owner is not None:
                    owner.keys.add(key)
        return result

    def delete(self, caller: LoadedModule, name: str, key: int) -> tuple[int, bool]:
        """Call the guest's function.

        Returns:
            Its result, and whether a closed library may be unloaded now.
        """
        result = self._call(caller, name, key)
        freed = False
        with self._context.reading():
            for module in self._context.state.modules:
                if key in module.keys:
                    module.keys.discard(key)
                    freed |= module.lingering and not module.keys
        return result, freed

    def drop(self, modules: Iterable[LoadedModule]) -> None:
        """Delete the keys of modules whose load has failed."""
        for module in modules:
            while module.keys:
                key = module.keys.pop()
                for name in ("pthread_key_delete", "tss_delete"):
                    with contextlib.suppress(UndefinedSymbolError):
                        self._call(module, name, key)
                        break

    def _call(self, caller: LoadedModule, name: str, *arguments: int) -> int:
        context = self._context
        group = context.check_not_instantiating()
        with context.reading():
            definition = context.state.scope_of(caller).find(name)
        if (
            definition is None
            or definition.type != watched(name)
            or not group.has(definition.module)
        ):
            raise UndefinedSymbolError(
                [UndefinedSymbol(caller.name, name, "function")], note="it was called"
            )
        return group.call(group.defined(definition), *arguments)
