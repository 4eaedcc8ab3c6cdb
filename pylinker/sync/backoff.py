"""How long to stay away from a lock that was busy."""

from __future__ import annotations

from pylinker.native.waits import Backoff

__all__ = ["LinkerStateWriteBackoff"]


class LinkerStateWriteBackoff:
    """A sequence of pauses: 64 spins, 24 yields, then sleeps from 48 microseconds doubling up to 10 milliseconds.

    One thread's. ``pauses`` counts those taken.
    """

    __slots__ = ("_backoff",)

    def __init__(self) -> None:
        self._backoff = Backoff()

    def __repr__(self) -> str:
        return f"<LinkerStateWriteBackoff after {self.pauses} pauses>"

    @property
    def pauses(self) -> int:
        """Pauses taken so far."""
        return self._backoff.pauses

    @property
    def next_sleep(self) -> float | None:
        """Seconds the next pause sleeps; 0.0 for a yield, None for a spin."""
        return self._backoff.next_sleep

    def pause(self) -> None:
        """Take the next pause. Blocks for at most 10 milliseconds, without the GIL."""
        self._backoff.pause()

    def reset(self) -> None:
        """Start over with spins: the lock was had."""
        self._backoff.reset()
