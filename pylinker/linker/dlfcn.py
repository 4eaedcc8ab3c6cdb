"""What the linker provides to guests: the functions of ``<dlfcn.h>``, and the registration of destructors.

Each module that imports one of them gets a function of its own, since the answer depends on who asks: ``RTLD_NEXT``, the runtime
path, and whose destructor it is. Nothing a guest passes is trusted: pointers are checked, names are limited.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pylinker.errors import LinkError, MemoryAccessError, UndefinedSymbolError
from pylinker.linker import wasix
from pylinker.linker.hostcalls import HostFunctions, i32, u32
from pylinker.linker.module import AtExit
from pylinker.runtime.failures import STOPS
from pylinker.sync.reentry import begin_operation, end_operation
from pylinker.wasm import WASI_PREVIEW1, FuncType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylinker.linker.module import LoadedModule
    from pylinker.native.objects import Values

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
    "THREAD_EXITS",
    "THREAD_SPAWN",
    "GuestCalls",
    "guest_message",
    "provided_type",
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
    "dladdr": FuncType(_II, _I),
    "__cxa_atexit": FuncType(_III, _I),
    "__cxa_thread_atexit": FuncType(_III, _I),
    "__cxa_thread_atexit_impl": FuncType(_III, _I),
    "atexit": FuncType(_I, _I),
}
"""What is provided under ``env``, by name, with the types of the C declarations."""

THREAD_SPAWN = FuncType(_I, _I)
"""``wasi.thread-spawn`` of wasi-threads: takes the argument of the new thread's ``wasi_thread_start``, gives its number or -1."""

SAFEPOINT = FuncType((), ())
"""``pylinker.safepoint``: a place where others may open libraries, for a guest that makes no other call."""

KEY_TYPES: Mapping[str, FuncType] = {
    "pthread_key_create": FuncType(_II, _I),
    "pthread_key_delete": FuncType(_I, _I),
    "tss_create": FuncType(_II, _I),
    "tss_delete": FuncType(_I, ()),
}
"""The types of the functions of the C library that are watched."""

THREAD_EXITS: Final = "thread_exits"
"""What a guest's own list of a thread's destructors calls for those of libraries; no name of a symbol."""

DL_ERROR_CAPACITY: Final = 1024
"""Bytes of the buffer that ``dlerror`` answers with; each thread has one."""


class GuestCalls(HostFunctions):
    """Makes the functions behind imports of ``env`` and ``wasi``, and those that trampolines call."""

    def _resolve(self, caller: LoadedModule, raw: Values) -> None:
        self.linker.symbols.resolve_trampoline(*caller.plt_user(u32(raw[0].i32)))

    def _dlopen(self, caller: LoadedModule | None, raw: Values) -> None:
        name, mode = u32(raw[0].i32), u32(raw[1].i32)

        def act() -> int:
            linker = self.linker
            if name == 0:
                return linker.main_handle
            path = linker.memory.cstring(name, linker.state.limits.path_length + 1).decode("utf-8", "surrogateescape")
            return linker.load_module(path, mode, requester=caller or linker.main).number

        raw[0].i32 = i32(self._guarded(act))

    def _dlsym(self, caller: LoadedModule | None, raw: Values) -> None:
        handle, name = raw[0].i32, u32(raw[1].i32)

        def act() -> int:
            linker = self.linker
            symbol = linker.memory.cstring(name, linker.state.limits.path_length + 1)
            known = handle if handle in (RTLD_DEFAULT, RTLD_NEXT) else u32(handle)
            changes = linker.context.shared.changes  # before anything is looked at
            value, lasting = linker.find_value(known, symbol.decode("utf-8", "surrogateescape"), caller or linker.main)
            if lasting and caller is not None:
                # The next time the core answers, without coming here.
                linker.group.native.remember(changes, caller.host_handles["dlsym"], handle, symbol, value)
            return value

        raw[0].i32 = i32(self._guarded(act))

    def _dlclose(self, caller: LoadedModule | None, raw: Values) -> None:  # noqa: ARG002
        handle = u32(raw[0].i32)

        def act() -> int:
            self.linker.dlclose_handle(handle)
            return 0

        raw[0].i32 = self._guarded(act, failure=-1)

    def _dlerror(self, caller: LoadedModule | None, raw: Values) -> None:  # noqa: ARG002
        linker = self.linker
        group = linker.group
        text, group.dl_error = group.dl_error, None
        if text is None:
            raw[0].i32 = 0
            return
        if not group.dl_error_address:
            with linker.room.fetched(lambda: [(DL_ERROR_CAPACITY, 1)], module="dlerror"), linker.context.exclusive():
                group.dl_error_address = linker.state.memory.allocate(DL_ERROR_CAPACITY, 1, group.grants, module="dlerror")
        linker.memory.write(group.dl_error_address, text.encode("utf-8", "replace").replace(b"\0", b"?") + b"\0")
        raw[0].i32 = i32(group.dl_error_address)

    def _dladdr(self, caller: LoadedModule | None, raw: Values) -> None:  # noqa: ARG002
        address, info = u32(raw[0].i32), u32(raw[1].i32)
        try:
            raw[0].i32 = self.linker.write_symbol_info(address, info)
        except STOPS:
            raise
        except LinkError:
            raw[0].i32 = 0  # POSIX: no error can be asked for

    def _cxa_atexit(self, caller: LoadedModule | None, raw: Values) -> None:
        raw[0].i32 = 0 if self.linker.at_exit(caller, AtExit(u32(raw[0].i32), u32(raw[1].i32)), u32(raw[2].i32)) else -1

    def _atexit(self, caller: LoadedModule | None, raw: Values) -> None:
        raw[0].i32 = 0 if self.linker.at_exit(caller, AtExit(u32(raw[0].i32), None)) else -1

    def _cxa_thread_atexit(self, caller: LoadedModule | None, raw: Values) -> None:
        raw[0].i32 = 0 if self.linker.at_thread_exit(caller, AtExit(u32(raw[0].i32), u32(raw[1].i32)), u32(raw[2].i32)) else -1

    _cxa_thread_atexit_impl = _cxa_thread_atexit

    def _thread_exits(self, caller: LoadedModule | None, raw: Values) -> None:  # noqa: ARG002
        self.linker.end_thread()

    def _pthread_key_create(self, caller: LoadedModule, raw: Values) -> None:
        self._key_create(caller, "pthread_key_create", raw)

    def _tss_create(self, caller: LoadedModule, raw: Values) -> None:
        self._key_create(caller, "tss_create", raw)

    def _key_create(self, caller: LoadedModule, name: str, raw: Values) -> None:
        address, destructor = u32(raw[0].i32), u32(raw[1].i32)
        raw[0].i32 = i32(self.linker.create_key(caller, name, address, destructor))

    def _pthread_key_delete(self, caller: LoadedModule, raw: Values) -> None:
        raw[0].i32 = i32(self.linker.delete_key(caller, "pthread_key_delete", u32(raw[0].i32)))

    def _tss_delete(self, caller: LoadedModule, raw: Values) -> None:
        self.linker.delete_key(caller, "tss_delete", u32(raw[0].i32))

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
            begun = begin_operation()
            try:
                return act()
            finally:
                end_operation(begun)
        except STOPS:
            raise  # the program is over, or this call of it
        except MemoryAccessError:
            self.linker.group.dl_error = "bad address"
        except LinkError as error:
            logger.debug("dlerror: %s", error)
            self.linker.group.dl_error = guest_message(error, DL_ERROR_CAPACITY - 1)
        return failure


def provided_type(space: str, name: str, *, threaded: bool) -> tuple[FuncType, str] | None:
    """Return the type of a function that pylinker provides under a module and a name, and who that is; None if it provides none."""
    type_, provider = None, "pylinker"
    if space == "env":
        type_ = PROVIDED.get(name)
    elif space == "wasi_snapshot_preview1":
        type_, provider = WASI_PREVIEW1.get(name), "WASI preview 1"
    elif space == wasix.WASIX:
        type_, provider = wasix.PROVIDED.get(name), "WASIX"
    elif (space, name) == ("wasi", "thread-spawn"):
        type_ = THREAD_SPAWN if threaded else None
    elif (space, name) == ("pylinker", "safepoint"):
        type_ = SAFEPOINT
    return None if type_ is None else (type_, provider)


def guest_message(error: LinkError, capacity: int) -> str:
    """Return a message in one line of at most ``capacity`` bytes: all symbols that are missing, and no path of the host.

    Where they do not fit, it says how many more there are.
    """
    text = str(error).split("\n", 1)[0]  # what follows lists paths of the host
    if isinstance(error, UndefinedSymbolError) and len(error.undefined) > 1:
        count = len(error.undefined)
        text = f"{count} undefined symbols: "
        for index, each in enumerate(error.undefined):
            shown = str(each) + (", " if index < count - 1 else "")
            rest = f"... and {count - index} more"
            if len((text + shown + rest).encode("utf-8", "replace")) > capacity and index:
                text += rest
                break
            text += shown
    return text.encode("utf-8", "replace")[:capacity].decode("utf-8", "ignore")
