"""A pytest plugin in the measuring process: selects benchmarks, and reports events to a pipe.

Each event is a line of JSON, with these keys:

- ``collected``: ``items``: the selection; ``known``: all files and groups; ``unknown``: names that
  match none;
- ``begin``: ``id``;
- ``end``: ``id``, ``outcome`` (passed, skipped, failed), ``reason`` (one line), ``details``;
- ``broken``: ``file``, ``reason``, ``details``: a file that could not be imported.

An ``id`` is pytest's node id. Each item has ``id``, ``file``, ``group`` and ``name``. If the pipe
is closed the run ends.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["NOT_INSTALLED", "group_of", "short"]

NOT_INSTALLED = "not installed: "  # a skip for this reason is a missing peer


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that ``runner`` passes."""
    parser.addoption("--bench-events", type=int, help="file descriptor to write events to")
    parser.addoption(
        "--bench-select", action="append", default=[], help="part of the name of a file or group"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start to report."""
    config.pluginmanager.register(
        Reporter(config.getoption("--bench-events"), config.getoption("--bench-select"))
    )


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """Return nothing: ``facts`` has it, and pytest-benchmark needs a second for it."""
    return {}


def pytest_benchmark_generate_commit_info() -> dict[str, Any]:
    """Return nothing: the suite is not run in a repository."""
    return {}


def short(file: str) -> str:
    """Return the short name of a benchmark file: ``call`` for ``bench_call.py``."""
    return Path(file).stem.removeprefix("bench_")


def group_of(item: pytest.Item) -> str:
    """Return the group that a benchmark declares, or its own name."""
    marker = item.get_closest_marker("benchmark")
    return str((marker.kwargs.get("group") if marker else None) or item.name)


def describe(item: pytest.Item) -> dict[str, str]:
    """Return an item in the form for the parent process."""
    return {
        "id": item.nodeid,
        "file": item.path.name,
        "group": group_of(item),
        "name": item.name.removeprefix("bench_"),
    }


class Reporter:
    """The writing end of the pipe."""

    def __init__(self, descriptor: int, names: list[str]) -> None:
        self.descriptor = descriptor
        self.names = names
        self.outcomes: dict[str, dict[str, str]] = {}
        # Only this process has the pipe, not those that a benchmark leaves behind.
        os.set_inheritable(descriptor, False)  # noqa: FBT003  # it takes no keywords

    def send(self, event: str, **keys: Any) -> None:
        """Write one event; blocks while the pipe is full."""
        data = json.dumps({"event": event, **keys}).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self.descriptor, data) :]
        except BrokenPipeError:
            pytest.exit("the results are not read", returncode=pytest.ExitCode.INTERRUPTED)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Filter the items, and report the selection."""
        known = sorted({short(item.path.name) for item in items}) + sorted(
            {group_of(item) for item in items}
        )
        unknown = [
            name for name in self.names if not any(name.lower() in each.lower() for each in known)
        ]
        selected = [item for item in items if self.selects(item)] if not unknown else []
        config.hook.pytest_deselected(items=[item for item in items if item not in selected])
        items[:] = selected
        self.send("collected", items=list(map(describe, selected)), known=known, unknown=unknown)

    def selects(self, item: pytest.Item) -> bool:
        """Return whether the file or group of an item was named; True without names."""
        texts = (short(item.path.name).lower(), group_of(item).lower())
        return not self.names or any(name.lower() in text for name in self.names for text in texts)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Report a file that could not be imported."""
        if report.failed:
            lines = report.longreprtext.strip().splitlines() or ["unknown"]
            self.send(
                "broken",
                file=Path(report.nodeid).name,
                reason=lines[-1].removeprefix("E").strip(),
                details="\n".join(lines),
            )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Report which benchmark runs."""
        self.outcomes[nodeid] = {"outcome": "passed", "reason": "", "details": ""}
        self.send("begin", id=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the first failure, in setup, call or teardown."""
        outcome = self.outcomes[report.nodeid]
        if report.outcome != "passed" and outcome["outcome"] != "failed":
            outcome.update(
                outcome=report.outcome, reason=reason(report), details=report.longreprtext
            )

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Report the outcome; free the resources of a failed one, whose traceback pytest keeps."""
        if self.outcomes[nodeid]["outcome"] == "failed":
            for name in ("last_exc", "last_type", "last_value", "last_traceback"):
                if hasattr(sys, name):
                    setattr(sys, name, None)
            gc.collect()
        self.send("end", id=nodeid, **self.outcomes.pop(nodeid))


def reason(report: pytest.TestReport) -> str:
    """Return in one line why a benchmark was skipped or failed."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else report.longreprtext).strip().splitlines()
    return str(lines[0] if lines else report.outcome)
