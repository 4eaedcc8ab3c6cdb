"""WASIX programs behave as under wasmer, the oracle, but for the listed differences.

The oracle is optional: ``pip install .[oracle]``.
"""

from __future__ import annotations

import pytest

from toolchain import Toolchain
from wasix import linked, wasmer
from wasix.case import Case
from wasix.cases import CASES, TEXTS
from wasix.recipes import RECIPES, build

pytestmark = pytest.mark.slow

# run(main, files, args, timeout) -> Outcome(status, stdout, stderr); a linker under test joins here
RUNNERS = {"wasmer": wasmer.run, "pylinker": linked.run}

DEADLINE = 60
NEEDS_WASMER = pytest.mark.skipif(not wasmer.available(), reason="wasmer-sdk is not installed")

RUNS = [
    pytest.param(
        runner, name, id=f"{runner}-{name}", marks=[NEEDS_WASMER] if runner == "wasmer" else []
    )
    for runner in RUNNERS
    for name, case in CASES.items()
    if not (runner == "wasmer" and case.hangs)
]


def check(toolchain: Toolchain, runner: str, case: Case) -> None:
    directory = build(toolchain, case.program)
    outcome = RUNNERS[runner](
        directory / "main.wasm", case.contents(directory), case.args, DEADLINE
    )
    status, stdout = case.expected(runner)
    assert outcome.stdout == stdout, outcome.stderr
    assert outcome.status == status, outcome.stderr


@pytest.mark.parametrize(("runner", "name"), RUNS)
def test_program(toolchain: Toolchain, runner: str, name: str) -> None:
    check(toolchain, runner, CASES[name])


@NEEDS_WASMER
def test_wording_of_wasmer(toolchain: Toolchain) -> None:
    check(toolchain, "wasmer", TEXTS)


@NEEDS_WASMER
def test_a_run_that_hangs_is_ended(toolchain: Toolchain) -> None:
    case = CASES["waits-compute"]
    assert case.hangs
    directory = build(toolchain, case.program)
    assert (
        wasmer.run(directory / "main.wasm", case.contents(directory), case.args, timeout=1).status
        == wasmer.HUNG
    )


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_program_builds(toolchain: Toolchain, name: str) -> None:
    """Also those that no runner here runs."""
    assert (build(toolchain, name) / "main.wasm").stat().st_size


def test_every_program_has_a_case() -> None:
    assert {case.program for case in (*CASES.values(), TEXTS)} == set(RECIPES)


def test_every_difference_is_one() -> None:
    for name, case in CASES.items():
        if case.wasmer is not None:
            assert case.expected("wasmer") != case.expected("another"), name
            assert case.wasmer.why, name
