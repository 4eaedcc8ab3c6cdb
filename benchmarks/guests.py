"""The WASIX program `guest/main.c`, which reads its own clock, run by pylinker and by wasmer.

Both run the same files. The program's arguments say what it measures; it answers with samples, and
one run serves all benchmarks that want something of it.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path

import pylinker
from pylinker.benchmarks.roles import peer, quick

__all__ = ["Guests"]

GUEST = Path(__file__).with_name("guest")
LIBRARIES = 100  # names under which the small library is there
DEADLINE = 300  # seconds, for a run


class Guests:
    """Runs the program with its libraries, which are written to ``directory``.

    The small library is written as a hundred files, which the program opens.
    """

    def __init__(self, directory: Path) -> None:
        self._root = directory / "root"
        (self._root / "lib").mkdir(parents=True)
        for path in GUEST.glob("*.so"):
            names = (
                [f"libsmall{n:03}.so" for n in range(LIBRARIES)]
                if path.name == "libsmall.so"
                else [path.name]
            )
            for name in names:
                (self._root / "lib" / name).write_bytes(path.read_bytes())
        self._samples = cache(self._run)

    def seconds(self, contender: str, what: str, *args: object) -> list[float]:
        """Return the times of each ``what`` in a run of the program with ``args``, in order.

        ``contender`` is ``pylinker`` or ``wasmer-sdk``; skips if that is not installed. Blocks
        while the program runs, three times unless this is a quick run.
        """
        return [
            time
            for each in range(1 if quick() else 3)
            for time in self._samples(contender, tuple(map(str, args)), each)[what]
        ]

    def fresh(self, what: str, *args: object) -> list[float]:
        """Return the times of each ``what`` in a fresh run, for a comparison. Blocks."""
        return self._run("pylinker", tuple(map(str, args)), 0)[what]

    def _run(self, contender: str, args: tuple[str, ...], _turn: int) -> dict[str, list[float]]:
        output = self._pylinker(args) if contender == "pylinker" else self._wasmer(args)
        results = [json.loads(line) for line in output.splitlines()]
        return {
            each["what"]: [
                nanoseconds / each["operations"] / 1e9 for nanoseconds in each["samples"]
            ]
            for each in results
        }

    def _pylinker(self, args: tuple[str, ...]) -> str:
        with pylinker.Program(
            GUEST / "main.wasm", args=args, dirs={"/": self._root}, stdout=pylinker.CAPTURE
        ) as program:
            assert program.run() == 0
            return program.stdout.decode()

    def _wasmer(self, args: tuple[str, ...]) -> str:
        peer("wasmer-sdk")
        files = {f"/lib/{path.name}": path.read_bytes() for path in (self._root / "lib").iterdir()}
        job = pickle.dumps(((GUEST / "main.wasm").read_bytes(), files, list(args), DEADLINE))
        command = [sys.executable, Path(__file__).with_name("wasmer_process.py")]
        done = subprocess.run(
            command,
            input=job,
            capture_output=True,
            cwd=self._root,
            timeout=DEADLINE + 10,
            check=False,
        )
        status, stdout, stderr = pickle.loads(done.stdout)
        assert status == 0, stderr
        return str(stdout)
