"""WASIX's calls of the linker: libraries, symbols and handles.

Handle 1 is the main module, others are the numbers of their modules, 0 in ``dlsym`` is the default scope. A text that says what went
wrong is cut to the guest's buffer and always terminated. Nothing a guest passes is trusted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pylinker.errors import ClosedError, LinkError, MemoryAccessError
from pylinker.linker.dlfcn import RTLD_GLOBAL, RTLD_NODELETE, RTLD_NOLOAD, guest_message
from pylinker.linker.hostcalls import HostFunctions, u32
from pylinker.linker.symbols import reachable
from pylinker.linker.wasix import Errno
from pylinker.native.objects import u32s
from pylinker.runtime.failures import STOPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylinker.linker.linker import Linker
    from pylinker.linker.module import LoadedModule
    from pylinker.native.objects import Values

__all__ = ["WasixLibraries"]

logger = logging.getLogger("pylinker.wasix")

_MODES = RTLD_GLOBAL | RTLD_NODELETE | RTLD_NOLOAD
"""The flags of ``dlopen`` that mean something; WASIX refuses none."""


class WasixLibraries(HostFunctions):
    """Makes the functions behind imports of ``dlopen``, ``dlsym``, ``dl_invalid_handle`` and ``dlclose``."""

    def _wasix_dlopen(self, caller: LoadedModule, raw: Values) -> None:
        path, length, flags, *text, search, search_length, out = u32s(raw, 8)

        def act(linker: Linker) -> int:
            if path == 0:
                return linker.main_handle
            name = _string(linker, path, length)
            directories = _string(linker, search, search_length).split(":")
            return linker.load_module(name, flags & _MODES, requester=caller, search=directories).number

        raw[0].i32 = self._answer(act, out, *text)

    def _wasix_dlsym(self, caller: LoadedModule, raw: Values) -> None:
        handle = raw[0].i32
        _, name, length, *text, out = u32s(raw, 6)

        def act(linker: Linker) -> int:
            symbol = _string(linker, name, length)
            changes = linker.context.shared.changes  # before anything is looked at
            main = linker.main
            if u32(handle) == linker.main_handle and main is not None:  # the module, and not the program as a whole
                value, lasting = linker.find_value_in(reachable(main), symbol, main.name, caller, is_global=True)
            else:
                value, lasting = linker.find_value(u32(handle), symbol, caller)
            if lasting:
                # The next time the core answers, without coming here.
                linker.group.native.remember(changes, caller.host_handles["wasix.dlsym"], handle, symbol.encode(), value)
            return value

        raw[0].i32 = self._answer(act, out, *text)

    def _wasix_dl_invalid_handle(self, caller: LoadedModule, raw: Values) -> None:
        linker = self.linker
        handle = raw[0].i32
        changes = linker.context.shared.changes
        try:
            module = linker.by_handle(u32(handle))
        except ClosedError:
            module = None
        answer = Errno.NOEXEC if module is None or module is linker.main else Errno.SUCCESS
        linker.group.native.remember(changes, caller.host_handles["wasix.dl_invalid_handle"], handle, b"", answer)
        raw[0].i32 = answer

    def _wasix_dlclose(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        handle, *text = u32s(raw, 3)

        def act(linker: Linker) -> int:
            linker.dlclose_handle(handle)
            return 0

        raw[0].i32 = self._answer(act, None, *text)

    def _answer(self, act: Callable[[Linker], int], out: int | None, text: int, capacity: int) -> int:
        """Do what the guest asks for; put the result at ``out``, or say what went wrong in the buffer ``text``. Returns an error number."""
        linker = self.linker
        memory = linker.memory
        try:
            try:
                value = act(linker)
            except STOPS:
                raise  # the program is over, or this call of it
            except MemoryAccessError:
                return Errno.MEMVIOLATION
            except UnicodeDecodeError:
                return Errno.INVAL
            except LinkError as error:
                logger.debug("%s", error)
                if capacity:
                    encoded = guest_message(error, capacity - 1).encode("utf-8", "replace").replace(b"\0", b"?") + b"\0"
                    memory.check(text, capacity)
                    memory.write(text, encoded)
                return Errno.UNKNOWN
            if out is not None:
                memory.write(out, value.to_bytes(4, "little"))
        except MemoryAccessError:
            return Errno.MEMVIOLATION
        return Errno.SUCCESS


def _string(linker: Linker, address: int, length: int) -> str:
    """Read a name. Raises MemoryAccessError, UnicodeDecodeError; one beyond the limit is none that anything has."""
    limit = linker.state.limits.path_length + 1
    if length > limit:
        linker.memory.check(address, length)
        length = limit
    return linker.memory.read(address, length).decode()
