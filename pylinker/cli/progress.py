"""The bar that shows that a large module is being compiled: on stderr, if that is a terminal, and nowhere else."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pylinker.cli.output import printable
from pylinker.runtime.progress import Compiling, Observer

__all__ = ["compilations"]

LARGE = 1 << 20  # bytes; less is compiled before a bar could be read


class _Bar:
    """An observer of compilations. How far one has come nobody knows, so the bar only moves."""

    def __init__(self) -> None:
        columns = (TextColumn("compiling {task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        err = Console(stderr=True, markup=False, emoji=False, highlight=False)
        self._progress = Progress(*columns, console=err, transient=True, refresh_per_second=8)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: Compiling) -> None:
        if what.size < LARGE:
            return
        if not what.done:
            self._progress.start()
            self._tasks[what.name] = self._progress.add_task(f"{printable(what.name)}, {what.size / 1e6:.1f} MB", total=None)
            return
        task = self._tasks.pop(what.name, None)
        if task is not None:
            self._progress.remove_task(task)
        if not self._tasks:
            self._progress.stop()  # before the program writes anything


def compilations() -> Observer | None:
    """Return an observer that draws a bar, or None if there is no terminal to draw it on."""
    return _Bar() if sys.stderr.isatty() else None
