"""What the linker provides to guests: the functions of ``<dlfcn.h>``, and the registration of destructors.

Each module that imports one of them gets a function of its own, since the answer depends on who asks: ``RTLD_NEXT``, the runtime
path, and whose destructor it is. Nothing a guest passes is trusted: pointers are checked, names are limited.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pylinker.errors import LinkError, MemoryAccessError, SymbolNotFoundError
from pylinker.linker.hostcalls import HostFunctions, i32, u32
from pylinker.linker.module import AtExit
from pylinker.runtime.failures import STOPS
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylinker._native import Values
    from pylinker.linker.module import LoadedModule

__all__ = [
    "PROVIDED",
    "RTLD_DEFAULT",
    "RTLD_GLOBAL",
    "RTLD_LAZY",
    "RTLD_LOCAL",
    "RTLD_NEXT",
    "RTLD_NODELETE",
    "RTLD_NOLOAD",
    "RTLD_NOW",
    "SAFEPOINT",
    "THREAD_SPAWN",
    "GuestCalls",
]

logger = logging.getLogger("pylinker.dlfcn")

# The values of wasi-libc's <dlfcn.h>, which are musl's but for RTLD_LOCAL: 0 there. Local is what is not global.
RTLD_LAZY: Final = 1
RTLD_NOW: Final = 2
RTLD_NOLOAD: Final = 4
RTLD_LOCAL: Final = 8
RTLD_GLOBAL: Final = 256
RTLD_NODELETE: Final = 4096
RTLD_DEFAULT: Final = 0
RTLD_NEXT: Final = -1

MODES: Final = RTLD_LAZY | RTLD_NOW | RTLD_NOLOAD | RTLD_LOCAL | RTLD_GLOBAL | RTLD_NODELETE

_I, _II, _III = ("i32",), ("i32", "i32"), ("i32", "i32", "i32")

PROVIDED: Mapping[str, FuncType] = {
    "dlopen": FuncType(_II, _I),
    "dlsym": FuncType(_II, _I),
    "dlclose": FuncType(_I, _I),
    "dlerror": FuncType((), _I),
    "__cxa_atexit": FuncType(_III, _I),
    "atexit": FuncType(_I, _I),
}
"""What is provided under ``env``, by name, with the types of the C declarations."""

THREAD_SPAWN = FuncType(_I, _I)
"""``wasi.thread-spawn`` of wasi-threads: takes the argument of the new thread's ``wasi_thread_start``, gives its number or -1."""

SAFEPOINT = FuncType((), ())
"""``pylinker.safepoint``: a place where others may open libraries, for a guest that makes no other call."""

DL_ERROR_CAPACITY: Final = 1024
"""Bytes of the buffer that ``dlerror`` answers with; each thread has one."""


class GuestCalls(HostFunctions):
    """Makes the functions behind imports of ``env`` and ``wasi``, and those that trampolines call."""

    def _resolve(self, caller: LoadedModule, raw: Values) -> None:
        self.linker.symbols.resolve_trampoline(*caller.plt_user(u32(raw[0].i32)))

    def _dlopen(self, caller: LoadedModule, raw: Values) -> None:
        name, mode = u32(raw[0].i32), u32(raw[1].i32)

        def act() -> int:
            linker = self.linker
            if name == 0:
                return linker.main_handle
            path = linker.memory.cstring(name, linker.state.limits.path_length + 1).decode("utf-8", "surrogateescape")
            return linker.load_module(path, mode, requester=caller).number

        raw[0].i32 = self._guarded(act)

    def _dlsym(self, caller: LoadedModule, raw: Values) -> None:
        handle, name = raw[0].i32, u32(raw[1].i32)

        def act() -> int:
            linker = self.linker
            symbol = linker.memory.cstring(name, linker.state.limits.path_length + 1)
            known = handle if handle in (RTLD_DEFAULT, RTLD_NEXT) else u32(handle)
            changes = linker.context.shared.changes  # before anything is looked at
            definition, where = linker.find_export(known, symbol.decode("utf-8", "surrogateescape"), caller)
            value = linker.symbols.value_of(definition)
            if value is None:
                raise SymbolNotFoundError(f"{where}: {definition.export.name} has no address", module=where, symbol=definition.export.name)
            if not definition.is_thread_local:
                # The next time the core answers, without coming here.
                linker.group.native.remember(changes, caller.host_handles["dlsym"], handle, symbol, value)
            return value

        raw[0].i32 = i32(self._guarded(act))

    def _dlclose(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        handle = u32(raw[0].i32)

        def act() -> int:
            self.linker.dlclose_handle(handle)
            return 0

        raw[0].i32 = self._guarded(act, failure=-1)

    def _dlerror(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        linker = self.linker
        group = linker.group
        text, group.dl_error = group.dl_error, None
        if text is None:
            raw[0].i32 = 0
            return
        if not group.dl_error_address:
            with linker.context.exclusive():
                group.dl_error_address = linker.state.memory.allocate(DL_ERROR_CAPACITY, 1, module="dlerror")
        # The first line only: the rest lists paths of the host, which are none of the guest's business.
        encoded = text.split("\n", 1)[0].encode("utf-8", "replace")[: DL_ERROR_CAPACITY - 1]
        linker.memory.write(group.dl_error_address, encoded.replace(b"\0", b"?") + b"\0")
        raw[0].i32 = i32(group.dl_error_address)

    def _cxa_atexit(self, caller: LoadedModule, raw: Values) -> None:
        raw[0].i32 = 0 if self.linker.at_exit(caller, AtExit(u32(raw[0].i32), u32(raw[1].i32))) else -1

    def _atexit(self, caller: LoadedModule, raw: Values) -> None:
        raw[0].i32 = 0 if self.linker.at_exit(caller, AtExit(u32(raw[0].i32), None)) else -1

    def _thread_spawn(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        raw[0].i32 = self.linker.thread_spawn(raw[0].i32)

    def _safepoint(self, caller: LoadedModule, raw: Values) -> None:
        """Do nothing: the core's part of the call was all of it."""

    def finalize(self, raw: Values) -> None:  # noqa: ARG002
        """Run the destructors that are left: what the program's own ``exit`` calls."""
        self.linker.finalize()

    def _guarded(self, act: Callable[[], int], failure: int = 0) -> int:
        """Run one call of the guest: what is the guest's fault becomes ``dlerror``, anything else goes up to the host."""
        try:
            return act()
        except STOPS:
            raise  # the program is over, or this call of it
        except MemoryAccessError:
            self.linker.group.dl_error = "bad address"
        except LinkError as error:
            logger.debug("dlerror: %s", error)
            self.linker.group.dl_error = str(error)
        return failure
