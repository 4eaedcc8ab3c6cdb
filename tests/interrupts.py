"""Raise an exception at each point of pylinker's Python code at which CPython may raise one.

A signal's exception appears at RESUME, at JUMP_BACKWARD and right after CALL: the interpreter looks
there whether a signal has come. A trace function cannot raise there itself (its exception appears
before the next instruction, which may lie in another entry of the exception table). So it makes a
signal pending, by an attribute that is written in C: that leaves no such place in the trace
function. The interpreter then handles the signal at the next place of its own, whatever its
version.
"""

from __future__ import annotations

import _thread
import dis
import gc
import operator
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pylinker

__all__ = ["Interrupter", "Place", "trace_opcodes"]

PACKAGE = str(Path(pylinker.__file__).parent)
_PLACES = ("RESUME", "JUMP_BACKWARD", "CALL", "PRECALL", "INSTRUMENTED")
_offsets: dict[CodeType, frozenset[int]] = {}


def trace_opcodes(frame: FrameType, trace: Any) -> None:
    """Have ``trace``, of :func:`sys.settrace`, called for each instruction of a frame."""
    frame.f_trace = trace  # before the next: else CPython 3.13 does nothing
    frame.f_trace_opcodes = True


# CPython 3.12 looks for this when sys.settrace is called.
sys._getframe().f_trace_opcodes = True


class Place(NamedTuple):
    """Where an exception appeared."""

    file: str
    line: int | None
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith((PACKAGE, "<pylinker."))


def _place(frame: FrameType) -> Place:
    """Return the innermost place in the package."""
    while not _is_ours(frame.f_code) and frame.f_back is not None:
        frame = frame.f_back
    return Place(
        frame.f_code.co_filename.removeprefix(PACKAGE + "/"),
        frame.f_lineno,
        getattr(frame.f_code, "co_qualname", frame.f_code.co_name),
    )


def _is_place(code: CodeType, offset: int) -> bool:
    offsets = _offsets.get(code)
    if offsets is None:
        offsets = _offsets[code] = frozenset(
            each.offset for each in dis.get_instructions(code) if each.opname.startswith(_PLACES)
        )
    return offset in offsets


class _Armed:
    """Make SIGINT pending when ``now`` is read, with no check for signals before its reader."""

    now = property(operator.methodcaller("fire"))

    def __init__(self) -> None:
        self.fire = _thread.interrupt_main


class _Tracer:
    """Counts places, and makes the signal pending at one.

    Frames keep it: so it does not lead to the exception.
    """

    def __init__(self, at: int) -> None:
        self.seen = 0
        self._at = at
        self._armed = _Armed()

    def trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "call":
            if not _is_ours(frame.f_code):
                return None
            trace_opcodes(frame, self.trace)
        elif event != "opcode" or not _is_place(frame.f_code, frame.f_lasti):
            return self.trace
        self.seen += 1
        if self.seen == self._at + 1:
            sys.settrace(
                None
            )  # else the signal would be handled when the trace function is called again
            self._armed.now  # noqa: B018
        return self.trace


class Interrupter:
    """Make a signal pending at point ``at``, counted from 0.

    ``place`` is the point, ``error`` the exception of the handler.
    """

    def __init__(self, at: int, error: BaseException | None = None) -> None:
        self.place: Place | None = None
        self.error = KeyboardInterrupt("injected") if error is None else error
        self._tracer = _Tracer(at)

    @property
    def seen(self) -> int:
        """How many places there were."""
        return self._tracer.seen

    def _handle(self, _signal: int, frame: FrameType | None) -> None:
        if frame is not None:
            self.place = _place(frame)
        raise self.error

    @contextmanager
    def running(self) -> Iterator[None]:
        """Raise within the block, on the main thread.

        The collector, which may finalize objects of others, does not run there.
        """
        handler, trace, collects = (
            signal.signal(signal.SIGINT, self._handle),
            sys.gettrace(),
            gc.isenabled(),
        )
        gc.disable()
        try:
            sys.settrace(self._tracer.trace)
            try:
                yield
            finally:
                sys.settrace(trace)
        finally:
            signal.signal(signal.SIGINT, handler)
            if collects:
                gc.enable()

    def run(self, operation: Callable[[], Any]) -> BaseException | None:
        """Run an operation and return what it raised.

        What is raised a moment later, as after a finalizer, counts.
        """
        raised: BaseException | None = None
        with self.running():
            try:
                operation()
                for _ in range(8):
                    pass
            except BaseException as error:  # noqa: BLE001
                raised = error
        return raised
