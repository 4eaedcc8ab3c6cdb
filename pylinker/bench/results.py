"""The results of a run: times, ratios to the baseline, targets, JSON, and comparison of runs.

All times are seconds for one call. A *ratio* is a time over the baseline's time in the same group:
0.5 is twice as fast. Memory, in bytes, is treated like time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from pylinker.bench.facts import Facts

__all__ = [
    "SAMPLES_KEPT",
    "VERSION",
    "Absent",
    "Benchmark",
    "Change",
    "Comparison",
    "Group",
    "ResultsError",
    "Run",
    "Stats",
    "Target",
    "compare",
    "from_pytest",
    "load",
    "thinned",
    "to_json",
]

SCHEMA = "pylinker-bench"
# Of the JSON; new keys do not change it, removed keys and other meanings do.
VERSION = 1
SAMPLES_KEPT = 2_000  # of one benchmark; a chart has fewer pixels


class ResultsError(ValueError):
    """A file is not the results of a run."""


@dataclass(frozen=True)
class Target:
    """A target ratio to another contender of the group.

    That is the one with the same ``n``, or with the ``n`` given here. ``at_most``: the time is at
    most so many times the other's. ``at_least``: it is at least so many times as fast.
    """

    of: str
    at_most: float | None = None
    at_least: float | None = None
    n: float | None = None

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a target is either at_most or at_least")

    def value(self, mine: float, other: float) -> float:
        """Return the ratio of the target, from two times."""
        return mine / other if self.at_least is None else other / mine

    def reached(self, mine: float, other: float) -> bool:
        """Return whether the target is reached."""
        if self.at_most is not None:
            return self.value(mine, other) <= self.at_most
        return self.at_least is not None and self.value(mine, other) >= self.at_least


@dataclass(frozen=True)
class Stats:
    """Seconds for one call, or bytes.

    ``iterations``: calls of the function in a round; a round is one measurement.
    """

    median: float
    q1: float
    q3: float
    min: float
    max: float
    mean: float
    stddev: float
    rounds: int
    iterations: int

    @property
    def iqr(self) -> float:
        """The spread: half of the rounds are in a range of this width."""
        return self.q3 - self.q1


@dataclass(frozen=True)
class Benchmark:
    """The result of one contender. ``n_name`` is the meaning of ``n``.

    ``calls``: in one call of the measured function. The times are for one of them. ``unit`` is
    ``"s"``, or ``"B"`` for memory.
    """

    name: str
    contender: str
    stats: Stats
    baseline: bool = False
    target: Target | None = None
    n: float | None = None
    n_name: str = "n"
    calls: int = 1
    samples: tuple[float, ...] = ()  # sorted; where the distribution is of interest
    unit: str = "s"


@dataclass(frozen=True)
class Group:
    """Contenders that do the same work, for one or several ``n``."""

    file: str
    name: str
    benchmarks: tuple[Benchmark, ...]

    def baseline_of(self, benchmark: Benchmark) -> Benchmark | None:
        """Return the baseline with the same ``n``, or the only one; None: not measured."""
        baselines = [each for each in self.benchmarks if each.baseline]
        same = [each for each in baselines if each.n == benchmark.n]
        return (
            same[0]
            if same
            else baselines[0]
            if len(baselines) == 1 and baselines[0].n is None
            else None
        )

    def ratio(self, benchmark: Benchmark) -> float | None:
        """Return the time of ``benchmark`` over its baseline's; None if there is none."""
        baseline = self.baseline_of(benchmark)
        return (
            benchmark.stats.median / baseline.stats.median
            if baseline and baseline.stats.median > 0
            else None
        )

    def rival(self, benchmark: Benchmark) -> Benchmark | None:
        """Return the contender in a benchmark's target; None if not measured or ambiguous."""
        target = benchmark.target
        if target is None:
            return None
        n = benchmark.n if target.n is None else target.n
        rivals = [
            each
            for each in self.benchmarks
            if target.of in {each.contender, each.name} and each is not benchmark
        ]
        fitting = [each for each in rivals if each.n == n] or [
            each for each in rivals if each.n is None
        ]
        return fitting[0] if len(fitting) == 1 else None


@dataclass(frozen=True)
class Absent:
    """A benchmark without a result. ``peer``: a missing distribution, if that is the reason."""

    file: str
    group: str
    name: str
    reason: str
    peer: str | None = None


@dataclass(frozen=True)
class Run:
    """The results of one run of the suite.

    ``created`` is in UTC, as ISO 8601; ``names`` is the selection, empty for all.
    """

    created: str
    quick: bool
    names: tuple[str, ...]
    facts: Facts
    groups: tuple[Group, ...]
    skipped: tuple[Absent, ...] = ()
    failed: tuple[Absent, ...] = ()

    def benchmarks(self) -> Iterator[tuple[Group, Benchmark]]:
        """Iterate over all results."""
        for group in self.groups:
            for benchmark in group.benchmarks:
                yield group, benchmark

    @property
    def missing_peers(self) -> list[str]:
        """Contenders that are not installed."""
        return sorted({absent.peer for absent in self.skipped if absent.peer})


def thinned(samples: list[float]) -> tuple[float, ...]:
    """Return the samples sorted; of many ``SAMPLES_KEPT``, evenly spaced, with both extremes."""
    ordered = sorted(samples)
    if len(ordered) <= SAMPLES_KEPT:
        return tuple(ordered)
    step = (len(ordered) - 1) / (SAMPLES_KEPT - 1)
    return tuple(ordered[round(index * step)] for index in range(SAMPLES_KEPT))


def from_pytest(document: dict[str, Any], failed: Container[str] = ()) -> tuple[Group, ...]:
    """Return the groups in the JSON of pytest-benchmark, in order of execution.

    Benchmarks with a node id in ``failed`` are left out: they measured something else.
    """
    groups: dict[tuple[str, str], list[Benchmark]] = {}
    for each in document["benchmarks"]:
        if each["fullname"] in failed:
            continue
        info, stats = each["extra_info"], each["stats"]
        calls = info.get("calls", 1)
        times = {
            key: stats[key] / calls
            for key in ("median", "q1", "q3", "min", "max", "mean", "stddev")
        }
        target = info.get("target")
        samples = info.get("samples") or (
            [time / calls for time in stats["data"]] if info.get("keep_rounds") else []
        )
        benchmark = Benchmark(
            name=each["name"].removeprefix("bench_"),
            contender=info.get("contender", ""),
            stats=Stats(**times, rounds=stats["rounds"], iterations=stats["iterations"]),
            baseline=info.get("baseline", False),
            target=Target(**target) if target else None,
            n=info.get("n"),
            n_name=info.get("n_name", "n"),
            calls=calls,
            samples=thinned(samples),
            unit=info.get("unit", "s"),
        )
        file = each["fullname"].partition("::")[0]
        groups.setdefault((file, each["group"] or each["name"]), []).append(benchmark)
    return tuple(
        Group(file, name, tuple(benchmarks)) for (file, name), benchmarks in groups.items()
    )


def to_json(run: Run) -> str:
    """Return the run as JSON.

    Besides the values for ``load`` it has derived ones: ``iqr``, ``ratio``, ``reached``.
    """
    document = {"schema": SCHEMA, "version": VERSION, **asdict(run)}
    for group, written in zip(run.groups, document["groups"], strict=True):
        for benchmark, record in zip(group.benchmarks, written["benchmarks"], strict=True):
            rival = group.rival(benchmark)
            record["stats"]["iqr"] = benchmark.stats.iqr
            record["ratio"] = group.ratio(benchmark)
            record["reached"] = (
                benchmark.target.reached(benchmark.stats.median, rival.stats.median)
                if benchmark.target and rival
                else None
            )
    return json.dumps(document, indent=2, allow_nan=False)


@dataclass(frozen=True)
class _Heading:
    """The first keys of every version of the JSON."""

    schema: str
    version: int


def load(path: Path) -> Run:
    """Return the run that ``to_json`` wrote.

    Raises:
        ResultsError: The file has other contents.
        OSError: It cannot be read.
    """
    import msgspec  # noqa: PLC0415 - only for a comparison

    data = path.read_bytes()
    try:
        heading = msgspec.json.decode(data, type=_Heading)
        if heading.schema != SCHEMA:
            raise ResultsError(
                f"{path}: not results of pylinker bench: the schema is {heading.schema!r}"
            )
        if heading.version != VERSION:
            raise ResultsError(
                f"{path}: has version {heading.version} of the format, "
                f"and this pylinker reads version {VERSION}"
            )
        return msgspec.json.decode(data, type=Run)
    except msgspec.MsgspecError as error:
        raise ResultsError(f"{path}: not results of pylinker bench: {error}") from error


@dataclass(frozen=True)
class Change:
    """The change of one benchmark: new over old.

    0.9 is a tenth less time; None if one of the two is unknown.
    """

    median: float
    ratio: float | None


@dataclass(frozen=True)
class Comparison:
    """A run against an earlier one. ``warnings`` say why the two may not be comparable."""

    created: str
    changes: dict[tuple[str, str, str], Change] = field(
        default_factory=dict
    )  # by file, group and name
    gone: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def of(self, group: Group, benchmark: Benchmark) -> Change | None:
        """Return the change of a benchmark, None if the earlier run does not have it."""
        return self.changes.get((group.file, group.name, benchmark.name))


def compare(now: Run, before: Run) -> Comparison:
    """Compare two runs, benchmark by benchmark."""
    earlier = {
        (group.file, group.name, each.name): (each.stats.median, group.ratio(each))
        for group, each in before.benchmarks()
    }
    changes = {}
    for group, each in now.benchmarks():
        median, ratio = earlier.pop((group.file, group.name, each.name), (0.0, None))
        if positive(median):
            current = group.ratio(each)
            change = Change(
                each.stats.median / median,
                current / ratio if current is not None and positive(ratio) else None,
            )
            changes[group.file, group.name, each.name] = change
    selected = {
        (group.file, group.name) for group in now.groups
    }  # a partial run has no information about the others
    gone = tuple(
        f"{group}: {name}"
        for file, group, name in earlier
        if not now.names or (file, group) in selected
    )
    return Comparison(before.created, changes, gone, tuple(differences(now, before)))


def positive(value: float | None) -> TypeGuard[float]:
    """Return whether ``value`` is a valid divisor."""
    return value is not None and math.isfinite(value) and value > 0


def differences(now: Run, before: Run) -> Iterator[str]:
    """Yield the differences that make the two runs hard to compare."""
    if now.quick or before.quick:
        which = (
            "both were"
            if now.quick and before.quick
            else "this one was"
            if now.quick
            else "the earlier one was"
        )
        yield f"{which} a quick run: small changes mean nothing"
    for what in ("cpu", "usable_cores", "memory", "python"):
        old, new = getattr(before.facts, what), getattr(now.facts, what)
        if old != new:
            yield f"{what.replace('_', ' ')} was {old}, is {new}"
