"""WASIX's threads, the signals between them, and the setting of clocks.

Ids, sleep and futexes are in the core.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from pylinker.errors import InternalError, LinkError, MemoryAccessError
from pylinker.linker.groups.signals import HANDLER, KILL, Signals
from pylinker.linker.groups.threads import GuestEntry
from pylinker.linker.guests.table import WASIX, Caller, guest_call
from pylinker.linker.guests.wasix import Errno
from pylinker.native.threads import MAIN_THREAD
from pylinker.runtime.failures import STOPS, GuestExit, ThreadExit
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.linker.load.linker import Linker

logger = logging.getLogger("pylinker.wasix")

_ENTRY: Final = "wasi_thread_start"
_ENTRY_TYPE = FuncType(("i32", "i32"), ())
_START_SIZE: Final = 64
"""Bytes of the structure that describes the start of a thread.

Its first word is the end of the stack; the rest belongs to the guest.
"""

_PROCESS: Final = 0x3FFFFFFF
"""The thread number that stands for the first thread."""

_LAST_SIGNAL: Final = 31


@guest_call(WASIX, "thread_spawn_v2", "ii->i")
def thread_spawn_v2(caller: Caller[Linker], start: int, out: int) -> Errno:
    """Start a thread, and write its number."""
    linker = caller.linker
    memory, threads, main = linker.memory, linker.threads, linker.main
    try:
        memory.check(out, 4)  # before the start: else the guest could not learn its number
        stack_top = int.from_bytes(memory.read(start, _START_SIZE)[:4], "little")
    except MemoryAccessError:
        return Errno.MEMVIOLATION
    entry = main.entry(_ENTRY, _ENTRY_TYPE) if main is not None else None
    if main is None or entry is None:
        return Errno.NOTCAPABLE
    if threads is None:
        return Errno.NOTSUP
    try:
        # wasi_thread_start sets up the stack from the structure; libraries that initialise
        # thread-local data need the stack earlier.
        thread = threads.start(
            GuestEntry(main, entry, lambda tid: (tid, start)),
            needs_stack=False,
            stack_top=stack_top,
        )
    except (*STOPS, InternalError):
        raise
    except (LinkError, RuntimeError, MemoryError) as error:
        logger.warning("thread_spawn_v2: %s", error)
        return Errno.AGAIN
    memory.write(out, thread.tid.to_bytes(4, "little"))
    return Errno.SUCCESS


@guest_call(WASIX, "thread_exit", "i->", operation=False)
def thread_exit(_caller: Caller[Linker], _status: int) -> None:
    """Exit the calling thread."""
    raise ThreadExit


@guest_call(WASIX, "thread_join", "i->i", operation=False)
def thread_join(caller: Caller[Linker], tid: int) -> Errno:
    """Wait until a thread has exited. Blocks."""
    linker = caller.linker
    thread = linker.threads.get(tid) if linker.threads is not None else None
    if thread is not None:
        thread.await_end(linker.group)
    return Errno.SUCCESS


@guest_call(WASIX, "thread_parallelism", "i->i", operation=False)
def thread_parallelism(caller: Caller[Linker], out: int) -> Errno:
    """Write the number of processors."""
    try:
        caller.linker.memory.write(out, _processors().to_bytes(4, "little"))
    except MemoryAccessError:
        return Errno.MEMVIOLATION
    return Errno.SUCCESS


@guest_call(WASIX, "clock_time_set", "il->i", operation=False)
def clock_time_set(caller: Caller[Linker], clock: int, now: int) -> Errno:
    """Set a clock, for this program alone."""
    return Errno.SUCCESS if caller.linker.group.set_clock(clock, now) else Errno.INVAL


@guest_call(WASIX, "callback_signal", "ii->")
def callback_signal(caller: Caller[Linker], address: int, length: int) -> None:
    """Set the export of the main module that handles signals."""
    linker = caller.linker
    signals, main = linker.group.signals, linker.main
    limit = linker.state.limits.path_length
    try:
        name = linker.memory.read(address, min(length, limit)).decode()
    except (MemoryAccessError, UnicodeDecodeError):
        return  # the call has no result
    if signals is None or main is None:
        return
    export = main.info.exports.get(name)
    signals.handler = (
        name if export is not None and main.info.export_type(export) == HANDLER else None
    )
    linker.state.delivers_signals = True
    linker.group.state.nudge()  # signals may be pending for a handler


@guest_call(WASIX, "thread_signal", "ii->i", operation=False)
def thread_signal(caller: Caller[Linker], number: int, signal: int) -> Errno:
    """Send a signal to a thread."""
    linker = caller.linker
    signal = signal if 0 < signal <= _LAST_SIGNAL else 0
    own = linker.context.tids.get(linker.group.state.number, MAIN_THREAD)
    number = MAIN_THREAD if number == _PROCESS else number
    if signal == KILL and (
        number in (own, MAIN_THREAD)
        or linker.threads is None
        or linker.threads.get(number) is not None
    ):
        # The program exits without waiting for the delivery.
        raise GuestExit(Signals.exit_status(KILL) or 0)
    if number == MAIN_THREAD:
        signals = linker.context.main_group.signals
        if signals is not None:
            signals.post(signal)
    elif linker.threads is not None:
        linker.threads.post(number, signal)
    return Errno.SUCCESS


def _processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
