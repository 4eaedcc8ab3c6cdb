"""The soak and the leak runs: they pass, and they fail if something is wrong."""

import json
import os
import random

import pytest
from click.testing import CliRunner

import pylinker
from guests import deadline
from pylinker.bench import leaks
from pylinker.bench import soak as soaking
from pylinker.bench.soak import Soak
from pylinker.cli.app import app
from pylinker.linker.plan.state import LinkerState
from pylinker.linker.ranges import RangeAllocator
from pylinker.native.shared import Shared

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("PYLINKER_SOAK_SECONDS", "8"))
SEED = int(os.environ.get("PYLINKER_SOAK_SEED", "0")) or random.SystemRandom().randrange(1 << 32)


class Quiet:
    def start(self, count):
        pass

    def begin(self, name):
        pass

    def end(self):
        pass

    def advance(self, parts):
        pass


def run(*arguments):
    return CliRunner().invoke(app, arguments, prog_name="pylinker")


def test_a_short_soak_finds_nothing():
    with deadline(SECONDS + 200):
        report = Soak(SECONDS, SEED, Quiet(), rounds=8).run()
    assert report.failures == [], f"PYLINKER_SOAK_SEED={SEED}"
    assert report.rounds >= 8
    assert all(
        report.done[each]
        for each in (
            "open",
            "close",
            "call",
            "lookup",
            "spawn",
            "wait",
            "prepare",
            "ended",
            "programs",
        )
    )
    assert report.done["interrupts"]


def broken_take_back(_allocator, grants):
    """Give nothing back."""
    del grants[-1]


def broken_remove(state, modules, original=LinkerState.remove):
    slots = {module: dict(module.slots) for module in modules}
    original(state, modules)
    for module in modules:
        if not slots[module]:
            state.table.allocate(1, 1, [], module="leak")


def broken_forget(_shared):
    """Forget nothing."""


@pytest.mark.parametrize(
    ("owner", "name", "broken", "message"),
    [
        (RangeAllocator, "take_back", broken_take_back, "resources leaked"),
        (LinkerState, "remove", broken_remove, "resources leaked"),
        (Shared, "forget_replayed", broken_forget, "left in the log"),
    ],
)
def test_a_soak_finds_what_is_not_given_back(monkeypatch, owner, name, broken, message):
    monkeypatch.setattr(owner, name, broken)
    with deadline(60):
        report = Soak(0, 1, Quiet()).run()
    assert any(message in each for each in report.failures)


def test_a_soak_says_what_a_thread_of_it_has_raised(monkeypatch):
    def wrong(_worker):
        raise ZeroDivisionError("in a step")

    monkeypatch.setattr(soaking._Worker, "call", wrong)
    with deadline(60):
        report = Soak(0, 1, Quiet()).run()
    assert any("ZeroDivisionError: in a step" in each for each in report.failures)
    with deadline(60):
        assert run("bench", "soak", "--minutes", "0", "--seed", "1").exit_code == 1


def test_growth_counts_from_the_first_fifth_on():
    report = soaking.Report(1)
    report.resident = [10, 20, 30, 40, 50]
    assert report.growth == 0
    report.resident += [55] * 20
    assert report.growth == 5


def test_the_command_soaks_and_says_what_it_did(tmp_path):
    with deadline(60):
        result = run(
            "bench", "soak", "--minutes", "0", "--seed", "7", "--json", str(tmp_path / "soak.json")
        )
    assert result.exit_code == 0, result.output
    assert result.output.startswith("seed 7\n")
    assert "all is as it must be" in result.output
    found = json.loads((tmp_path / "soak.json").read_text())
    assert (found["seed"], found["rounds"], found["failures"]) == (7, 1, [])


# Leaks


@pytest.mark.parametrize("name", leaks.RUNS)
def test_memory_stays_flat(name):
    with deadline(120):
        found = leaks.measure(
            [name], Quiet(), share=0.01 if leaks.RUNS[name][0] == 100_000 else 0.05
        )
    assert [each for each in found if not each.flat] == []


def test_growth_is_by_cycle():
    found = leaks.Growth("a run", 100, 1000, 3000, 1.0)
    assert found.per_cycle == 20
    assert found.flat
    assert not leaks.Growth("a run", 100, 0, leaks.ALLOWED + 1, 1.0).flat


def test_a_name_that_no_run_has_is_refused():
    with pytest.raises(leaks.UnknownRunError, match="no run has 'nothing' in its name"):
        leaks.select(["spawns", "nothing"])
    assert run("bench", "leaks", "nothing").exit_code == 2


def test_the_command_shows_each_run(tmp_path):
    with deadline(60):
        result = run(
            "bench", "leaks", "spawns", "failing", "--quick", "--json", str(tmp_path / "leaks.json")
        )
    assert result.exit_code == 0, result.output
    assert [each["name"] for each in json.loads((tmp_path / "leaks.json").read_text())] == [
        "failing loads",
        "spawns",
    ]
    assert "failing loads" in result.output


def test_memory_that_grows_is_exit_status_1(monkeypatch):
    kept = []
    monkeypatch.setitem(leaks.RUNS, "spawns", (50, lambda _directory: Holding(kept)))
    result = run("bench", "leaks", "spawns")
    assert result.exit_code == 1
    assert "grows" in result.output


class Holding:
    def __init__(self, kept):
        self.kept = kept

    def __enter__(self):
        return lambda: self.kept.append(b"x" * (1 << 17))

    def __exit__(self, *exception):
        pass


def test_names_of_benchmarks_are_no_commands():
    result = run("bench", "--help")
    assert result.exit_code == 0
    assert "NAMES" in result.output
    assert "pylinker bench soak" in result.output
    assert run("bench", "soak", "--help").output.startswith("Usage: pylinker bench soak")


def test_resident_memory_is_in_bytes():
    before = leaks.resident()
    kept = bytearray(os.urandom(32 << 20))
    assert before + (16 << 20) < leaks.resident() < before + (128 << 20)
    assert len(kept) == 32 << 20
    assert pylinker.__version__
