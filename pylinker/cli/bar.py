"""The progress bar of long operations."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from pylinker.cli.output import printable

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Bar"]

REDRAWN = 2  # maximum rate per second: the thread that draws takes time from the measurement


class Bar:
    """A progress bar on stderr, if that is a terminal; a context manager that shows it."""

    def __init__(self) -> None:
        err = Console(stderr=True, markup=False, emoji=False, highlight=False)
        name = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # shrinks before the others
        columns = (
            TextColumn("{task.completed:.0f}/{task.total}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False, table_column=name),
        )
        self.progress = Progress(
            *columns,
            console=err,
            transient=True,
            disable=not sys.stderr.isatty(),
            refresh_per_second=REDRAWN,
            speed_estimate_period=600,
            expand=True,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        self.progress.stop()

    def start(self, count: int) -> None:
        """Show an empty bar for ``count`` parts."""
        self.task = self.progress.add_task("", total=count)

    def begin(self, name: str) -> None:
        """Show the name of the current part."""
        if self.task is not None:
            self.progress.update(self.task, description=printable(name))

    def end(self) -> None:
        """Advance by one part."""
        self.advance(1)

    def advance(self, parts: float) -> None:
        """Advance by some parts."""
        if self.task is not None:
            self.progress.advance(self.task, parts)
