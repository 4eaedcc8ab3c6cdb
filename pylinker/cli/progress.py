"""The progress bar for the compilation of a large module, on stderr if that is a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pylinker.cli.output import printable
from pylinker.runtime.progress import Compiling, Observer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["compilations"]

LARGE = 1 << 20  # bytes; smaller ones are compiled before a bar could be read


class _Bar:
    """An observer of compilations. Their progress is unknown, so the bar only moves."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: Compiling) -> None:
        if what.size < LARGE:
            return
        if self._progress is None:
            self._progress = _progress()
        if not what.done:
            self._progress.start()
            self._tasks[what.name] = self._progress.add_task(
                f"{printable(what.name)}, {what.size / 1e6:.1f} MB", total=None
            )
            return
        task = self._tasks.pop(what.name, None)
        if task is not None:
            self._progress.remove_task(task)
        if not self._tasks:
            self._progress.stop()  # before the program writes anything


def _progress() -> Progress:
    # A program with small or cached modules starts without these.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("compiling {task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
    )
    err = Console(stderr=True, markup=False, emoji=False, highlight=False)
    return Progress(*columns, console=err, transient=True, refresh_per_second=8)


def compilations() -> Observer | None:
    """Return an observer that draws a bar, or None if stderr is no terminal."""
    return _Bar() if sys.stderr.isatty() else None
