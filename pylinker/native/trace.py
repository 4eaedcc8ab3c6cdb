"""A trace of the events of threads (``csrc/trace.h``)."""

from __future__ import annotations

from collections.abc import Iterator

from pylinker.native.core import ffi, lib
from pylinker.native.enums import TraceKind

__all__ = ["Trace"]


class Trace:
    """A trace of the events of threads (``csrc/trace.h``): the first ``capacity`` are kept.

    Threads: any.
    """

    def __init__(self, capacity: int) -> None:
        self.pointer = ffi.gc(lib.pl_trace_new(capacity), lib.pl_trace_free)
        if self.pointer == ffi.NULL:
            raise MemoryError(f"no memory for a trace of {capacity} events")
        self._capacity = capacity

    def events(self) -> Iterator[tuple[int, TraceKind, int, int]]:
        """Iterate over the events so far.

        Each is nanoseconds on Python's monotonic clock, kind, handle of the member, and a detail.
        """
        buffer = ffi.new("pl_trace_event[]", 1024)
        first = 0
        while count := lib.pl_trace_read(self.pointer, first, buffer, len(buffer)):
            for index in range(count):
                event = buffer[index]
                yield int(event.when), TraceKind(event.kind), int(event.group), int(event.detail)
            first += count

    @property
    def lost(self) -> int:
        """Number of events that were dropped as the trace was full."""
        return lib.pl_trace_lost(self.pointer)
