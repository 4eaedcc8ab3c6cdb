"""Counts how often a reader who follows an operation goes from one file to another.

Each call of a Python function of pylinker, and each call of the C core, is a place in a file; a
move is a call in another file than the one before. Calls between C functions are not seen. ``python
tests/walks.py`` prints the trips, ``--files`` also the files.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pylinker
from pylinker import demo

ROOT = Path(pylinker.__file__).resolve().parent
_DEFINED = re.compile(r"^(?:static )?[\w ]+[ *](pl_\w+)\([^;]*\{$", re.MULTILINE)


def _c_files() -> dict[str, str]:
    """Return the C file of each function of the core."""
    return {
        name: source.name
        for source in sorted((ROOT.parent / "csrc").rglob("*.c"))
        for name in _DEFINED.findall(source.read_text())
    }


class Walk:
    """The files of the calls of an operation, in order."""

    def __init__(self) -> None:
        self._files_of_c = _c_files()
        self.files: list[str] = []

    @property
    def moves(self) -> int:
        return sum(
            before != after for before, after in zip(self.files, self.files[1:], strict=False)
        )

    def _event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "benchmarks"):
                self.files.append(str(path.relative_to(ROOT)))
        elif event == "c_call":
            file = self._files_of_c.get(getattr(argument, "__name__", ""))
            if file is not None:
                self.files.append(file)

    def follow(self, operation: Callable[[], Any]) -> Any:
        sys.setprofile(self._event)
        try:
            return operation()
        finally:
            sys.setprofile(None)


def walks() -> dict[str, Walk]:
    """Take each trip once for the caches, and once more."""
    directory = Path(demo.MAIN).parent
    found: dict[str, Walk] = {}

    def trip(name: str, operation: Callable[[], Any]) -> Any:
        found[name] = Walk()
        return found[name].follow(operation)

    def take_all() -> None:
        program = trip(
            "Program(demo.MAIN)", lambda: pylinker.Program(demo.MAIN, library_path=[directory])
        )
        library = trip("dlopen, first", lambda: program.dlopen("libplugin.so"))
        trip("dlopen, again", lambda: program.dlopen("libplugin.so"))
        name = next(iter(library))
        trip('library["f"]', lambda: library[name])
        trip("dlsym", lambda: program.dlsym(library, name))
        trip("dlsym(RTLD_DEFAULT)", lambda: program.dlsym(pylinker.RTLD_DEFAULT, "greet"))
        program.close()

    take_all()
    take_all()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--files", action="store_true", help="also the files of each trip, with the calls in them"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = walks()
    if arguments.json:
        print(
            json.dumps(
                {
                    name: {
                        "calls": len(walk.files),
                        "files": len(set(walk.files)),
                        "moves": walk.moves,
                    }
                    for name, walk in found.items()
                }
            )
        )
        return
    print(f"{'trip':<24}{'calls':>8}{'files':>8}{'moves':>8}")
    for name, walk in found.items():
        print(f"{name:<24}{len(walk.files):>8}{len(set(walk.files)):>8}{walk.moves:>8}")
        if arguments.files:
            for file, calls in Counter(walk.files).most_common():
                print(f"    {file:<40}{calls:>4}")


if __name__ == "__main__":
    main()
