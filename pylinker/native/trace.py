"""What threads did and when (``csrc/trace.h``)."""

from __future__ import annotations

from collections.abc import Iterator

from pylinker.native.core import ffi, lib
from pylinker.native.enums import TraceKind

__all__ = ["Trace"]


class Trace:
    """What threads did and when (``csrc/trace.h``), with room for ``capacity`` events: the first are kept. Safe to use from all threads."""

    def __init__(self, capacity: int) -> None:
        self.pointer = ffi.gc(lib.pl_trace_new(capacity), lib.pl_trace_free)
        if self.pointer == ffi.NULL:
            raise MemoryError(f"no memory for a trace of {capacity} events")
        self._capacity = capacity

    def events(self) -> Iterator[tuple[int, TraceKind, int, int]]:
        """Iterate over what there is so far: nanoseconds on Python's monotonic clock, kind, handle of the member, detail."""
        buffer = ffi.new("pl_trace_event[]", 1024)
        first = 0
        while count := lib.pl_trace_read(self.pointer, first, buffer, len(buffer)):
            for index in range(count):
                event = buffer[index]
                yield int(event.when), TraceKind(event.kind), int(event.group), int(event.detail)
            first += count

    @property
    def lost(self) -> int:
        """How many events found no room."""
        return lib.pl_trace_lost(self.pointer)
