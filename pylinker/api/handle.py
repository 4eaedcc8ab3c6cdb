"""What a library and its functions have in common: a module in a program, open or not."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pylinker.errors import ClosedError

if TYPE_CHECKING:
    from pylinker.api.program import Program
    from pylinker.linker import Definition, Linker, LoadedModule

__all__ = ["Handle"]


class Handle:
    """One open handle.

    Library and Function point here and not at each other, so that dropping them frees the program
    at once.
    """

    __slots__ = ("dropped", "module", "open", "program", "unloaded")

    def __init__(self, program: Program, module: LoadedModule | None) -> None:
        self.program = program
        self.module = module
        self.open = True
        self.dropped = False  # the linker counts it no more
        self.unloaded = False  # and what only it had kept is gone

    @property
    def name(self) -> str:
        """The library's name; for the program as a whole, its own."""
        return self.module.name if self.module else self.program.name

    def entered(self) -> AbstractContextManager[Linker]:
        """Take the program for an operation of the calling thread.

        ClosedError if the handle or the program is closed, LinkError in the middle of another
        operation.
        """
        self.check()
        return self.program._entered()

    def entered_for_call(self) -> AbstractContextManager[Linker]:
        """Do the same for a call of a function, which a signal handler may make at any time."""
        self.check()
        return self.program._entered(operates=False)

    def check(self) -> None:
        """Raise ClosedError if the handle is closed, or the library gone."""
        if not self.open:
            raise ClosedError(f"library {self.name} is closed", module=self.name)
        if not self.is_loaded:
            raise ClosedError(f"library {self.name} was closed by the guest", module=self.name)

    @property
    def is_loaded(self) -> bool:
        """Whether the module is still there: a guest may close a handle that Python holds, too.

        True if the program is closed.
        """
        return self.module is None or self.program._knows(self.module)

    def slot_of(self, definition: Definition) -> int:
        """Return the table slot of a function."""
        with self.entered() as linker:
            slot = linker.symbols.value_of(definition)
            assert slot is not None
            return slot
