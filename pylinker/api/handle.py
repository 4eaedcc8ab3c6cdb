"""An open handle: a module in a session, for the Library and its functions."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pylinker.errors import ClosedError
from pylinker.native.enums import SymbolKind

if TYPE_CHECKING:
    from pylinker.api.session import Session
    from pylinker.linker import Definition, Linker, LoadedModule, ScopeSnapshot

__all__ = ["Handle"]

_ADDRESSES = (SymbolKind.FUNCTION, SymbolKind.DATA)
"""The kinds of symbols that have one value for all threads."""


class Handle:
    """One open handle.

    Library and Function refer to it and not to each other, so that dropping them frees the program
    at once.
    """

    __slots__ = ("_snapshot", "dropped", "module", "open", "session", "unloaded")

    session: Session
    """The session of the program."""
    module: LoadedModule | None
    """The library, or None for the program as a whole."""
    open: bool
    """Whether it was not closed yet."""
    dropped: bool
    """Whether the linker has released it."""
    unloaded: bool
    """Whether closing it is complete: the modules that only it kept are unloaded."""

    def __init__(self, session: Session, module: LoadedModule | None) -> None:
        self.session = session
        self.module = module
        self.open = True
        self.dropped = False
        self.unloaded = False
        self._snapshot: ScopeSnapshot | None = None

    @property
    def name(self) -> str:
        """The library's name; for the program as a whole, its own."""
        return self.module.name if self.module else self.session.name

    def entered(self) -> AbstractContextManager[Linker]:
        """Enter the program for an operation of the calling thread.

        Raises:
            ClosedError: The handle or the program is closed.
            LinkError: The thread is in the middle of another operation.
        """
        self.check()
        return self.session.entered()

    def entered_for_call(self) -> AbstractContextManager[Linker]:
        """Enter the program for a call of a function, which a signal handler may make any time."""
        self.check()
        return self.session.entered(operates=False)

    def check(self) -> None:
        """Raise ClosedError if the handle is closed, or the library unloaded."""
        if not self.open:
            raise ClosedError(f"library {self.name} is closed", module=self.name)
        if not self.is_loaded:
            raise ClosedError(f"library {self.name} was closed by the guest", module=self.name)

    @property
    def is_loaded(self) -> bool:
        """Whether the module is still loaded: a guest may close a handle that Python holds, too.

        True if the program is closed.
        """
        linker = self.session.linker
        return self.module is None or linker is None or self.module in linker.state.known

    def find(self, name: str) -> Definition | None:
        """Return the definition of a name in the scope of the handle, or None.

        Blocks: for the main lock and the read lock, unless both are free.

        Raises:
            ClosedError: The handle or the program is closed, or the guest has closed the library.
            LinkError: The name is not found at once, in the middle of an operation of the thread.
        """
        definition = self._find_now(name)
        if definition is None:
            with self.entered() as linker:
                definition = linker.symbols.find_of(self.module, name)
        return definition

    def address(self, name: str) -> int | None:
        """Return the value of a symbol that has one for all threads, or None.

        None also if that needs a lookup that may block.
        """
        definition = self._find_now(name)
        if definition is None or definition.kind not in _ADDRESSES:
            return None
        return definition.value

    def _find_now(self, name: str) -> Definition | None:
        linker = self.session.linker
        if linker is None or not self.open:
            return None
        module = self.module
        is_whole = module is None or module.is_main
        snapshot = linker.state.global_snapshot if is_whole else self._snapshot
        definition = None if snapshot is None else snapshot.find(name)
        if snapshot is None or (definition is None and linker.symbols.is_stale(snapshot)):
            snapshot = linker.symbols.snapshot_of(module)
            if is_whole:  # the next change of the scope drops it, with the modules that it keeps
                linker.state.global_snapshot = snapshot
            else:
                self._snapshot = snapshot
            definition = snapshot.find(name)
        return definition

    def drop_snapshot(self) -> None:
        """Drop the modules that a closed handle keeps for its lookups."""
        self._snapshot = None

    def slot_of(self, definition: Definition) -> int:
        """Return the table slot of a function. Blocks: for a rendezvous if it has none yet."""
        with self.entered() as linker:
            slot = linker.symbols.value_of(definition)
            assert slot is not None
            return slot
