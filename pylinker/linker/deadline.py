"""The time a program may take: when it is over, the program ends, wherever its threads are."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from pylinker import _native
from pylinker.errors import TimeoutExpired
from pylinker.runtime.engine import bump_epoch

if TYPE_CHECKING:
    from types import TracebackType

    from pylinker.linker.linker import Linker

__all__ = ["Deadline", "check_seconds"]


def check_seconds(seconds: float | None, what: str = "timeout") -> None:
    """Refuse what is no time to wait: TypeError for what is no number, ValueError for one that is negative or not a number."""
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what}={seconds!r}: give seconds")
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{what}={seconds!r}: give seconds, 0 or more")


class Deadline:
    """A context manager: if what is inside takes longer than ``seconds`` (None: for ever), the program ends and TimeoutExpired is raised.

    Guest code that computes, waits or sleeps stops on every thread; Python functions that the guest called are waited for. The program is
    then as one that was killed. TimeoutExpired takes the place of what the end of the program raises inside.
    """

    def __init__(self, linker: Linker, seconds: float | None, name: str) -> None:
        check_seconds(seconds)
        self._linker = linker
        self._name = name
        self._seconds = seconds
        self._lock = threading.Lock()
        self._over = False  # nobody is inside any more
        self._error: TimeoutExpired | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> None:
        if self._seconds is not None and self._seconds < threading.TIMEOUT_MAX:
            self._timer = threading.Timer(self._seconds, self._expire)
            self._timer.daemon = True
            self._timer.name = f"{self._name}-deadline"
            self._timer.start()

    def _expire(self) -> None:
        with self._lock:
            if self._over:
                return
            assert self._seconds is not None
            self._error = error = TimeoutExpired(
                f"{self._name}: not done after {self._seconds:g} seconds; the program was ended", module=self._name, timeout=self._seconds
            )
            threads = self._linker.threads
            if threads is not None:
                threads.end(failure=error)
            else:
                self._linker.context.shared.cancel(_native.CAUSE_CLOSED, error)
                bump_epoch()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self._timer is None:
            return
        with self._lock:
            self._over = True
        self._timer.cancel()
        self._timer.join()  # it has nothing left to wait for
        error, self._error = self._error, None
        if error is not None and (value is None or (isinstance(value, Exception) and value is not error)):
            try:
                raise error from None
            finally:
                del error, value  # a frame that holds its own exception would keep the program until the collector comes
