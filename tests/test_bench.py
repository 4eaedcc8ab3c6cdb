"""Benchmarks: what is made of made-up results, how a suite is run, and the command."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench_runs import BROKEN, CALL, FACTS, FAILED, LATENCY, SCALING, SKIPPED, made_up, measured
from pylinker.bench import charts, facts, results, runner, table
from pylinker.bench.results import Group, ResultsError, Target
from pylinker.benchmarks import roles
from pylinker.wasm import parse_module

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 60  # seconds; only a hang takes that long


def by_name(group: Group, name: str) -> results.Benchmark:
    return next(each for each in group.benchmarks if each.name == name)


class TestRatios:
    def test_to_the_only_baseline(self) -> None:
        assert {each.name: CALL.ratio(each) for each in CALL.benchmarks} == {
            "pylinker": 0.25,
            "wasmtime": 1,
            "bare_call": 0.125,
        }

    def test_to_the_baseline_with_the_same_n(self) -> None:
        assert [
            SCALING.ratio(by_name(SCALING, f"pylinker[{n}]")) for n in (1, 2, 4)
        ] == pytest.approx([1 / 3] * 3)

    def test_one_baseline_for_all_n(self) -> None:
        group = Group(
            "f",
            "g",
            (measured("a", 3.0, n=1), measured("b", 6.0, n=2), measured("c", 2.0, baseline=True)),
        )
        assert [group.ratio(each) for each in group.benchmarks] == [1.5, 3, 1]

    @pytest.mark.parametrize(
        "others",
        [
            (),
            (measured("b", 2.0),),
            (measured("b", 2.0, baseline=True, n=2),),
            (measured("b", 2.0, baseline=True, n=2), measured("c", 2.0, baseline=True, n=3)),
            (measured("b", 0.0, baseline=True),),
        ],
    )
    def test_without_a_baseline(self, others: tuple[results.Benchmark, ...]) -> None:
        first = measured("a", 1.0, n=1)
        assert Group("f", "g", (first, *others)).ratio(first) is None

    @pytest.mark.parametrize(
        ("target", "mine", "reached", "words"),
        [
            (Target("bare", at_most=1.5), 1.5, True, "at most 1.5x bare: 1.5x, reached"),
            (Target("bare", at_most=1.5), 1.6, False, "at most 1.5x bare: 1.6x, missed"),
            (Target("bare", at_least=3), 0.25, True, "at least 3x as fast as bare: 4x, reached"),
            (Target("bare", at_least=3), 0.5, False, "at least 3x as fast as bare: 2x, missed"),
            (Target("bare", at_least=3), 0.0, None, "at least 3x as fast as bare: not measured"),
            (Target("the_other", at_most=2), 1.0, True, "at most 2x the_other: 1x, reached"),
            (Target("wasmtime-py", at_most=2), 1.0, None, "at most 2x wasmtime-py: not measured"),
        ],
    )
    def test_targets(self, target: Target, mine: float, reached: bool | None, words: str) -> None:
        benchmark = measured("pylinker", mine, target=target)
        group = Group("f", "g", (benchmark, measured("the_other", 1.0, "bare")))
        assert table.target_words(group, benchmark) == (words, reached)

    def test_target_against_another_n(self) -> None:
        few, many = (
            measured("p[1]", 1.0, n=1),
            measured("p[8]", 3.0, n=8, target=Target("pylinker", at_most=4, n=1)),
        )
        group = Group("f", "g", (few, many, measured("p[2]", 1.5, n=2)))
        assert group.rival(many) is few
        assert table.target_words(group, many) == ("at most 4x pylinker (n = 1): 3x, reached", True)

    def test_target_against_one_of_several(self) -> None:
        first = measured("a", 1.0, target=Target("bare", at_most=2))
        assert (
            Group("f", "g", (first, measured("b", 1.0, "bare"), measured("c", 1.0, "bare"))).rival(
                first
            )
            is None
        )

    @pytest.mark.parametrize("bounds", [{}, {"at_most": 1, "at_least": 1}])
    def test_a_target_has_one_bound(self, bounds: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="either at_most or at_least"):
            Target("bare", **bounds)


class TestWords:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (3.2e-9, "3.2 ns"),
            (1e-12, "0.001 ns"),
            (999e-9, "999 ns"),
            (1.1449e-6, "1.14 µs"),
            (0.0251, "25.1 ms"),
            (75, "75 s"),
            (5000, "5000 s"),
        ],
    )
    def test_seconds(self, value: float, text: str) -> None:
        assert table.amount(value, "s") == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0 bytes"),
            (1000, "1000 bytes"),
            (1536, "1.5 KiB"),
            (3 << 20, "3 MiB"),
            (5 << 40, "5120 GiB"),
        ],
    )
    def test_bytes(self, value: float, text: str) -> None:
        assert table.amount(value, "B") == text

    @pytest.mark.parametrize(
        ("ratio", "words"),
        [
            (0.3125, "3.2x faster"),
            (1.4, "1.4x slower"),
            (1.001, "the same"),
            (0.0001, "10000x faster"),
            (0.0, "not measurable"),
        ],
    )
    def test_ratio(self, ratio: float, words: str) -> None:
        assert table.ratio_words(ratio, "s") == words

    def test_ratio_of_bytes(self) -> None:
        assert [table.ratio_words(ratio, "B") for ratio in (0.5, 1, 1.2)] == [
            "2x less",
            "the same",
            "1.2x more",
        ]

    def test_chart_of_bytes(self) -> None:
        group = Group(
            "bench_memory.py",
            "memory",
            (
                measured("pylinker", 4096, unit="B"),
                measured("bare", 2048, "bare", unit="B", baseline=True),
            ),
        )
        figure = charts.bars(group).figure
        assert "memory (KiB)" in figure
        assert "pylinker: 4 KiB" in figure

    def test_rows(self) -> None:
        run = made_up(CALL, skipped=(SKIPPED,), failed=(FAILED,))
        assert [(row.cells, row.reached, row.measured) for row in table.rows(run, CALL)] == [
            (
                (
                    "pylinker",
                    "pylinker",
                    "2 µs",
                    "600 ns (30 %)",
                    "4x faster",
                    "at most 1.5x bare: 2x, missed",
                ),
                False,
                True,
            ),
            (("wasmtime", "wasmtime-py", "8 µs", "2.4 µs (30 %)", "baseline", ""), None, True),
            (("bare call", "bare", "1 µs", "300 ns (30 %)", "8x faster", ""), None, True),
            (("wasmer", "wasmer-sdk", "-", "-", "not installed: wasmer-sdk", ""), None, False),
        ]

    def test_notes(self) -> None:
        busy = dataclasses.replace(FACTS, load=3.0)
        run = made_up(CALL, quick=True, facts=busy, skipped=(SKIPPED,), failed=(FAILED, BROKEN))
        notes = "\n".join(table.notes(run))
        for words in (
            "not installed: wasmer-sdk",
            "another group: pylinker failed: Assert",
            "bench_broken.py failed: Module",
            "quick",
            "busy",
        ):
            assert words in notes
        assert table.notes(made_up(CALL)) == []

    def test_facts(self) -> None:
        shown = dict(table.facts_table(FACTS))
        assert shown["cores"] == "8, 4 of them usable"
        assert shown["memory"] == "16.0 GiB"
        assert shown["peers"] == "wasmtime-py 50.0.1, wasmer-sdk not installed"
        assert shown["load at start"] == "0.25 on 4 cores"


class TestComparison:
    def test_changes(self) -> None:
        slower = Group(
            CALL.file,
            CALL.name,
            (
                measured("pylinker", 3e-6),
                measured("wasmtime", 16e-6, baseline=True),
                measured("young", 1e-6),
            ),
        )
        comparison = results.compare(made_up(slower), made_up(CALL))
        change = comparison.of(slower, slower.benchmarks[0])
        assert change
        assert change.median == pytest.approx(
            1.5
        )  # half as long again, but the whole machine is twice as slow
        assert change.ratio == pytest.approx(0.75)
        assert comparison.gone == ("call a function: bare_call",)
        assert [row.cells[-2:] for row in table.rows(made_up(slower), slower, comparison)] == [
            ("+50.0 %", "-25.0 %"),
            ("+100.0 %", "+0.0 %"),
            ("new", "-"),
        ]

    def test_a_part_says_nothing_of_the_rest(self) -> None:
        everything = made_up()
        assert results.compare(made_up(CALL, names=("call",)), everything).gone == ()
        assert len(results.compare(made_up(CALL), everything).gone) == 8

    def test_warnings(self) -> None:
        other = dataclasses.replace(FACTS, cpu="Another", memory=1 << 30)
        comparison = results.compare(made_up(quick=True), made_up(facts=other))
        assert comparison.warnings == (
            "this one was a quick run: small changes mean nothing",
            "cpu was Another, is A processor",
            f"memory was {1 << 30}, is {16 << 30}",
        )
        assert results.compare(made_up(), made_up()).warnings == ()

    def test_numbers_that_cannot_be_divided_by(self) -> None:
        before = Group("f", "g", (measured("a", 0.0), measured("b", float("inf"))))
        now = Group("f", "g", (measured("a", 1.0), measured("b", 1.0)))
        assert results.compare(made_up(now), made_up(before)).changes == {}


class TestJson:
    def test_round_trip(self, tmp_path: Path) -> None:
        run = made_up(skipped=(SKIPPED,), failed=(FAILED, BROKEN), names=("call",))
        path = tmp_path / "run.json"
        path.write_text(results.to_json(run), encoding="utf-8")
        assert results.load(path) == run

    def test_its_keys_are_those_of_the_page(self) -> None:
        page = (Path(__file__).parent.parent / "docs" / "performance.md").read_text(
            encoding="utf-8"
        )
        rows = [
            line.split("|")
            for line in page.partition("## The JSON")[2].partition("## The paths")[0].splitlines()
            if line[:3] == "| `"
        ]
        words = [(re.findall(r"`(\w+)`", row[1]), re.findall(r"`(\w+)`", row[2])) for row in rows]
        stated = {name for names, _ in words for name in names}
        document = json.loads(
            results.to_json(made_up(CALL, SCALING, LATENCY, skipped=(SKIPPED,), failed=(FAILED,)))
        )
        benchmarks = [each for group in document["groups"] for each in group["benchmarks"]]
        assert stated == {*document, *(key for each in benchmarks for key in each)}
        for key, found in (
            ("facts", document["facts"]),
            ("groups", document["groups"][0]),
            ("skipped", document["skipped"][0]),
            ("failed", document["failed"][0]),
            ("stats", benchmarks[0]["stats"]),
        ):
            (explained,) = [set(names) for keys, names in words if key in keys]
            assert set(found) <= explained, key

    def test_what_follows_is_there_too(self) -> None:
        document = json.loads(results.to_json(made_up(CALL)))
        assert (document["schema"], document["version"]) == ("pylinker-bench", 1)
        first, second, _ = document["groups"][0]["benchmarks"]
        assert (first["ratio"], first["reached"], second["ratio"], second["reached"]) == (
            0.25,
            False,
            1,
            None,
        )
        assert first["stats"]["iqr"] == pytest.approx(0.6e-6)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda document: document + "]", "malformed"),
            (lambda _: "", "truncated"),
            (lambda _: "[1]", "Expected `object`"),
            (lambda _: "{}", "missing required field `schema`"),
            (lambda document: document.replace("pylinker-bench", "other"), "the schema is 'other'"),
            (lambda document: document.replace('"version": 1', '"version": 2'), "version 2"),
            (
                lambda document: document.replace('"rounds": 100', '"rounds": "many"', 1),
                "$.groups[0].benchmarks[0].stats.rounds",
            ),
            (
                lambda document: document.replace('"at_most": 1.5', '"at_most": null', 1),
                "either at_most or at_least",
            ),
        ],
    )
    def test_other_files(self, tmp_path: Path, change: Callable[[str], str], words: str) -> None:
        path = tmp_path / "run.json"
        path.write_text(change(results.to_json(made_up())), encoding="utf-8")
        with pytest.raises(ResultsError) as raised:
            results.load(path)
        assert str(raised.value).startswith(f"{path}: ")
        assert words in str(raised.value)


class TestFromPytest:
    def document(self, **info: Any) -> dict[str, Any]:
        stats = dict.fromkeys(("median", "q1", "q3", "min", "max", "mean", "stddev"), 10.0)
        stats |= {"rounds": 3, "iterations": 2, "data": [30.0, 10.0, 20.0]}
        names = ["bench_first", "bench_second[4]"]
        return {
            "benchmarks": [
                {
                    "name": name,
                    "fullname": f"bench_x.py::{name}",
                    "group": "together",
                    "stats": stats,
                    "extra_info": info,
                }
                for name in names
            ]
        }

    def test_time_of_one_call(self) -> None:
        (group,) = results.from_pytest(
            self.document(contender="pylinker", baseline=True, calls=1000, keep_rounds=True)
        )
        assert (group.file, group.name, [each.name for each in group.benchmarks]) == (
            "bench_x.py",
            "together",
            ["first", "second[4]"],
        )
        first = group.benchmarks[0]
        assert (first.stats.median, first.stats.rounds, first.stats.iterations) == (0.01, 3, 2)
        assert first.samples == (0.01, 0.02, 0.03)
        assert (first.contender, first.baseline, first.calls) == ("pylinker", True, 1000)

    def test_own_samples(self) -> None:
        (group,) = results.from_pytest(
            self.document(contender="bare", calls=1000, samples=[3.0, 1.0])
        )
        assert group.benchmarks[0].samples == (1, 3)

    def test_what_failed_is_no_result(self) -> None:
        (group,) = results.from_pytest(self.document(), failed={"bench_x.py::bench_first"})
        assert [each.name for each in group.benchmarks] == ["second[4]"]

    def test_many_samples_are_thinned(self) -> None:
        kept = results.thinned([float(number) for number in reversed(range(100_000))])
        assert len(kept) == results.SAMPLES_KEPT
        assert (kept[0], kept[-1]) == (0, 99_999)
        assert list(kept) == sorted(kept)
        assert kept[len(kept) // 2] == pytest.approx(50_000, rel=0.01)


class TestFacts:
    def test_of_this_machine(self) -> None:
        gathered = facts.gather()
        assert gathered.pylinker == importlib.metadata.version("pylinker")
        assert gathered.peers["wasmtime-py"] == importlib.metadata.version("wasmtime")
        assert 1 <= gathered.usable_cores <= gathered.cores
        assert gathered.memory > 1 << 28
        assert all(value for _, value in table.facts_table(gathered))

    def test_processor(self, tmp_path: Path) -> None:
        (tmp_path / "cpuinfo").write_text(
            "processor\t: 0\nmodel name\t: Fast 9000 \nmodel name\t: other\n"
        )
        assert facts.cpu_model(tmp_path / "cpuinfo") == "Fast 9000"
        assert facts.cpu_model(tmp_path / "absent")

    def test_what_is_not_installed(self) -> None:
        assert facts.installed("no-such-distribution") is None


# --- a suite as a process

SUITE = """
import sys
import pytest
from pylinker.benchmarks.roles import Target, peer, per_call, quick, reported, role, samples

sys.modules["wasmer_sdk"] = None  # as if it were not installed
made = []

@pytest.mark.benchmark(group="sums")
def bench_pylinker(benchmark):
    role(benchmark, contender="pylinker", target=Target(at_least=2, of="bare"), n=4,
      n_name="numbers")
    assert per_call(benchmark, lambda calls: made.append(calls) or calls, 500) == 50
    samples(benchmark, [2.0, 1.0])
    assert quick()

@pytest.mark.benchmark(group="sums")
def bench_bare(benchmark):
    role(benchmark, contender="bare", baseline=True, keep_rounds=True)
    benchmark(sum, [1, 2, 3])

@pytest.mark.benchmark(group="sums")
def bench_wasmer(benchmark):
    peer("wasmer-sdk")

@pytest.mark.benchmark(group="memory")
def bench_reported(benchmark):
    role(benchmark, contender="bare", baseline=True, unit="B")
    reported(benchmark, [3000.0, 1000.0, 2000.0])

@pytest.mark.benchmark(group="memory")
def bench_nothing(benchmark):
    role(benchmark, contender="pylinker", unit="B")
    reported(benchmark, [])

@pytest.mark.benchmark(group="wrong")
def bench_wrong(benchmark):
    role(benchmark, contender="pylinker")
    assert benchmark(sum, [1, 2]) == 4, "wrong sum"

@pytest.mark.benchmark(group="wrong")
def bench_unknown_contender(benchmark):
    role(benchmark, contender="wasm3")
"""


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.seen: list[str | int] = []

    def start(self, count: int) -> None:
        self.seen.append(count)

    def begin(self, name: str) -> None:
        self.seen.append(name)

    def end(self) -> None:
        self.seen.append("end")


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is measured instead of the benchmarks."""
    directory = tmp_path / "suite"
    directory.mkdir()
    monkeypatch.setattr(runner, "find_benchmarks", lambda: directory)
    return directory


@pytest.mark.slow
class TestRunner:
    def test_all_outcomes(self, suite: Path) -> None:
        (suite / "bench_sums.py").write_text(SUITE)
        (suite / "bench_broken.py").write_text("import no_such_module")
        observer = Recorder()
        run, details = runner.measure([], observer, quick=True)
        assert observer.seen[:3] == [7, "sums: pylinker", "end"]
        assert observer.seen.count("end") == 7
        group, memory = run.groups
        pylinker, bare = group.benchmarks
        assert (group.file, group.name, pylinker.name, bare.name) == (
            "bench_sums.py",
            "sums",
            "pylinker",
            "bare",
        )
        assert (pylinker.contender, pylinker.target, pylinker.n, pylinker.n_name) == (
            "pylinker",
            Target("bare", at_least=2),
            4,
            "numbers",
        )
        assert (pylinker.calls, pylinker.samples) == (50, (1, 2))
        assert pylinker.stats.median < 1e-6  # of one of 50
        assert (bare.baseline, len(bare.samples)) == (
            True,
            min(bare.stats.rounds, results.SAMPLES_KEPT),
        )
        assert [(each.name, each.reason, each.peer) for each in run.skipped] == [
            ("wasmer", "not installed: wasmer-sdk", "wasmer-sdk")
        ]
        (reported,) = memory.benchmarks
        assert (
            reported.unit,
            reported.stats.median,
            reported.stats.min,
            reported.stats.max,
            reported.stats.rounds,
        ) == (
            "B",
            2000,
            1000,
            3000,
            3,
        )
        assert run.missing_peers == ["wasmer-sdk"]
        assert [(each.file, each.name) for each in run.failed] == [
            ("bench_broken.py", ""),
            ("bench_sums.py", "nothing"),
            ("bench_sums.py", "wrong"),
            ("bench_sums.py", "unknown_contender"),
        ]
        broken, nothing, wrong, unknown = (each.reason for each in run.failed)
        assert nothing == "ValueError: nothing was measured"
        assert broken == "ModuleNotFoundError: No module named 'no_such_module'"
        assert wrong.startswith("AssertionError: wrong sum")
        assert "wasm3" in unknown
        assert ["no_such_module" in details[0], "bench_wrong" in details[2]] == [True, True]

    @pytest.mark.parametrize(
        ("names", "selected"),
        [(["SUMS"], 3), (["wro", "sums: no"], None), (["wrong"], 2), (["one"], 7)],
    )
    def test_selection(self, suite: Path, names: list[str], selected: int | None) -> None:
        (suite / "bench_one.py").write_text(SUITE)
        (suite / "bench_two.py").write_text(
            SUITE.replace('"sums"', '"other"').replace('"wrong"', '"others"')
        )
        observer = Recorder()
        if selected is None:
            with pytest.raises(
                runner.UnknownNameError,
                match="'sums: no' in its name: there are one; two; memory; other; others; sums; "
                "wrong",
            ):
                runner.measure(names, observer, quick=True)
            assert observer.seen == []
        else:
            runner.measure(names, observer, quick=True)
            assert observer.seen[0] == selected

    def test_crash(self, suite: Path) -> None:
        (suite / "bench_crash.py").write_text(
            "import os, signal, sys\ndef bench_it(benchmark):\n"
            "    os.write(2, b'last words')\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
        )
        with pytest.raises(runner.BrokenRunError, match="SIGSEGV while it measured 'bench_it: it'"):
            runner.measure([], Recorder(), quick=True)

    def test_one_that_runs_out_of_descriptors_takes_no_other_with_it(self, suite: Path) -> None:
        (suite / "bench_files.py").write_text(
            "import os, resource\n"
            "def bench_first(benchmark):\n"
            "    resource.setrlimit(resource.RLIMIT_NOFILE, "
            "(100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
            "    kept = []\n"
            "    benchmark(lambda: kept.append(open(os.devnull)))\n"
            "def bench_second(benchmark):\n"
            "    with open(os.devnull) as file:\n"
            "        benchmark(file.fileno)\n"
        )
        run, details = runner.measure([], Recorder(), quick=True)
        assert [each.name for each in run.failed] == ["first"]
        assert "Too many open files" in details[0]
        assert [each.name for group in run.groups for each in group.benchmarks] == ["second"]

    def test_the_users_settings_do_not_matter(
        self, suite: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTEST_ADDOPTS", "--benchmark-disable")
        monkeypatch.setenv("PYTEST_PLUGINS", "no_such_plugin")
        (suite.parent / "conftest.py").write_text("raise RuntimeError")
        (suite / "bench_sums.py").write_text(SUITE)
        run, _ = runner.measure(["sums"], Recorder(), quick=True)
        assert len(run.groups) == 2

    def test_an_exception_ends_the_process(self, suite: Path) -> None:
        pid = suite.parent / "pid"
        (suite / "bench_it.py").write_text(
            "import os, pathlib, signal\n"
            "def bench_first(benchmark):\n"
            f"    pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
            "def bench_second(benchmark):\n"
            "    signal.pause()\n"
        )

        class Impatient(Recorder):
            def end(self) -> None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            runner.measure([], Impatient(), quick=True)
        assert not Path("/proc", pid.read_text()).exists()

    def test_all_benchmarks_are_installed(self) -> None:
        found = {path.name for path in runner.find_benchmarks().iterdir() if path.suffix == ".py"}
        assert found == {path.name for path in (ROOT / "benchmarks").glob("*.py")}
        assert Path(roles.__file__).parent == runner.find_benchmarks()
        for folder in (runner.find_benchmarks(), ROOT / "benchmarks"):
            assert {path.name for path in (folder / "guest").glob("*.wasm")} == {"main.wasm"}
            assert len(list((folder / "guest").glob("*.so"))) == 6

    def test_full_run_is_not_scaled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PYLINKER_BENCH_QUICK", raising=False)
        assert roles.scaled(1000) == 1000
        monkeypatch.setenv("PYLINKER_BENCH_QUICK", "1")
        assert (roles.scaled(1000), roles.scaled(5)) == (100, 1)


# --- the command


def bench(
    *arguments: str | Path, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``pylinker bench`` in a directory outside the repository."""
    command = [sys.executable, "-m", "pylinker", "bench", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def fails(result: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """Assert that the command failed with one line that contains all ``words``."""
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (status, "", 1), result
    for word in words:
        assert word in result.stderr


def of_suite(directory: Path, *arguments: str) -> list[str]:
    """Return the command line of ``pylinker bench`` for the benchmarks in ``directory``."""
    code = f"""
import sys, pathlib
from pylinker.bench import runner
runner.find_benchmarks = lambda: pathlib.Path({str(directory)!r})
from pylinker.cli import main
sys.argv.insert(1, "bench")
main()
"""
    return [sys.executable, "-c", code, *arguments]


ENDLESS = """
import subprocess, sys
import pytest

@pytest.mark.benchmark(group="sleep")
def bench_short(benchmark):
    benchmark(sum, [1, 2, 3])

@pytest.mark.benchmark(group="sleep")
def bench_endless(benchmark):
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.pause()"
    subprocess.Popen([sys.executable, "-c", ignore]).wait()
"""


@pytest.mark.slow
class TestCommand:
    def test_files_and_comparison(self, tmp_path: Path) -> None:
        before, after = tmp_path / "before.json", tmp_path / "after.json"
        first = bench(
            "--quick", "call (i32, i32)", "--json", before, "--html", "page.html", cwd=tmp_path
        )
        assert (first.returncode, first.stderr) == (0, "")
        run = results.load(before)
        assert (run.quick, run.names, run.failed, [group.file for group in run.groups]) == (
            True,
            ("call (i32, i32)",),
            (),
            ["bench_call.py"] * 2,
        )
        assert {each.contender for group in run.groups for each in group.benchmarks} >= {
            "pylinker",
            "wasmtime-py",
            "bare",
        }
        group = run.groups[0]
        assert all(group.ratio(each) for each in group.benchmarks)
        lines = first.stdout.splitlines()
        heading = lines.index(group.name)
        assert lines[heading + 1].split() == [
            "benchmark",
            "by",
            "median",
            "spread",
            "to",
            "the",
            "baseline",
            "target",
        ]
        assert len(lines[heading + 2 :]) >= len(group.benchmarks)
        assert "processor" in lines[0]
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert 'data-charts="2"' in page

        second = bench(
            "--quick", "call (i32, i32)", "--compare", before, "--json", after, cwd=tmp_path
        )
        assert (second.returncode, second.stderr) == (0, "")
        assert "change of median" in second.stdout
        assert "both were a quick run" in second.stdout
        assert "new" not in second.stdout

    def test_json_on_stdout(self, tmp_path: Path) -> None:
        result = bench("--quick", "call (i32, i32)", "--json", "-", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        assert json.loads(result.stdout)["schema"] == "pylinker-bench"
        assert list(tmp_path.iterdir()) == []

    def test_unknown_name(self, tmp_path: Path) -> None:
        fails(
            bench("--quick", "call", "nonsense", cwd=tmp_path),
            2,
            "NAMES",
            "'nonsense'",
            "; dlopen; ",
            "call (i32, i32) -> i32 from Python",
        )

    def test_bad_baseline(self, tmp_path: Path) -> None:
        (tmp_path / "bad.json").write_text('{"schema": "x", "version": 1}')
        fails(
            bench("--compare", "bad.json", cwd=tmp_path),
            2,
            "--compare",
            "bad.json",
            "the schema is 'x'",
        )
        fails(bench("--compare", "absent.json", cwd=tmp_path), 2, "--compare", "absent.json")

    @pytest.mark.parametrize("option", ["--json", "--html"])
    def test_no_place_to_write(self, tmp_path: Path, option: str) -> None:
        fails(bench(option, "absent/file", cwd=tmp_path), 2, option, "absent")

    @pytest.mark.parametrize("absent", ["plotly", "pytest_benchmark", "msgspec", "pytest"])
    def test_without_the_extra(self, tmp_path: Path, absent: str) -> None:
        code = (
            f"import sys; sys.modules[{absent!r}] = None; from pylinker.cli import main; "
            f"sys.argv[1:] = ['bench']; main()"
        )
        command = [sys.executable, "-c", code]
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        fails(result, 1, f"need {absent.replace('_', '-')}:", "pip install 'pylinker[bench]'")

    def test_failed_benchmark(self, tmp_path: Path) -> None:
        (tmp_path / "bench_sums.py").write_text(SUITE)
        command = of_suite(tmp_path, "--quick")
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert (result.returncode, result.stderr) == (1, "")
        assert "not installed: wasmer-sdk" in result.stdout
        assert "wrong: wrong failed: AssertionError: wrong sum" in result.stdout
        traced = subprocess.run(
            [*command, "--traceback"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert (traced.returncode, "def bench_wrong(benchmark)" in traced.stderr) == (1, True)

    def test_progress_and_ctrl_c(self, tmp_path: Path) -> None:
        suite, temporary = tmp_path / "suite", tmp_path / "temporary"
        suite.mkdir()
        temporary.mkdir()
        (suite / "bench_it.py").write_text(ENDLESS)
        env = {**os.environ, "TMPDIR": str(temporary), "TERM": "xterm", "COLUMNS": "80"}
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            command = of_suite(suite, "--quick")
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env=env,
                stdout=subprocess.PIPE,
                stderr=theirs,
                start_new_session=True,
            )
            os.close(theirs)
            seen = b""
            while not (b"1/2" in seen and b"sleep: endless" in seen):
                seen += terminal.read(10_000)
            os.killpg(process.pid, signal.SIGINT)
            stdout, _ = process.communicate(timeout=DEADLINE)
        assert (process.returncode, stdout) == (130, b"")
        assert list(temporary.iterdir()) == []
        assert not [
            path
            for path in Path("/proc").glob("[0-9]*/environ")
            if str(temporary).encode() in readable(path)
        ]

    def test_the_process_ends_with_its_parent(self, tmp_path: Path) -> None:
        told, second = tmp_path / "told", tmp_path / "second"
        os.mkfifo(told)
        (tmp_path / "bench_it.py").write_text(
            "import os, pathlib\n"
            "def bench_first(benchmark):\n"
            f"    with open({str(told)!r}, 'w') as file: file.write(str(os.getpid()))\n"
            f"    open({str(told)!r}).read()\n"
            "def bench_second(benchmark):\n"
            f"    pathlib.Path({str(second)!r}).touch()\n"
        )
        parent = subprocess.Popen(
            of_suite(tmp_path), cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
        child = os.pidfd_open(int(told.read_text()))
        parent.kill()
        parent.wait()
        told.write_text("go on")
        ended, _, _ = select.select([child], [], [], DEADLINE)
        os.close(child)
        assert ended
        assert not second.exists()


def readable(path: Path) -> bytes:
    """Return the content of a file of a process, nothing if it is gone or another user's."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_made_up_results_are_of_all_kinds() -> None:
    assert {each.n for _, each in made_up().benchmarks()} == {None, 1, 2, 4}
    assert any(each.samples for each in LATENCY.benchmarks)


def test_what_the_benchmarks_ship_is_what_their_sources_give(tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "benchmarks" / "build.py"
    spec = importlib.util.spec_from_file_location("build_benchmarks", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for built in module.build(tmp_path):
        shipped, rebuilt = (
            parse_module(each.read_bytes()) for each in (module.GUEST / built.name, built)
        )
        assert (rebuilt.imports, rebuilt.exports, rebuilt.dylink) == (
            shipped.imports,
            shipped.exports,
            shipped.dylink,
        )
