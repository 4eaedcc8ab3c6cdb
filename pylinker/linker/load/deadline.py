"""Time limits of a program or of a call: the guest stops, wherever it is, when one expires."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final

from pylinker.errors import TimeoutExpired
from pylinker.native.enums import Cause
from pylinker.native.recursive import thread_identity
from pylinker.native.scopes import Scope
from pylinker.runtime.engine import bump_epoch

if TYPE_CHECKING:
    from pylinker.linker.load.linker import Linker

__all__ = ["Deadline", "check_seconds"]

_SLICE: Final = 0.01
"""Seconds between two attempts to stop a call of a thread: it may be between two calls."""


def check_seconds(seconds: float | None, what: str = "timeout") -> None:
    """Check a time to wait; None is no limit.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative or NaN.
    """
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what}={seconds!r}: give seconds")
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{what}={seconds!r}: give seconds, 0 or more")


class Deadline(Scope):
    """A context manager: its block may take ``seconds`` (None: for ever), or the guest stops.

    With ``ends``, or if the program has threads, the program ends: its guest stops on every thread,
    and the program is then as one that was killed. Otherwise the calls stop that the calling thread
    makes inside, one after another until it has left, and the program goes on. Python functions
    that the guest called are waited for. TimeoutExpired is raised in place of other errors that
    are raised inside.
    """

    def __init__(self, linker: Linker, seconds: float | None, name: str, *, ends: bool) -> None:
        check_seconds(seconds)
        self._linker = linker
        self._name = name
        self._seconds = seconds
        self._ends = ends or linker.threads is not None
        # Protects the next two: a limit expires before the thread has left, or not at all.
        self._lock = threading.Lock()
        self._over = threading.Event()  # the thread has left
        self._error: TimeoutExpired | None = None
        self._identity = 0
        self._watcher: threading.Thread | None = None

    def enter(self) -> None:
        """Start the watcher, which looks at the clock."""
        if self._watcher is not None:
            raise RuntimeError("a time limit is for one block: make another")
        if self._seconds is not None and self._seconds < threading.TIMEOUT_MAX:
            self._identity = threading.get_ident()
            self._watcher = threading.Thread(
                target=self._watch,
                args=(self._seconds, thread_identity()),
                name=f"{self._name}-deadline",
                daemon=True,
            )
            self._watcher.start()

    def _watch(self, seconds: float, caller: int) -> None:
        if self._over.wait(seconds):
            return
        with self._lock:
            if self._over.is_set():
                return
            ended = "; the program was ended" if self._ends else ""
            self._error = error = TimeoutExpired(
                f"{self._name}: not done after {seconds:g} seconds{ended}",
                module=self._name,
                timeout=seconds,
            )
            if not self._ends:
                self._linker.context.expired.setdefault(self._identity, []).append(error)
        if not self._ends:
            while not self._over.is_set():
                self._linker.context.stop_call(error, caller=caller)
                self._over.wait(_SLICE)
        elif (threads := self._linker.threads) is not None:
            threads.end(failure=error)
        else:
            self._linker.context.shared.cancel(Cause.CLOSED, error)
            bump_epoch()

    def leave(self, value: BaseException | None) -> None:
        """Stop the watcher. Raises TimeoutExpired if the time was over."""
        watcher, error = self._watcher, None
        if watcher is None:
            return
        with self._lock:
            self._over.set()
            error = self._error
        if watcher.ident is not None:  # else it was not started, or returns at once
            watcher.join()
        if error is None:
            return
        self._forget(error)
        if value is None or (isinstance(value, Exception) and value is not error):
            try:
                raise error from None
            finally:
                # A frame that holds its own exception would keep the program until a collection.
                del error, value

    def _forget(self, error: TimeoutExpired) -> None:
        expired = self._linker.context.expired
        left = [each for each in expired.get(self._identity, ()) if each is not error]
        if left:
            expired[self._identity] = left
        else:
            expired.pop(self._identity, None)
