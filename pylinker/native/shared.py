"""The flag, the locks, the buses and the cancellation of one linker.

The headers are ``csrc/shared.h`` and ``csrc/cancel.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylinker.native.core import U32, ffi, lib
from pylinker.native.enums import SLICE, Cause
from pylinker.native.sync import SharedBase
from pylinker.native.trace import Trace
from pylinker.native.waits import nanoseconds

if TYPE_CHECKING:
    from pylinker._core import pl_waits_p

__all__ = ["FORKED", "Shared"]

FORKED = "fork() has left its threads in the parent process; make a new program here"
"""Message for a program that was cancelled with ``Cause.FORKED``."""
_STOPS = 16
"""Maximum number of reasons of stopped calls.

A call takes its reason as soon as it returns.
"""


class Shared(SharedBase):
    """The flag, the locks, the buses and the cancellation of one linker (``csrc/shared.h``).

    Threads: any. ``reason`` is the exception that came with the first cause, or None.
    """

    def __init__(self) -> None:
        self.pointer = ffi.cast("pl_shared *", self.address)
        self.reason: BaseException | None = None
        self._stops: dict[int, BaseException] = {}  # by the number of the call
        self._cancel = lib.pl_shared_cancel(self.pointer)
        self._lock = lib.pl_shared_lock(self.pointer)
        self._topology = lib.pl_shared_topology(self.pointer)
        self._barriers = lib.pl_shared_barriers(self.pointer)
        self._operations = lib.pl_shared_operations(self.pointer)

    def cancel(self, cause: int) -> bool:
        """Cancel for good and wake every waiter; True if this was the first cause."""
        return bool(lib.pl_cancel_set(self._cancel, cause))

    def abandon(self) -> None:
        """Cancel for good in a forked child, from its only thread: wake no waiter, take no lock."""
        lib.pl_cancel_abandon(self._cancel, Cause.FORKED)

    @property
    def cause(self) -> int:
        """Why it was cancelled, 0 if it was not; CAUSE_STOPPED within a call that was stopped."""
        return lib.pl_cancel_cause(self._cancel)

    @property
    def call(self) -> int:
        """Number of the call in progress, else 0; requires :meth:`Instances.number_calls`."""
        return lib.pl_cancel_call(self._cancel)

    def forget(self, failure: BaseException | None) -> None:
        """Drop a reason of :meth:`Member.note_failure` for which the linker was not cancelled.

        Only the call fails.
        """
        if failure is not None and self.reason is failure and not self.cause:
            self.reason = None

    def stop(self, call: int, reason: BaseException) -> None:
        """Stop a call that is still in progress: it raises ``reason``, or that of an earlier stop.

        Never blocks. The guest checks when the epoch advances, which is up to the caller.
        """
        for old in list(self._stops)[: 1 - _STOPS]:
            self._stops.pop(old, None)
        self._stops.setdefault(call, reason)  # before the call can see that it was stopped
        lib.pl_cancel_stop(self._cancel, call)

    def stopped(self, call: int = 0) -> BaseException | None:
        """Return the reason why a call (0: the one in progress) was stopped.

        It is dropped once that call has returned.
        """
        current = self.call
        reason = self._stops.get(call or current)
        if call and call != current:
            self._stops.pop(call, None)
        return reason

    def wake(self, key: int) -> None:
        """Wake all waiters on a key of the host."""
        lib.pl_futex_wake(lib.pl_shared_futex(self.pointer), key, U32 - 1)

    @property
    def readers(self) -> int:
        """Number of holders of the lock for reading, -1 while it is held for writing."""
        return lib.pl_rwlock_readers(self._lock)

    @property
    def is_written_here(self) -> bool:
        """Whether the calling thread holds the lock for writing."""
        return bool(lib.pl_rwlock_is_written_here(self._lock))

    @property
    def token(self) -> int:
        """Number of the token that is held, or 0."""
        return lib.pl_topology_holder(self._topology)

    @property
    def receivers(self) -> tuple[int, int]:
        """Number of receivers of the buses of barriers and of operations."""
        return lib.pl_bus_receivers(self._barriers), lib.pl_bus_receivers(self._operations)

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return lib.pl_bus_receivers(self._operations)

    def changed(self) -> None:
        """Start a new generation: cached bindings of names are stale. Requires the write lock."""
        lib.pl_shared_next_generation(self.pointer)

    @property
    def changes(self) -> int:
        """The generation."""
        return lib.pl_shared_generation(self.pointer)

    @property
    def exited(self) -> int:
        """Number of exited threads that :func:`.threads.take_exited` has not taken."""
        return lib.pl_shared_exited_count(self.pointer)

    def close_exited(self) -> None:
        """Make exiting threads call ``on_exit`` of :class:`.threads.NativeThread` from now on."""
        lib.pl_shared_close_exited(self.pointer)

    def notify_exited(self) -> None:
        """Wake the waiters in :meth:`wait_exited`."""
        lib.pl_shared_notify_exited(self.pointer)

    def wait_exited(self, timeout: float) -> None:
        """Wait until a thread exits, for :meth:`notify_exited`, or for ``timeout`` seconds.

        Blocks; signals are handled afterwards.
        """
        lib.pl_shared_wait_exited(self.pointer, min(nanoseconds(timeout), SLICE))

    def set_trace(self, trace: Trace) -> None:
        """Trace what groups do from now on; to be called before there are any."""
        lib.pl_shared_set_trace(self.pointer, trace.pointer)

    @property
    def waits(self) -> pl_waits_p:
        """Statistics of the waits of groups for each other so far."""
        waits = ffi.new("pl_waits *")
        lib.pl_shared_waits(self.pointer, waits)
        return waits

    @property
    def published(self) -> int:
        """Number of the newest operation."""
        return lib.pl_bus_sent(self._operations)

    @property
    def applied(self) -> set[int]:
        """The newest operation of each living group's replays. Requires the lock."""
        capacity = self.num_groups
        numbers = ffi.new("uint64_t[]", capacity)
        return set(numbers[0 : lib.pl_shared_applied(self.pointer, numbers, capacity)])
