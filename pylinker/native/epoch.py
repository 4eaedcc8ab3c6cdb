"""The epoch, which stops guests that make no calls (``csrc/epoch.h``)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pylinker.native.core import ffi, lib
from pylinker.native.member import Member
from pylinker.native.objects import Context
from pylinker.native.waits import nanoseconds

if TYPE_CHECKING:
    from pylinker._core import pl_watch_p

__all__ = ["epoch_bump", "epoch_tick", "ignore_epoch", "new_watch", "watch"]


def epoch_tick(engine_address: int, interval: float) -> None:
    """Advance the epoch of an engine every ``interval`` seconds from now on."""
    lib.pl_epoch_main_thread(threading.main_thread().ident or 0)
    if lib.pl_epoch_tick(ffi.cast("pl_engine *", engine_address), nanoseconds(interval)):
        raise MemoryError("no thread for the epoch")


def epoch_bump(engine_address: int) -> None:
    """Advance the epoch of an engine now."""
    lib.pl_epoch_bump(ffi.cast("pl_engine *", engine_address))


def new_watch(member: Member, *, preempt: bool) -> pl_watch_p:
    """Return a ``pl_watch`` of a member."""
    return ffi.new(
        "pl_watch *",
        {
            "group": member.pointer,
            "check": lib.pl_python_check,
            "handle": member.handle,
            "preempt": preempt,
        },
    )


def watch(store_address: int, context: Context, member: Member, *, preempt: bool) -> object:
    """Watch the guest of a store: it stops when its linker is cancelled or a check fails.

    Returns:
        The watch; keep it as long as the store.
    """
    record = new_watch(member, preempt=preempt)
    lib.pl_epoch_install(ffi.cast("pl_store *", store_address), context, record)
    return record


def ignore_epoch(context: Context) -> None:
    """Disable the epoch for a store: its guest is never stopped."""
    lib.pl_epoch_ignore(context)
