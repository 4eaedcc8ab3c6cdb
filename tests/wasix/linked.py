"""Run a WASIX program under pylinker in its own process, which can be ended if it hangs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from running import Outcome
from wasix.wasmer import HUNG

SCRIPT = Path(__file__).with_name("linked_process.py")


def run(
    main: Path | bytes,
    files: Mapping[str, bytes],
    args: Sequence[str] = (),
    timeout: float = 30,
    *,
    preempt: bool = True,
) -> Outcome:
    """Run a program with these files, whose names are in ``/lib`` unless they begin with a slash.

    Blocks until it has ended, for ``timeout`` seconds at most. With ``preempt``, threads that
    compute let others open libraries.
    """
    with tempfile.TemporaryDirectory() as directory:
        root, stdout, stderr = (Path(directory) / name for name in ("root", "stdout", "stderr"))
        (root / "lib").mkdir(parents=True)
        for name, data in files.items():
            path = root / name.lstrip("/") if name.startswith("/") else root / "lib" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        program = (
            Path(directory) / "main.wasm"
        )  # apart from the libraries it was built with: its own directory is searched, too
        program.write_bytes(main if isinstance(main, bytes) else main.read_bytes())
        job = {
            "main": str(program),
            "root": str(root),
            "stdout": str(stdout),
            "stderr": str(stderr),
            "args": [*args],
            "preempt": preempt,
        }
        answer, complaint, status = "", "", HUNG
        try:
            done = subprocess.run(
                [sys.executable, SCRIPT, json.dumps(job)],
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            complaint = f"not ended after {timeout} seconds"
        else:
            answer, complaint = done.stdout, done.stderr
            if not answer:
                raise RuntimeError(f"no answer, exit status {done.returncode}:\n{complaint}")
            status = int(answer)
        return Outcome(status, _text(stdout), _text(stderr) + complaint)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
