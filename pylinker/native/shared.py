"""The flag, the locks, the buses and the cancellation of one linker (``csrc/shared.h``, ``csrc/cancel.h``)."""

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
"""What is said of a program that was given up for that cause."""
_STOPS = 16
"""Reasons of stopped calls that are kept at one time.

Each is taken by its call as soon as that ends.
"""


class Shared(SharedBase):
    """The flag, the lock, the topology lock, the buses and the cancellation of one linker (``csrc/shared.h``). Safe to use from all threads.

    ``reason`` is the exception that came with the first cause, or None.
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
        """Cancel for good in a child of the process, whose only thread this is: wake none, and take no lock."""
        lib.pl_cancel_abandon(self._cancel, Cause.FORKED)

    @property
    def cause(self) -> int:
        """Why it was cancelled, 0 if it was not; CAUSE_STOPPED within a call that was stopped."""
        return lib.pl_cancel_cause(self._cancel)

    @property
    def call(self) -> int:
        """The number of the call in progress, of a linker whose calls are numbered (:meth:`Instances.number_calls`), else 0."""
        return lib.pl_cancel_call(self._cancel)

    def forget(self, failure: BaseException | None) -> None:
        """Drop a reason kept by :meth:`Member.note_failure` if the linker was not cancelled for it: the call alone ends."""
        if failure is not None and self.reason is failure and not self.cause:
            self.reason = None

    def stop(self, call: int, reason: BaseException) -> None:
        """Stop the call with this number, if it is still in progress: it raises ``reason``, or that of an earlier stop. Never blocks.

        The guest looks when the epoch moves, which is up to the caller.
        """
        for old in list(self._stops)[: 1 - _STOPS]:
            self._stops.pop(old, None)
        self._stops.setdefault(call, reason)  # before the call can see that it was stopped
        lib.pl_cancel_stop(self._cancel, call)

    def stopped(self, call: int = 0) -> BaseException | None:
        """Return the reason why a call (0: the one in progress) was stopped; it is forgotten when that call is over."""
        current = self.call
        reason = self._stops.get(call or current)
        if call and call != current:
            self._stops.pop(call, None)
        return reason

    def wake(self, key: int) -> None:
        """Wake all who wait on a key of the host's."""
        lib.pl_futex_wake(lib.pl_shared_futex(self.pointer), key, U32 - 1)

    @property
    def readers(self) -> int:
        """How many hold the lock for reading, -1 while it is held for writing."""
        return lib.pl_rwlock_readers(self._lock)

    @property
    def is_written_here(self) -> bool:
        """Whether the calling thread has the lock for writing."""
        return bool(lib.pl_rwlock_is_written_here(self._lock))

    @property
    def token(self) -> int:
        """The number of the token that is out, or 0."""
        return lib.pl_topology_holder(self._topology)

    @property
    def receivers(self) -> tuple[int, int]:
        """How many receivers the buses of barriers and of operations have."""
        return lib.pl_bus_receivers(self._barriers), lib.pl_bus_receivers(self._operations)

    @property
    def num_groups(self) -> int:
        """How many groups there are."""
        return lib.pl_bus_receivers(self._operations)

    def changed(self) -> None:
        """Note, under the write lock, that names may mean something else from now on."""
        lib.pl_shared_next_generation(self.pointer)

    @property
    def changes(self) -> int:
        """How often that was."""
        return lib.pl_shared_generation(self.pointer)

    @property
    def exited(self) -> int:
        """How many threads have ended by themselves and were not taken by :func:`pylinker.native.threads.take_exited`."""
        return lib.pl_shared_exited_count(self.pointer)

    def close_exited(self) -> None:
        """Have threads end as ``ended`` of :class:`pylinker.native.threads.NativeThread` from now on."""
        lib.pl_shared_close_exited(self.pointer)

    def notify_exited(self) -> None:
        """Wake who waits in :meth:`wait_exited`."""
        lib.pl_shared_notify_exited(self.pointer)

    def wait_exited(self, timeout: float) -> None:
        """Wait until a thread has ended by itself or :meth:`notify_exited`, or ``timeout`` seconds.

        Blocks; signals are handled afterwards.
        """
        lib.pl_shared_wait_exited(self.pointer, min(nanoseconds(timeout), SLICE))

    def set_trace(self, trace: Trace) -> None:
        """Have what groups do noted from now on, before there are any."""
        lib.pl_shared_set_trace(self.pointer, trace.pointer)

    @property
    def waits(self) -> pl_waits_p:
        """How often groups waited for each other so far."""
        waits = ffi.new("pl_waits *")
        lib.pl_shared_waits(self.pointer, waits)
        return waits

    @property
    def published(self) -> int:
        """The number of the newest operation."""
        return lib.pl_bus_sent(self._operations)

    @property
    def applied(self) -> set[int]:
        """The newest operations that the living groups have replayed, under the lock."""
        capacity = self.num_groups
        numbers = ffi.new("uint64_t[]", capacity)
        return set(numbers[0 : lib.pl_shared_applied(self.pointer, numbers, capacity)])
