"""Operations interrupted at any point leave nothing behind: see interrupts_survey.py.

An exception comes at each place where CPython looks for signals, from a signal handler; and a
RecursionError where the operation runs out of frames. Afterwards it has arrived as it was, no lock
or token is held, modules, memory, slots and threads are those before or those after, nothing was
printed, and the next ``dlopen`` of any thread works.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pylinker
from fields import wasm
from interrupts_survey import COMPANIES, OPERATIONS, THREADED
from pylinker.native.search import RegularFile

SURVEY = Path(__file__).with_name("interrupts_survey.py")
TIMEOUT = 600
MODULES = ("open", "fail-to-open", "fail-to-instantiate", "close", "dlsym", "statistics")
CALLS = ("call-numbers", "call-strings", "call-long-strings", "host-call", "bind")
PROGRAMS = ("make-program", "fail-to-make-program", "close-program", "make-library")
THREADS = ("spawn", "join")
GROUPS = {"modules": MODULES, "calls": CALLS, "programs": PROGRAMS, "threads": THREADS}
CASES = [
    pytest.param(company, group, id=f"{group}-{company}")
    for company in COMPANIES
    for group, operations in GROUPS.items()
    if company != "alone" or not THREADED.issuperset(operations)
]


def survey(company: str, error: str, step: int, offset: int, *operations: str) -> None:
    command = [sys.executable, str(SURVEY), company, error, str(step), str(offset), *operations]
    env = {**os.environ, "PYTHONWARNINGS": "error"}
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        cwd=SURVEY.parent,
        env=env,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    found = json.loads(result.stdout)
    assert list(found) == list(operations)
    assert all(each["places"] > 5 for each in found.values())
    failures = [(name, *failure) for name, each in found.items() for failure in each["failures"]]
    assert not failures, "\n".join(f"{name}, {place}: {wrong}" for name, place, wrong in failures)


def test_every_operation_is_interrupted() -> None:
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(OPERATIONS)


@pytest.mark.parametrize("company", COMPANIES)
def test_an_interrupt_at_one_place_in_eight_of_a_call(company: str) -> None:
    survey(company, "KeyboardInterrupt", 8, COMPANIES.index(company), *CALLS)


@pytest.mark.parametrize("company", COMPANIES[1:])
def test_an_interrupt_at_one_place_in_eight_of_a_start_of_a_thread(company: str) -> None:
    survey(company, "KeyboardInterrupt", 8, COMPANIES.index(company), *THREADS)


def test_an_interrupt_at_some_places_of_loads_and_programs() -> None:
    survey("running", "KeyboardInterrupt", 40, 5, *MODULES)
    survey("alone", "KeyboardInterrupt", 150, 7, *PROGRAMS)


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT + 20)
@pytest.mark.parametrize("offset", range(16))
@pytest.mark.parametrize(("company", "group"), CASES)
def test_an_interrupt_at_every_place(company: str, group: str, offset: int) -> None:
    """These operations use their own program, without threads: every eighth point is enough."""
    if group == "programs" and company != "alone":
        survey(company, "KeyboardInterrupt", 128, 8 * offset, *GROUPS[group])
    else:
        survey(company, "KeyboardInterrupt", 16, offset, *GROUPS[group])


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT + 20)
@pytest.mark.parametrize("error", ["RecursionError", "MemoryError", "TimeoutError"])
@pytest.mark.parametrize(("company", "group"), CASES)
def test_another_error_at_some_places(company: str, group: str, error: str) -> None:
    survey(company, error, 40, 3 + COMPANIES.index(company), *GROUPS[group])


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT + 20)
@pytest.mark.parametrize("group", ["modules", "calls", "programs"])
@pytest.mark.parametrize("company", ["alone", "waiting"])
def test_too_few_frames(company: str, group: str) -> None:
    """The limit of frames is that of all threads: so none of Python's runs or starts meanwhile."""
    survey(company, "RecursionError", 0, 0, *GROUPS[group])


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        pytest.param(RegularFile, "read", TimeoutError("late"), id="read-handler"),
        pytest.param(RegularFile, "read", OSError(errno.EIO, "failed"), id="read-system"),
        pytest.param(os, "readlink", TimeoutError("late"), id="readlink-handler"),
    ],
)
def test_an_error_of_a_handler_is_none_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: OSError
) -> None:
    """A handler that raises TimeoutError, an OSError, to end a wait; the system's have an errno."""
    path = wasm(tmp_path / "libone.so")
    function = getattr(owner, name)

    def failing(of: Any, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(of, RegularFile) or str(path) in str(of):
            raise error
        return function(of, *arguments, **keywords)

    monkeypatch.setattr(owner, name, failing)
    for _ in range(2):
        with pytest.raises(
            TimeoutError if error.errno is None else pylinker.LibraryNotFoundError
        ) as raised:
            pylinker.CDLL(path, cache=False)
        assert error.errno is not None or raised.value is error
