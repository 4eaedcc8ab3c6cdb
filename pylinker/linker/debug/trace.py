"""Traces of the threads of a program, in the format of Chrome's and Perfetto's viewers.

There is one row for each thread, and two sources on one clock: spans of Python code, recorded here,
and events of the C core (``csrc/trace.h``), where threads park, meet and replay without Python.
Spans of one row nest, since each begins and ends on the thread of the row.
"""

from __future__ import annotations

import bisect
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, NamedTuple

from pylinker.native.enums import TraceKind
from pylinker.native.member import current_member
from pylinker.native.trace import Trace
from pylinker.runtime.progress import Compiling, Observer

__all__ = ["UNTRACED", "Tracer", "Untraced"]

CAPACITY = 1 << 18
"""The number of events that each of the two sources keeps: the first ones."""

_BEGINS = {
    TraceKind.UNPARK: "guest",
    TraceKind.LEAD_BEGIN: "rendezvous",
    TraceKind.AWAIT_BEGIN: "wait",
    TraceKind.FOLLOW_BEGIN: "follow",
    TraceKind.REPLAY_BEGIN: "replay",
}
_ENDS = {
    TraceKind.PARK: "guest",
    TraceKind.LEAD_END: "rendezvous",
    TraceKind.AWAIT_END: "wait",
    TraceKind.FOLLOW_END: "follow",
    TraceKind.REPLAY_END: "replay",
}
_CAME = ("parked", "came", "replayed")


def _shown(value: object) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return [_shown(each) for each in value]
    return getattr(value, "name", None) or repr(value)


class _Span(NamedTuple):
    """A period on the row of a group."""

    start: int
    """The start in nanoseconds."""
    end: int
    """The end in nanoseconds."""
    row: int
    name: str
    args: dict[str, Any]


class Untraced:
    """The tracer of a program that is not traced: its spans record nothing.

    Its methods are those of :class:`Tracer`.
    """

    native: Trace | None = None
    """The events of the C core."""

    @property
    def observer(self) -> Observer | None:
        """The observer of compilations, None for none."""
        return None

    def name_row(self, row: int, name: str) -> None:
        """Do nothing."""

    def span(self, name: str, **what: object) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return a context manager that does nothing."""
        return _NOTHING


_NOTHING = nullcontext()

UNTRACED: Final = Untraced()


class Tracer(Untraced):
    """Collects a trace.

    Threads: safe to use from all threads.
    """

    def __init__(self) -> None:
        self.native: Trace = Trace(CAPACITY)
        self._began = time.monotonic_ns()
        self._spans: list[_Span] = []
        self._lost = 0
        self._rows: dict[int, str] = {}
        self._compiling: dict[tuple[int, str], int] = {}
        self._current = 0

    def name_row(self, row: int, name: str) -> None:
        """Set the name of the row of a group; the first row is that of the main thread."""
        self._current = self._current or row
        self._rows[row] = name

    def _row(self) -> int:
        """Return the row of the calling thread: that of its group, or that of the main group."""
        member = current_member()
        return member if member in self._rows else self._current

    @contextmanager
    def span(self, name: str, **what: object) -> Iterator[None]:
        """Record a span on the row of the calling thread, as a context manager.

        Args:
            name: The name of the span.
            what: Its arguments; modules are recorded by name.
        """
        args = {key: _shown(value) for key, value in what.items()}
        start = time.monotonic_ns()
        try:
            yield
        except BaseException as error:
            args["error"] = type(error).__name__
            raise
        finally:
            self._add(start, name, args)

    @property
    def observer(self) -> Observer:
        """The observer that records compilations."""
        return self._compile

    def _compile(self, what: Compiling) -> None:
        row = self._row()
        if not what.done:
            self._compiling[row, what.name] = time.monotonic_ns()
            return
        start = self._compiling.pop((row, what.name), None)
        if start is not None:
            self._add(start, "compile", {"module": what.name, "bytes": what.size})

    def _add(self, start: int, name: str, args: dict[str, Any]) -> None:
        if len(self._spans) < CAPACITY:
            self._spans.append(_Span(start, time.monotonic_ns(), self._row(), name, args))
        else:
            self._lost += 1

    def document(self, program: str) -> dict[str, Any]:
        """Return the trace as an object for ``json.dump``. Unfinished spans end now."""
        now = time.monotonic_ns()
        process = os.getpid()
        rows: dict[int, list[tuple[int, TraceKind, int]]] = {}
        for when, kind, group, detail in self.native.events():
            rows.setdefault(group, []).append((when, kind, detail))
        spans = list(self._spans)
        for row, events in rows.items():
            bounds = sorted(
                bound for each in self._spans if each.row == row for bound in (each.start, each.end)
            )
            spans += self._spans_of(row, events, bounds, now)
        named = {**dict.fromkeys((each.row for each in spans), ""), **self._rows}
        metadata: list[dict[str, Any]] = [
            {"ph": "M", "pid": process, "tid": 0, "name": "process_name", "args": {"name": program}}
        ]
        for row in sorted(named):
            metadata.append(
                {
                    "ph": "M",
                    "pid": process,
                    "tid": row,
                    "name": "thread_name",
                    "args": {"name": self._name(row)},
                }
            )
            metadata.append(
                {
                    "ph": "M",
                    "pid": process,
                    "tid": row,
                    "name": "thread_sort_index",
                    "args": {"sort_index": row},
                }
            )
        shown = [
            {
                "ph": "X",
                "pid": process,
                "tid": each.row,
                "ts": (each.start - self._began) / 1000,
                "dur": (each.end - each.start) / 1000,
                "name": each.name,
                "cat": "pylinker",
                "args": each.args,
            }
            for each in sorted(spans, key=lambda each: (each.row, each.start, -each.end))
        ]
        lost = self._lost + self.native.lost
        return {
            "traceEvents": [*metadata, *shown],
            "displayTimeUnit": "ns",
            "otherData": {"lost": lost},
        }

    def _name(self, row: int) -> str:
        return self._rows.get(row) or f"group {row}"

    def _spans_of(
        self, row: int, events: list[tuple[int, TraceKind, int]], bounds: list[int], now: int
    ) -> Iterator[_Span]:
        """Iterate over the spans of the events of the core on one row.

        ``bounds`` has the start and end of each Python span on this row.
        """
        stack: list[tuple[int, TraceKind, int]] = []
        parked: int | None = None
        for when, kind, detail in events:
            if kind is TraceKind.UNPARK and parked is not None:
                index = bisect.bisect_left(bounds, parked)
                # Else the thread ran Python code, which has spans of its own.
                if index == len(bounds) or bounds[index] >= when:
                    yield _Span(parked, when, row, "parked", {})
            parked = when if kind is TraceKind.PARK else None
            if kind in _BEGINS:
                stack.append((when, kind, detail))
            elif kind is TraceKind.DEAD:
                while stack:
                    yield self._closed(row, stack.pop(), when, None)
            elif stack and _BEGINS[stack[-1][1]] == _ENDS[kind]:
                yield self._closed(row, stack.pop(), when, detail)
        while stack:
            yield self._closed(row, stack.pop(), now, None)

    def _closed(
        self, row: int, begin: tuple[int, TraceKind, int], end: int, result: int | None
    ) -> _Span:
        start, kind, detail = begin
        name = _BEGINS[kind]
        args: dict[str, Any] = {}
        if kind is TraceKind.AWAIT_BEGIN:
            name, args = f"wait for {self._name(detail)}", {"thread": self._name(detail)}
            if result is not None:
                args["found"] = _CAME[result]
        elif kind is TraceKind.REPLAY_BEGIN:
            args = {"operations": detail}
        elif kind is TraceKind.LEAD_BEGIN:
            args = {"barrier": detail}
        if result is None:
            args["unfinished"] = True
        elif result and kind in (TraceKind.REPLAY_BEGIN, TraceKind.LEAD_BEGIN):
            args["failed"] = True
        return _Span(start, end, row, name, args)
