"""The file that a program's trace is written to."""

from __future__ import annotations

import json
import os

from pylinker.linker import Tracer

__all__ = ["TraceFile"]


class TraceFile:
    """A trace and its file, which is made at once: OSError now, and not when there is something to lose. ``tracer`` collects."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._owner = os.getpid()  # a child of fork() does not write it
        with open(path, "w", encoding="utf-8"):
            pass
        self.tracer = Tracer()

    def write(self, program: str) -> None:
        """Write what was collected so far. OSError."""
        if os.getpid() != self._owner:
            return
        with open(self._path, "w", encoding="utf-8") as file:
            json.dump(self.tracer.document(program), file, separators=(",", ":"))
