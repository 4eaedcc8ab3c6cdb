"""WASIX's calls of the linker: libraries, symbols and handles.

Handle 1 is the main module, others are the numbers of their modules, 0 in ``dlsym`` is the default
scope. An error message is truncated to the guest's buffer and always terminated. No argument of a
guest is trusted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pylinker.errors import ClosedError, LinkError, MemoryAccessError
from pylinker.linker.calls.dlfcn import guest_message
from pylinker.linker.guests.abi import RTLD_GLOBAL, RTLD_NODELETE, RTLD_NOLOAD
from pylinker.linker.guests.table import WASIX, Caller, guest_call, i32
from pylinker.linker.guests.wasix import Errno
from pylinker.linker.plan.state import scope_from
from pylinker.native.enums import BuiltinIndex
from pylinker.runtime.failures import STOPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylinker.linker.load.linker import Linker

logger = logging.getLogger("pylinker.wasix")

_MODES = RTLD_GLOBAL | RTLD_NODELETE | RTLD_NOLOAD
"""The flags of ``dlopen`` that have a meaning; WASIX refuses none."""


@guest_call(WASIX, "dlopen", "iiiiiiii->i")
def dlopen(
    caller: Caller[Linker],
    path: int,
    length: int,
    flags: int,
    text: int,
    capacity: int,
    search: int,
    search_length: int,
    out: int,
) -> Errno:
    """Open a library, which is searched for in the directories of ``search`` too."""

    def act(linker: Linker) -> int:
        if path == 0:
            return linker.handles.main_handle
        name = _string(linker, path, length)
        directories = _string(linker, search, search_length).split(":")
        return linker.load_module(
            name, flags & _MODES, requester=caller.module, search=directories
        ).number

    return _run(caller.linker, act, out, text, capacity)


@guest_call(WASIX, "dlsym", "iiiiii->i", core=BuiltinIndex.DLSYM_WASIX)
def dlsym(
    caller: Caller[Linker], handle: int, name: int, length: int, text: int, capacity: int, out: int
) -> Errno:
    """Find a symbol. The core caches results."""

    def act(linker: Linker) -> int:
        symbol = _string(linker, name, length)
        changes = linker.context.shared.changes  # before the lookup
        main = linker.main
        # The handle of main stands for the module, not for the program as a whole.
        if handle == linker.handles.main_handle and main is not None:
            value, lasting = linker.handles.find_value_in(
                scope_from(main), symbol, main.name, caller.module, is_global=True
            )
        else:
            value, lasting = linker.handles.find_value(handle, symbol, caller.module)
        if lasting and (known_by := caller.handle) is not None:
            linker.group.native.remember(changes, known_by, i32(handle), symbol.encode(), value)
        return value

    return _run(caller.linker, act, out, text, capacity)


@guest_call(WASIX, "dl_invalid_handle", "i->i", core=BuiltinIndex.DL_INVALID_HANDLE)
def dl_invalid_handle(caller: Caller[Linker], handle: int) -> Errno:
    """Check whether a handle is that of a library. The core caches results."""
    linker = caller.linker
    changes = linker.context.shared.changes
    try:
        module = linker.handles.by_handle(handle)
    except ClosedError:
        module = None
    result = Errno.NOEXEC if module is None or module is linker.main else Errno.SUCCESS
    if (known_by := caller.handle) is not None:
        linker.group.native.remember(changes, known_by, i32(handle), b"", result)
    return result


@guest_call(WASIX, "dlclose", "iii->i")
def dlclose(caller: Caller[Linker], handle: int, text: int, capacity: int) -> Errno:
    """Close a handle."""

    def act(linker: Linker) -> int:
        linker.handles.close(handle)
        return 0

    return _run(caller.linker, act, None, text, capacity)


def _run(
    linker: Linker, act: Callable[[Linker], int], out: int | None, text: int, capacity: int
) -> Errno:
    """Run ``act`` for the guest; store its result at ``out``, or its error message in ``text``.

    Returns:
        The error number.
    """
    memory = linker.memory
    try:
        try:
            value = act(linker)
        except STOPS:
            raise  # the program has ended, or this call is stopped
        except MemoryAccessError:
            return Errno.MEMVIOLATION
        except UnicodeDecodeError:
            return Errno.INVAL
        except LinkError as error:
            logger.debug("%s", error)
            if capacity:
                encoded = (
                    guest_message(error, capacity - 1)
                    .encode("utf-8", "replace")
                    .replace(b"\0", b"?")
                    + b"\0"
                )
                memory.check(text, capacity)
                memory.write(text, encoded)
            return Errno.UNKNOWN
        if out is not None:
            memory.write(out, value.to_bytes(4, "little"))
    except MemoryAccessError:
        return Errno.MEMVIOLATION
    return Errno.SUCCESS


def _string(linker: Linker, address: int, length: int) -> str:
    """Read a name, truncated beyond the limit, where no library or symbol has it.

    Raises:
        MemoryAccessError: The name is out of bounds.
        UnicodeDecodeError: It is not UTF-8.
    """
    limit = linker.state.limits.path_length + 1
    if length > limit:
        linker.memory.check(address, length)
        length = limit
    return linker.memory.read(address, length).decode()
