"""The lifecycle of a linker: exited threads, cancellation, stopped calls."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from pylinker.native.enums import Cause
from pylinker.native.recursive import RecursiveMutex
from pylinker.native.shared import Shared
from pylinker.native.sync import SharedHandle
from pylinker.native.threads import NativeThread, take_exited
from pylinker.sync.outcome import aborted, give_up

__all__ = ["Lifecycle"]


class Lifecycle(SharedHandle):
    """The part of LinkerShared for the end of threads, of calls, and of the linker itself.

    Threads: any, unless a method says otherwise.
    """

    if TYPE_CHECKING:
        _native: Shared
        _reasons: weakref.WeakSet[BaseException]

    @property
    def exited(self) -> int:
        """Number of exited threads whose groups are still there: see :meth:`take_exited`."""
        return self._native.exited

    def take_exited(self) -> NativeThread | None:
        """Take one exited thread, or return None. Never blocks.

        The caller must hold the write lock, and call the thread's ``on_reaped``.
        """
        return take_exited(self._native)

    def close_exited(self) -> None:
        """Make threads remove their groups themselves from now on."""
        self._native.close_exited()

    def notify_exited(self) -> None:
        """Wake the waiters in :meth:`wait_exited`."""
        self._native.notify_exited()

    def wait_exited(self, timeout: float) -> None:
        """Wait for a thread to exit, for :meth:`notify_exited`, or for ``timeout`` seconds.

        Blocks; may return early.
        """
        self._native.wait_exited(timeout)

    def cancel(self, cause: int, reason: BaseException | None = None) -> bool:
        """Cancel the linker: every waiter wakes, and every later call raises.

        Args:
            cause: A :class:`~pylinker.sync.Cause`.
            reason: The exception that becomes the ``__cause__`` of SynchronizationAborted.

        Returns:
            True if this was the first cause.

        Raises:
            ValueError: ``cause`` is another number.
        """
        return give_up(self._native, Cause(cause), reason)

    def abandon(self) -> None:
        """Cancel the linker in a forked child, from its only thread."""
        self._native.abandon()

    @property
    def cause(self) -> int:
        """Why the linker was cancelled (a :class:`~pylinker.sync.Cause`), 0 if it was not."""
        return self._native.cause

    @property
    def reason(self) -> BaseException | None:
        """The exception that came with the first cause, or None."""
        return self._native.reason

    def stop_call(
        self, reason: BaseException, *, holds: tuple[RecursiveMutex, int] | None = None
    ) -> bool:
        """Make the call in progress raise ``reason``; the linker stays usable. Never blocks.

        For a linker whose calls are numbered. The call is stopped at its next check, for which the
        caller advances the epoch; if it returns before, nothing happens.

        Args:
            reason: The exception to raise.
            holds: A main lock and the identity of a thread: stop only a call of that thread.

        Returns:
            False if there is no call.
        """
        call = self._native.call
        if not call:
            return False
        if holds is not None:
            # The holder of the main lock does not change during a call: if the same call is still
            # in progress, it is the call of this thread.
            mutex, identity = holds
            if mutex.holder != identity or self._native.call != call:
                return False
        self._reasons.add(reason)  # before the call can raise it
        self._native.stop(call, reason)
        return True

    def has_stopped(self, reason: BaseException) -> bool:
        """Whether a call of this linker was stopped with this exception. Never blocks."""
        return reason in self._reasons

    def wake(self, key: int) -> None:
        """Wake all groups that wait on a key of the host, see :meth:`.Member.wait`."""
        self._native.wake(key)

    def aborted(self) -> BaseException:
        """Return the exception for a cancelled linker, or for a stopped call in progress."""
        return aborted(self._native)
