"""Operations that a signal's exception may interrupt at any place, and leave nothing behind.

``interrupts_survey.py`` has more operations than these; it tells by file and line where they do not hold this yet.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from interrupts_survey import COMPANIES

SURVEY = Path(__file__).with_name("interrupts_survey.py")
MENDED = ("bind", "call-numbers", "call-strings", "dlsym", "host-call")
TIMEOUT = 280


def survey(operation: str, company: str, step: int, offset: int = 0) -> None:
    command = [sys.executable, str(SURVEY), operation, company, str(step), str(offset)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT, cwd=SURVEY.parent)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["places"] > 100
    assert not found["failures"], "\n".join(f"{place}: {wrong}" for place, wrong in found["failures"])


@pytest.mark.parametrize("company", COMPANIES)
@pytest.mark.parametrize("operation", MENDED)
def test_one_place_in_eight(operation: str, company: str) -> None:
    survey(operation, company, 8, COMPANIES.index(company))


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT + 20)
@pytest.mark.parametrize("company", COMPANIES)
@pytest.mark.parametrize("operation", MENDED)
def test_every_place(operation: str, company: str) -> None:
    survey(operation, company, 1)


def closes(step: int) -> None:
    """An interrupted ``Library.close`` is completed by the next one, unless the state itself was being changed."""
    command = [sys.executable, str(SURVEY), "close", "alone", str(step)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT, cwd=SURVEY.parent)
    assert result.returncode == 0, result.stderr
    failures = json.loads(result.stdout)["failures"]
    assert not [place for place, _ in failures if place.startswith(("api/", "linker/destructors.py"))], failures


def test_a_library_that_was_interrupted_while_it_closed_closes() -> None:
    closes(8)


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT + 20)
def test_a_library_closes_wherever_it_was_interrupted() -> None:
    closes(1)
