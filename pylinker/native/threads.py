"""Threads of the core that call guests (``csrc/thread.h``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pylinker.errors import InternalError
from pylinker.native.core import ffi, lib
from pylinker.native.enums import PROCESS, THREAD_LOST
from pylinker.native.failures import Failure, moved
from pylinker.native.instances import Instances
from pylinker.native.libraries import Library
from pylinker.native.shared import Shared

if TYPE_CHECKING:
    from pylinker._core import Pointer

__all__ = ["MAIN_THREAD", "NativeThread", "has_room_for_thread", "pl_python_exited", "take_exited"]

MAIN_THREAD: Final = PROCESS
"""Number of a WASIX program's first thread, and of its process."""

_threads: dict[int, NativeThread] = {}
"""Threads that run, or have exited and were not taken, by handle."""
_thread_handles = itertools.count(1)


@ffi.def_extern(error=1)
def pl_python_exited(handle: int) -> int:
    """Report the result of a thread."""
    _threads.pop(handle).report()
    return 0


class NativeThread:
    """An OS thread of the core, for a call of a function of i32 arguments as the thread of a group.

    When the function returns, the group is dead, ``done`` (``uint32_t *``) becomes 1 and ``key`` is
    woken, and the thread waits for :func:`take_exited`, whose caller removes the group and calls
    ``on_reaped``. If that is not possible, or the function did not return, ``on_exit`` is called on
    the thread at its exit, with the failure or None; it must not raise.
    """

    __slots__ = ("_done", "_on_exit", "_record", "on_reaped")

    def __init__(
        self,
        instances: Instances,
        arguments: Sequence[int],
        on_exit: Callable[[Failure | None], None],
        on_reaped: Callable[[Any], None],
        *,
        done: Pointer[int],
        key: int,
    ) -> None:
        record = self._record = ffi.new("pl_thread *")
        self._on_exit = on_exit
        self._done = record.done = done
        self.on_reaped = on_reaped
        record.key = key
        record.instances = instances.pointer
        record.count = max(len(arguments), 1)
        record.on_exit = lib.pl_python_exited
        record.exited.handle = next(_thread_handles)
        for index, argument in enumerate(arguments):
            record.values[index].i64 = argument

    @property
    def started(self) -> bool:
        """Whether the thread was started; also right after :meth:`start` was interrupted."""
        return bool(self._record.started)

    def report(self) -> None:
        """Report the result of the thread."""
        self._on_exit(moved(self._record) if self._record.status else None)

    def start(self, library: Library, export: int) -> None:
        """Call an exported function on the thread. MemoryError if no thread can be started."""
        handle = self._record.exited.handle
        _threads[handle] = self
        try:
            result = lib.pl_thread_start(self._record, library.pointer, export)
        finally:
            if not self._record.started:
                del _threads[handle]
        if result == THREAD_LOST:
            raise InternalError("the start function of a thread is not in its group")
        if result:
            raise MemoryError("no thread can be started")


def has_room_for_thread(stack: int) -> bool:
    """Whether there is address space for a thread with a stack of ``stack`` bytes (0: the default).

    That includes what a thread needs besides its stack.
    """
    return bool(lib.pl_thread_has_room(stack))


def take_exited(shared: Shared) -> NativeThread | None:
    """Take one of the exited threads of a linker, or return None."""
    handle = lib.pl_shared_take_exited(shared.pointer)
    return _threads.pop(handle) if handle else None
