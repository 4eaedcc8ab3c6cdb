"""A library in a program of its own, as ``ctypes.CDLL`` opens a native one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pylinker.api.library import Library
from pylinker.api.options import ModuleSource, Options, as_module, as_modules, shows_options
from pylinker.api.program import Program
from pylinker.linker import ModuleBytes

if TYPE_CHECKING:
    from typing import Unpack

__all__ = ["CDLL"]


class CDLL(Library):
    """A library in a program of its own, without a main module, as ``ctypes.CDLL`` opens one.

    ``name`` is a ``str`` (with a slash a path, else it is searched for in ``library_path``), a path
    object, or the bytes of a module. Takes the keywords of :class:`Program`, which is ``.program``;
    libraries in ``preload`` come first in the scope. Closing it runs the libraries' destructors and
    closes the program.
    """

    @shows_options
    def __init__(self, name: ModuleSource | ModuleBytes, **options: Unpack[Options]) -> None:
        source = as_module(name, "name")
        options["preload"] = [*as_modules(options.get("preload", ()), "preload"), source]
        program = Program(
            None,
            name=os.path.basename(source) if isinstance(source, str) else source.name,
            **options,
        )
        with program._session.entered() as linker:
            module = linker.load_module(source, trusted=True)
        super().__init__(program._session, module)
        self._program = program

    @property
    def program(self) -> Program:
        """The program around the library."""
        return self._program

    def close(self) -> None:
        """Run the destructors of all libraries and close the program. A second time does nothing.

        A call of the guest that another thread is making stops before that, as
        :meth:`Program.close` stops it. Waits for the destructors, which are code of the guest and
        may run for ever: ``with lib.program.time_limit(2):`` around it bounds them. Then, and if
        one raises, the program is closed all the same, and that error is raised.
        """
        if self._handle.open and not self._handle.session.is_gone:
            with self._handle.session.taken_over() as linker:
                try:
                    if (
                        linker is not None and not linker.context.shared.cause
                    ):  # else it has ended: as one that was killed
                        linker.unloader.finalize_all()
                finally:
                    self._program.close()
        super().close()
