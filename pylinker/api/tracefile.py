"""The file that a program's trace is written to."""

from __future__ import annotations

import json
import os

from pylinker.linker import Tracer

__all__ = ["TraceFile"]


class TraceFile:
    """A trace and its file, which is created at once, so that an OSError comes before the run."""

    tracer: Tracer
    """Collects the trace."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._owner = os.getpid()  # a child of fork() does not write it
        with open(path, "w", encoding="utf-8"):
            pass
        self.tracer = Tracer()

    def write(self, program: str) -> None:
        """Write the trace so far. Raises OSError."""
        if os.getpid() != self._owner:
            return
        with open(self._path, "w", encoding="utf-8") as file:
            json.dump(self.tracer.document(program), file, separators=(",", ":"))
