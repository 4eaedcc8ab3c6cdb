"""Fixtures of the whole suite: the toolchain, built scenarios, and a private compile cache."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import guests
from recipes import RECIPES
from toolchain import Scenario, Toolchain

GRACE = 60
"""Seconds between the limit of a test, which fails it, and the end of a hanging process."""


def pytest_configure() -> None:
    """Keep a standard error that is not captured, for the stacks of a process that hangs.

    hypothesis times no single example. Ctrl-C reaches what tests start, whatever started them.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell's `&` leaves it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    guests.uncaptured = os.dup(2)
    settings.register_profile(
        "tests", deadline=None
    )  # 0.2 s by default, which a busy machine takes
    settings.load_profile("tests")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process of a test that outlives its limit because no signal reaches it.

    Under xdist that is one failed test, else the end of the session.
    """
    marker = item.get_closest_marker("timeout")
    limit = float(
        marker.args[0]
        if marker and marker.args
        else item.config.getoption("timeout") or item.config.getini("timeout")
    )
    guests.end_process_in(limit + GRACE if limit else float("inf"))
    try:
        return (yield)
    finally:
        guests.end_process_in(float("inf"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in captured output: pytest-xdist sends reports as UTF-8."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A compile cache for this session: its processes (xdist's workers) and their children."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pylinker-cache"
    directory.mkdir(exist_ok=True)
    before = os.environ.get("PYLINKER_CACHE")
    os.environ["PYLINKER_CACHE"] = str(directory)
    yield directory
    if before is None:
        del os.environ["PYLINKER_CACHE"]
    else:
        os.environ["PYLINKER_CACHE"] = before


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """zig and the cache of what it built."""
    return Toolchain()


@pytest.fixture(scope="session")
def scenario(toolchain: Toolchain) -> Scenario:
    """``scenario(name)`` is the directory with the built modules of ``tests/scenarios/name``.

    Tests only read there.
    """
    return lambda name: toolchain.scenario(name, RECIPES[name])


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fail a test that hangs: its threads may wait in C, which pytest's time limit cannot end."""
    with guests.orderly():
        yield


@pytest.fixture(params=[False, True], ids=["", "threads"])
def threads(request: pytest.FixtureRequest) -> bool:
    """Whether the program of a test is one with threads."""
    return bool(request.param)
