"""Runs the benchmarks: pytest in a process of its own, which reports progress through a pipe.

The process has a session of its own, so that Ctrl-C interrupts only this one, which then ends the
other. It uses no configuration, plugins or compile cache of the user, and its files, results
included, are in a temporary directory that is removed with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pylinker.bench.facts import gather
from pylinker.bench.location import BrokenRunError, find_benchmarks
from pylinker.bench.plugin import NOT_INSTALLED
from pylinker.bench.results import Absent, Run, from_pytest

__all__ = ["BrokenRunError", "Observer", "UnknownNameError", "measure"]

CONFIGURATION = """[pytest]
python_files = bench_*.py
python_functions = bench_*
"""
# A round is long enough that reading the clock does not matter; a benchmark is as many rounds as
# fit into its time. The first one, which binds and fills caches, must not determine that number.
BOTH = ("--benchmark-min-time=0.0001", "--benchmark-warmup=on", "--benchmark-warmup-iterations=5")
FULL = (*BOTH, "--benchmark-max-time=1", "--benchmark-min-rounds=10")
QUICK = (*BOTH, "--benchmark-max-time=0.05", "--benchmark-min-rounds=3")
ENDED = {0, 1, 5}  # pytest's statuses: all passed, some failed, none was selected
PATIENCE = 10  # seconds within which an interrupted run must end by itself


class UnknownNameError(ValueError):
    """A name matches nothing. ``known`` are the names of all files and groups."""

    def __init__(self, unknown: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(
            f"no benchmark file or group has {', '.join(map(repr, unknown))} in its name: "
            f"there are {'; '.join(known)}"
        )


class Observer(Protocol):
    """Observer of the progress."""

    def start(self, count: int) -> None:
        """``count`` benchmarks will run."""

    def begin(self, name: str) -> None:
        """The benchmark ``name`` starts."""

    def end(self) -> None:
        """It has ended, successfully or not."""


@dataclass
class Collected:
    """The contents of the events."""

    items: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped: list[Absent] = field(default_factory=list)
    failed: list[Absent] = field(default_factory=list)
    failed_ids: set[str] = field(default_factory=set)
    details: list[str] = field(default_factory=list)
    running: str | None = None


def measure(names: Sequence[str], observer: Observer, *, quick: bool) -> tuple[Run, list[str]]:
    """Run the benchmarks with one of ``names`` in the name of file or group; all without names.

    Blocks until they have ended. An exception here, ``KeyboardInterrupt`` too, ends the measuring
    process.

    Returns:
        The results, and pytest's report of each benchmark that failed.

    Raises:
        UnknownNameError: A name matches nothing.
        BrokenRunError: pytest ended without results.
    """
    facts, created = gather(), datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="pylinker-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        collected = Collected()
        with process(directory, names, quick=quick) as (child, events):
            for line in events:
                if line.endswith(b"\n"):  # incomplete if the process was killed
                    observe(json.loads(line), collected, observer)
            status = child.wait()
        results = directory / "results.json"
        if status not in ENDED or collected.running is not None:
            raise BrokenRunError(
                account(
                    status,
                    collected,
                    (directory / "output").read_text(encoding="utf-8", errors="replace"),
                )
            )
        groups = (
            from_pytest(json.loads(results.read_bytes()), collected.failed_ids)
            if results.exists()
            else ()
        )
    run = Run(
        created,
        quick,
        tuple(names),
        facts,
        groups,
        tuple(collected.skipped),
        tuple(collected.failed),
    )
    return run, collected.details


def _command(
    benchmarks: Path, directory: Path, names: Sequence[str], writer: int, *, quick: bool
) -> list[str]:
    """Return the command that runs the benchmarks, with its events written to ``writer``."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(benchmarks),
        "-c",
        str(directory / "pytest.ini"),
        f"--rootdir={benchmarks}",
    ]
    command += [
        f"--confcutdir={benchmarks}",
        f"--basetemp={directory / 'tmp'}",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
    ]
    command += [
        "--continue-on-collection-errors",
        "-p",
        "pytest_benchmark.plugin",
        "-p",
        "pylinker.bench.plugin",
    ]
    command += [f"--bench-events={writer}", *(f"--bench-select={name}" for name in names)]
    command += [
        *(QUICK if quick else FULL),
        "--benchmark-quiet",
        f"--benchmark-json={directory / 'results.json'}",
    ]
    return command


@contextmanager
def process(
    directory: Path, names: Sequence[str], *, quick: bool
) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[bytes]]]:
    """Start pytest, and end it and its children.

    Yields the process and the lines it writes to the pipe.
    """
    benchmarks = find_benchmarks()
    (directory / "pytest.ini").write_text(CONFIGURATION, encoding="utf-8")
    reader, writer = os.pipe()
    command = _command(benchmarks, directory, names, writer, quick=quick)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYLINKER_BENCH_QUICK": str(int(quick)),
        "PYLINKER_CACHE": str(directory / "cache"),
    }
    with open(reader, "rb") as events, open(directory / "output", "wb") as output:
        try:
            child = subprocess.Popen(  # noqa: S603 - this Python; pytest only compares the names
                command,
                cwd=directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writer],
                start_new_session=True,
            )
        finally:
            os.close(writer)
        try:
            yield child, events
        finally:
            end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ensure that all processes of its session have ended.

    Blocks for ``PATIENCE`` seconds at most.
    """
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
    with suppress(
        ProcessLookupError, PermissionError
    ):  # the latter on some systems, when only zombies remain
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def observe(event: dict[str, Any], collected: Collected, observer: Observer) -> None:
    """Process one event of ``plugin``."""
    if event["event"] == "collected":
        if event["unknown"]:
            raise UnknownNameError(event["unknown"], event["known"])
        collected.items = {item["id"]: item for item in event["items"]}
        observer.start(len(collected.items))
    elif event["event"] == "begin":
        item = collected.items[event["id"]]
        collected.running = f"{item['group']}: {item['name']}"
        observer.begin(collected.running)
    elif event["event"] == "end":
        item, reason = collected.items[event["id"]], event["reason"]
        collected.running = None
        if event["outcome"] != "passed":
            peer = reason.removeprefix(NOT_INSTALLED) if reason.startswith(NOT_INSTALLED) else None
            absent = Absent(item["file"], item["group"], item["name"], reason, peer)
            (collected.skipped if event["outcome"] == "skipped" else collected.failed).append(
                absent
            )
        if event["outcome"] == "failed":
            collected.failed_ids.add(event["id"])
            collected.details.append(event["details"])
        observer.end()
    elif event["event"] == "broken":
        collected.failed.append(Absent(event["file"], "", "", event["reason"]))
        collected.details.append(event["details"])


def account(status: int, collected: Collected, output: str) -> str:
    """Return a description of pytest's end without results."""
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    where = f" while it measured {collected.running!r}" if collected.running else ""
    return "\n".join(
        [f"the process that measures ended {how}{where}", *output.strip().splitlines()[-20:]]
    )
