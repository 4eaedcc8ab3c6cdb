"""WASIX's threads, the signals between them, and the setting of clocks. Ids, sleep and futexes are in the core."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from pylinker.errors import InternalError, LinkError, MemoryAccessError
from pylinker.linker.hostcalls import HostFunctions, u32
from pylinker.linker.signals import HANDLER, KILL, Signals
from pylinker.linker.threads import GuestEntry
from pylinker.linker.wasix import Errno
from pylinker.native.objects import u32s
from pylinker.native.threads import MAIN_THREAD
from pylinker.runtime.failures import STOPS, GuestExit, ThreadExit
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.linker.module import LoadedModule
    from pylinker.native.objects import Values

__all__ = ["WasixThreads"]

logger = logging.getLogger("pylinker.wasix")

_ENTRY: Final = "wasi_thread_start"
_ENTRY_TYPE = FuncType(("i32", "i32"), ())
_START_SIZE: Final = 64
"""Bytes of the structure that says where a thread begins. Its first word is the end of the stack; the rest is the guest's."""

_PROCESS: Final = 0x3FFFFFFF
"""A thread number that means the first thread."""

_LAST_SIGNAL: Final = 31


class WasixThreads(HostFunctions):
    """Makes the functions behind imports of ``thread_*`` and ``callback_signal``."""

    def _wasix_thread_spawn_v2(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        raw[0].i32 = self._spawn(*u32s(raw, 2))

    def _spawn(self, start: int, out: int) -> Errno:
        linker = self.linker
        memory, threads, main = linker.memory, linker.threads, linker.main
        try:
            memory.check(out, 4)  # now: else there would be a thread that nobody knows
            stack_top = int.from_bytes(memory.read(start, _START_SIZE)[:4], "little")
        except MemoryAccessError:
            return Errno.MEMVIOLATION
        entry = main.entry(_ENTRY, _ENTRY_TYPE) if main is not None else None
        if main is None or entry is None:
            return Errno.NOTCAPABLE
        if threads is None:
            return Errno.NOTSUP
        try:
            # wasi_thread_start sets the stack up from the structure; libraries that initialise thread-local data need it before.
            thread = threads.start(GuestEntry(main, entry, lambda tid: (tid, start)), wants_stack=False, stack_top=stack_top)
        except (*STOPS, InternalError):
            raise
        except (LinkError, RuntimeError, MemoryError) as error:
            logger.warning("thread_spawn_v2: %s", error)
            return Errno.AGAIN
        memory.write(out, thread.tid.to_bytes(4, "little"))
        return Errno.SUCCESS

    def _wasix_thread_exit(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        raise ThreadExit

    def _wasix_thread_join(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        linker = self.linker
        thread = linker.threads.get(u32(raw[0].i32)) if linker.threads is not None else None
        if thread is not None:
            thread.await_end(linker.group)
        raw[0].i32 = Errno.SUCCESS

    def _wasix_thread_parallelism(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        try:
            self.linker.memory.write(u32(raw[0].i32), _processors().to_bytes(4, "little"))
            raw[0].i32 = Errno.SUCCESS
        except MemoryAccessError:
            raw[0].i32 = Errno.MEMVIOLATION

    def _wasix_clock_time_set(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        known = self.linker.group.set_clock(u32(raw[0].i32), raw[1].i64 & 0xFFFF_FFFF_FFFF_FFFF)
        raw[0].i32 = Errno.SUCCESS if known else Errno.INVAL

    def _wasix_callback_signal(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        linker = self.linker
        signals, main = linker.group.signals, linker.main
        limit = linker.state.limits.path_length
        try:
            name = linker.memory.read(u32(raw[0].i32), min(u32(raw[1].i32), limit)).decode()
        except (MemoryAccessError, UnicodeDecodeError):
            return  # there is nothing to answer
        if signals is None or main is None:
            return
        export = main.info.exports.get(name)
        signals.handler = name if export is not None and main.info.export_type(export) == HANDLER else None
        linker.state.hears_signals = True
        linker.group.state.nudge()  # what has waited for a handler

    def _wasix_thread_signal(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        linker = self.linker
        number, signal = u32(raw[0].i32), raw[1].i32
        signal = signal if 0 < signal <= _LAST_SIGNAL else 0
        raw[0].i32 = Errno.SUCCESS
        own = linker.context.tids.get(linker.group.state.number, MAIN_THREAD)
        number = MAIN_THREAD if number == _PROCESS else number
        if signal == KILL and (number in (own, MAIN_THREAD) or linker.threads is None or linker.threads.get(number) is not None):
            raise GuestExit(Signals.exit_status(KILL) or 0)  # of the program: it does not wait for the thread to hear
        if number == MAIN_THREAD:
            signals = linker.context.main_group.signals
            if signals is not None:
                signals.post(signal)
        elif linker.threads is not None:
            linker.threads.post(number, signal)


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
