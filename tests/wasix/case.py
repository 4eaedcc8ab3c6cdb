"""A run of a program: what it prints, and what wasmer is known to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Difference:
    """The behaviour of wasmer, and the reason why it is wrong.

    ``lines`` are lines of the case and what wasmer prints for them. ``stdout`` is everything it
    prints, where that is less.
    """

    why: str
    lines: Mapping[str, str] = field(default_factory=dict)
    stdout: str | None = None
    status: int | None = None


@dataclass(frozen=True)
class Case:
    """A run of a program of :data:`wasix.recipes.RECIPES`.

    ``files`` are names in ``/lib``, or absolute ones, and the built file or the bytes to put there;
    without it, all libraries of the recipe. ``hangs`` says why wasmer never ends it.
    """

    program: str
    stdout: str
    status: int = 0
    args: tuple[str, ...] = ()
    files: Mapping[str, str | bytes] | None = None
    wasmer: Difference | None = None
    hangs: str = ""

    def contents(self, directory: Path) -> dict[str, bytes]:
        """The files of the guest, from the directory of what was built."""
        files = (
            {path.name: path.name for path in directory.glob("*.so")}
            if self.files is None
            else self.files
        )
        return {
            name: data if isinstance(data, bytes) else (directory / data).read_bytes()
            for name, data in files.items()
        }

    def expected(self, runner: str) -> tuple[int, str]:
        """Exit status and standard output under a runner."""
        difference = self.wasmer
        if runner != "wasmer" or difference is None:
            return self.status, self.stdout
        text = self.stdout if difference.stdout is None else difference.stdout
        for right, wrong in difference.lines.items():
            assert text.count(f"{right}\n") == 1, f"not one line of the case: {right}"
            text = text.replace(f"{right}\n", f"{wrong}\n")
        return (self.status if difference.status is None else difference.status), text
