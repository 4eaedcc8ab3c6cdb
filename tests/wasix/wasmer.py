"""Run a WASIX program under wasmer-sdk, the oracle, in its own process: it may hang or crash."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pylinker import benchmarks
from running import Outcome

TRAP = -1
"""The status of a program that a trap has ended."""

HUNG = -2
"""The status of a program that has not ended in time; what it had written until then is there."""

GRACE = 10
"""Seconds after the deadline until the process is killed from outside."""

SCRIPT = Path(benchmarks.__file__).with_name("wasmer_process.py")

# What wasmer says of a thread that trapped; the program's status is then 129.
THREAD_TRAPPED = b"failed with runtime error"


def available() -> bool:
    """Whether wasmer-sdk is installed."""
    return importlib.util.find_spec("wasmer_sdk") is not None


def run(
    main: Path | bytes, files: Mapping[str, bytes], args: Sequence[str] = (), timeout: float = 30
) -> Outcome:
    """Run a program with these files, whose names are in ``/lib`` unless they begin with a slash.

    Blocks until it has ended, for ``timeout`` plus GRACE seconds at most. Whatever becomes of the
    process, its answer counts if it gave one: wasmer may abort it when threads are left.
    """
    placed = {
        name if name.startswith("/") else f"/lib/{name}": data for name, data in files.items()
    }
    job = pickle.dumps(
        (main if isinstance(main, bytes) else main.read_bytes(), placed, list(args), timeout)
    )
    with (
        tempfile.TemporaryDirectory() as directory
    ):  # wasmer keeps compiled code in the current directory
        try:
            done = subprocess.run(
                [sys.executable, SCRIPT],
                input=job,
                capture_output=True,
                cwd=directory,
                timeout=timeout + GRACE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(HUNG, "", f"killed {GRACE} seconds after the deadline")
    if not done.stdout:
        raise RuntimeError(
            f"no answer from wasmer, exit status {done.returncode}:\n"
            f"{done.stderr.decode(errors='replace')}"
        )
    status, stdout, stderr = pickle.loads(done.stdout)
    if status == 129 and THREAD_TRAPPED in done.stderr:
        status = TRAP
    return Outcome(status, stdout, stderr + done.stderr.decode(errors="replace"))
