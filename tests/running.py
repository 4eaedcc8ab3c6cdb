"""Short words for what most end-to-end tests do: run a program and look at everything it did."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pylinker


class Outcome(NamedTuple):
    """The result of a program: its exit status and output."""

    status: int
    stdout: str
    stderr: str


def run(main: Path | bytes, *args: str, **keywords: Any) -> Outcome:
    """Run a program with captured output. Keywords are those of ``pylinker.Program``."""
    with pylinker.Program(
        main, args=args, stdout=pylinker.CAPTURE, stderr=pylinker.CAPTURE, **keywords
    ) as program:
        status = program.run()
        return Outcome(status, program.stdout.decode(), program.stderr.decode())


def spawn(directory: Path, main: Path, *args: str, stdin: str = "") -> Outcome:
    """Run a program in an interpreter of its own, with inherited streams.

    ``directory`` becomes the current one.

    That is an empty one for a reason: Python looks there first for modules, so in the repository it
    would find the sources of pylinker instead of what is installed.
    """
    script = (
        "import sys, pylinker; sys.exit(pylinker.Program(sys.argv[1], args=sys.argv[2:]).run())"
    )
    command = [sys.executable, "-c", script, str(main), *args]
    done = subprocess.run(
        command, cwd=directory, input=stdin, capture_output=True, text=True, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def lines(*expected: str) -> str:
    """The text of a program that printed these lines."""
    return "".join(f"{line}\n" for line in expected)


def copies(source: Path, target: Path, *names: str) -> Path:
    """Copy built modules into a new directory, where a test wants them to be found or not."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, target / name)
    return target


def used(program: pylinker.Program) -> tuple[object, ...]:
    """Resources of the loaded modules: a rolled back load frees all of them."""
    counts = program.statistics()
    return (
        counts.modules,
        counts.symbols,
        counts.table_used,
        counts.memory_used,
        counts.scope,
        program.libraries,
    )


def sizes(program: pylinker.Program) -> tuple[object, ...]:
    """The same with the sizes of memory and table, which only grow: a repeated load must not."""
    counts = program.statistics()
    return (*used(program), counts.table_slots, counts.memory_pages)


def trace(program: pylinker.Program) -> str:
    """The letters that the constructors and destructors of a scenario left in ``trace``."""
    return program.memory.cstring(program.dlsym(pylinker.RTLD_DEFAULT, "trace")).decode()
