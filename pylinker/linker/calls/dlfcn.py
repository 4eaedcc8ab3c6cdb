"""The functions of ``<dlfcn.h>`` for guests, and the registration of destructors.

Each module that imports one of them gets a function of its own, since the result depends on the
caller: ``RTLD_NEXT``, the runtime path, and the owner of a destructor. No argument of a guest is
trusted: pointers are checked, names are limited.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pylinker.errors import LinkError, MemoryAccessError, UndefinedSymbolError
from pylinker.linker.guests.abi import RTLD_NEXT
from pylinker.linker.guests.table import Caller, core_call, guest_call, i32
from pylinker.linker.modules.module import AtExit
from pylinker.native.enums import BuiltinIndex
from pylinker.runtime.failures import STOPS
from pylinker.sync.reentry import begin_operation, end_operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylinker.linker.load.linker import Linker
    from pylinker.linker.modules.module import LoadedModule

__all__ = ["guest_message"]

logger = logging.getLogger("pylinker.dlfcn")

DL_ERROR_CAPACITY: Final = 1024
"""Bytes of the buffer of ``dlerror``; each thread has one."""


@guest_call("pylinker", "resolve", "i->", check=False, importable=False)
def resolve(caller: Caller[Linker], index: int) -> None:
    """Bind a lazy call of a module; its trampolines call this at the first call.

    The guest did not ask for it.
    """
    module = caller.module
    assert module is not None
    caller.linker.symbols.resolve_trampoline(*module.plt_user(index))


@guest_call("env", "dlopen", "ii->i", operation=False)
def dlopen(caller: Caller[Linker], name: int, mode: int) -> int:
    """Open a library and return a handle, or 0."""

    def act() -> int:
        linker = caller.linker
        if name == 0:
            return linker.handles.main_handle
        path = linker.memory.cstring(name, linker.state.limits.path_length + 1).decode(
            "utf-8", "surrogateescape"
        )
        return linker.load_module(path, mode, requester=caller.module or linker.main).number

    return _guarded(caller, act)


@guest_call("env", "dlsym", "ii->i", core=BuiltinIndex.DLSYM, operation=False)
def dlsym(caller: Caller[Linker], handle: int, name: int) -> int:
    """Return the address or table slot of a symbol, or 0. The core caches results."""

    def act() -> int:
        linker = caller.linker
        symbol = linker.memory.cstring(name, linker.state.limits.path_length + 1)
        known = RTLD_NEXT if i32(handle) == RTLD_NEXT else handle
        changes = linker.context.shared.changes  # before the lookup
        value, lasting = linker.handles.find_value(
            known, symbol.decode("utf-8", "surrogateescape"), caller.module or linker.main
        )
        if lasting and (known_by := caller.handle) is not None:
            linker.group.native.remember(changes, known_by, i32(handle), symbol, value)
        return value

    return _guarded(caller, act)


@guest_call("env", "dlclose", "i->i", operation=False)
def dlclose(caller: Caller[Linker], handle: int) -> int:
    """Close a handle and return 0, or -1."""

    def act() -> int:
        caller.linker.handles.close(handle)
        return 0

    return _guarded(caller, act, failure=-1)


@guest_call("env", "dlerror", "->i")
def dlerror(caller: Caller[Linker]) -> int:
    """Return the address of the last error message, once; 0 if there was none."""
    linker = caller.linker
    group = linker.group
    text, group.dl_error = group.dl_error, None
    if text is None:
        return 0
    if not group.dl_error_address:
        with (
            linker.room.fetched(lambda: [(DL_ERROR_CAPACITY, 1)], module="dlerror"),
            linker.context.exclusive(),
        ):
            group.dl_error_address = linker.state.memory.allocate(
                DL_ERROR_CAPACITY, 1, group.grants, module="dlerror"
            )
    linker.memory.write(
        group.dl_error_address, text.encode("utf-8", "replace").replace(b"\0", b"?") + b"\0"
    )
    return group.dl_error_address


@guest_call("env", "dladdr", "ii->i")
def dladdr(caller: Caller[Linker], address: int, info: int) -> int:
    """Write the symbol at an address; return 0 if there is none."""
    try:
        return caller.linker.handles.write_symbol_info(address, info)
    except STOPS:
        raise
    except LinkError:
        return 0  # POSIX: dladdr sets no error for dlerror


@guest_call("env", "__cxa_atexit", "iii->i")
def cxa_atexit(caller: Caller[Linker], function: int, argument: int, owner: int) -> int:
    """Register a destructor of the program, or of the calling library."""
    return (
        0
        if caller.linker.destructors.register(caller.module, AtExit(function, argument), owner)
        else -1
    )


@guest_call("env", "atexit", "i->i")
def atexit(caller: Caller[Linker], function: int) -> int:
    """Register a destructor without an argument."""
    return 0 if caller.linker.destructors.register(caller.module, AtExit(function, None)) else -1


@guest_call("env", "__cxa_thread_atexit", "iii->i")
@guest_call("env", "__cxa_thread_atexit_impl", "iii->i")
def cxa_thread_atexit(caller: Caller[Linker], function: int, argument: int, owner: int) -> int:
    """Register a destructor of the calling thread."""
    return (
        0
        if caller.linker.destructors.register_thread(
            caller.module, AtExit(function, argument), owner
        )
        else -1
    )


@guest_call("pylinker", "thread_exits", "i->", importable=False)
def thread_exits(caller: Caller[Linker], _argument: int) -> None:
    """Run the destructors of the calling thread that libraries registered.

    The guest's own list of thread destructors calls it.
    """
    caller.linker.end_thread()


@guest_call("env", "pthread_key_create", "ii->i", importable=False)
def pthread_key_create(caller: Caller[Linker], address: int, destructor: int) -> int:
    """Forward the call of a library to the C library, and record the key."""
    return caller.linker.keys.create(_library(caller), "pthread_key_create", address, destructor)


@guest_call("env", "tss_create", "ii->i", importable=False)
def tss_create(caller: Caller[Linker], address: int, destructor: int) -> int:
    """Forward the call by its name in C11, and record the key."""
    return caller.linker.keys.create(_library(caller), "tss_create", address, destructor)


@guest_call("env", "pthread_key_delete", "i->i", importable=False)
def pthread_key_delete(caller: Caller[Linker], key: int) -> int:
    """Forward the call, and delete the record of the key."""
    return caller.linker.unloader.delete_key(_library(caller), "pthread_key_delete", key)


@guest_call("env", "tss_delete", "i->", importable=False)
def tss_delete(caller: Caller[Linker], key: int) -> None:
    """Forward the call by its name in C11, and delete the record of the key."""
    caller.linker.unloader.delete_key(_library(caller), "tss_delete", key)


@guest_call("wasi", "thread-spawn", "i->i", threaded=True)
def thread_spawn(caller: Caller[Linker], argument: int) -> int:
    """Start a thread with the argument of its ``wasi_thread_start``; return its number, or -1."""
    return caller.linker.thread_spawn(i32(argument))


@guest_call("pylinker", "exit", "i->", operation=False, importable=False)
def finalize(caller: Caller[Linker], _argument: int) -> None:
    """Run the remaining destructors; the program's own ``exit`` calls it."""
    caller.linker.unloader.finalize_all()


core_call("pylinker", "safepoint", "->", BuiltinIndex.SAFEPOINT)


def _library(caller: Caller[Linker]) -> LoadedModule:
    module = caller.module
    assert module is not None  # guests cannot take the address of these functions
    return module


def _guarded(caller: Caller[Linker], act: Callable[[], int], failure: int = 0) -> int:
    """Run one call of the guest.

    An error that is the fault of the guest becomes its ``dlerror``; any other is raised to the
    host.
    """
    try:
        begun = begin_operation()
        try:
            return act()
        finally:
            end_operation(begun)
    except STOPS:
        raise  # the program has ended, or this call is stopped
    except MemoryAccessError:
        caller.linker.group.dl_error = "bad address"
    except LinkError as error:
        logger.debug("dlerror: %s", error)
        caller.linker.group.dl_error = guest_message(error, DL_ERROR_CAPACITY - 1)
    return failure


def guest_message(error: LinkError, capacity: int) -> str:
    """Return a message in one line of at most ``capacity`` bytes, without paths of the host.

    It lists all undefined symbols. If they do not fit, it ends with the number of the others.
    """
    text = str(error).split("\n", 1)[0]  # the other lines list paths of the host
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
