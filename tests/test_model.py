"""Model checks of the rendezvous: ``docs/model/check --quick``, and a run with three mutants.

The whole check takes minutes and is run by hand, or by CI on its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parent.parent / "docs" / "model"
MUTANTS = sorted(path.stem for path in (MODEL / "mutants").glob("*.patch"))
TIMEOUT = 900  # seconds, for a machine that has other things to do: it takes half a minute
FEW = ["no-newer-barrier", "number-before-flag", "publish-after-clear"]  # of mutants


@pytest.mark.timeout(TIMEOUT + 20)
@pytest.mark.parametrize(
    ("names", "mutants"),
    [
        pytest.param(["family", *FEW], FEW, id="few"),
        pytest.param([], MUTANTS, id="all", marks=pytest.mark.slow),
    ],
)
def test_spin_passes_the_model_and_catches_the_mutants(names, mutants):
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    if not (shutil.which("patch") or shutil.which("git")):
        missing.append("patch")
    if missing:
        message = f"{', '.join(missing)} not here: on Debian, apt-get install {' '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    result = subprocess.run(
        [MODEL / "check", "--quick", *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    caught = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("caught ")]
    assert sorted(caught) == sorted(mutants)


def test_every_mutant_says_what_it_breaks_and_is_in_the_table():
    assert MUTANTS
    table = (MODEL / "README.md").read_text(encoding="utf-8")
    for name in MUTANTS:
        head = (MODEL / "mutants" / f"{name}.patch").read_text(encoding="utf-8").splitlines()[:3]
        assert [line.partition(": ")[0] for line in head] == ["rule", "run", "caught"], name
        assert f"`{name}`" in table, name
