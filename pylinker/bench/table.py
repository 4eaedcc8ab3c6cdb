"""The results as text: the cells of the tables, on the terminal and in the page."""

from __future__ import annotations

from dataclasses import dataclass

from pylinker.bench.facts import Facts
from pylinker.bench.results import Benchmark, Comparison, Group, Run

__all__ = ["CHANGES", "COLUMNS", "Row", "amount", "facts_table", "notes", "rows", "unit_for"]

COLUMNS = ("benchmark", "by", "median", "spread", "to the baseline", "target")
CHANGES = ("change of median", "change of ratio")  # the additional columns of a comparison
UNITS = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "bytes")),
}
FASTER = {"s": ("faster", "slower"), "B": ("less", "more")}
SAME = 0.005  # ratios this close to 1 are displayed as 1


@dataclass(frozen=True)
class Row:
    """One line of a group's table.

    ``reached``: of the target; None without one or if it could not be evaluated.
    """

    cells: tuple[str, ...]
    reached: bool | None = None
    measured: bool = True


def unit_for(value: float, unit: str) -> tuple[float, str]:
    """Return size and name of the unit in which ``value`` seconds, or bytes, are at least 1."""
    return next((each for each in UNITS[unit] if value >= each[0]), UNITS[unit][-1])


def amount(value: float, unit: str) -> str:
    """Return a time or size with three digits: ``1.14 µs``."""
    size, name = unit_for(value, unit)
    return f"{digits(value / size)} {name}"


def digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def ratio_words(ratio: float, unit: str) -> str:
    """Return a time, or size, over the baseline's in words."""
    if abs(ratio - 1) < SAME:
        return "the same"
    if ratio <= 0:
        return "not measurable"  # a difference of two times may be zero
    better, worse = FASTER[unit]
    return f"{digits(1 / ratio)}x {better}" if ratio < 1 else f"{digits(ratio)}x {worse}"


def change_words(change: float | None) -> str:
    """Return new over old as a percentage; negative is less time."""
    return "-" if change is None else f"{change - 1:+.1%}".replace("%", " %")


def label(benchmark: Benchmark) -> str:
    """Return the display name of a benchmark, with its parameters (``[16]``)."""
    return benchmark.name.replace("_", " ")


def rows(run: Run, group: Group, comparison: Comparison | None = None) -> list[Row]:
    """Return the rows of a group: results in the order of ``COLUMNS``, then benchmarks without.

    With a comparison, ``CHANGES`` are included.
    """
    result = [row(group, benchmark, comparison) for benchmark in group.benchmarks]
    changes = ["-"] * len(CHANGES) if comparison else []
    for absent in (*run.skipped, *run.failed):
        if (absent.file, absent.group) == (group.file, group.name):
            reason = absent.reason if absent in run.skipped else f"failed: {absent.reason}"
            result.append(
                Row(
                    (
                        absent.name.replace("_", " "),
                        absent.peer or "",
                        "-",
                        "-",
                        reason,
                        "",
                        *changes,
                    ),
                    measured=False,
                )
            )
    return result


def row(group: Group, benchmark: Benchmark, comparison: Comparison | None) -> Row:
    """Return the row of one result."""
    stats, ratio = benchmark.stats, group.ratio(benchmark)
    share = f" ({stats.iqr / stats.median:.0%})".replace("%", " %") if stats.median > 0 else ""
    target, reached = target_words(group, benchmark)
    cells = [
        label(benchmark),
        benchmark.contender,
        amount(stats.median, benchmark.unit),
        f"{amount(stats.iqr, benchmark.unit)}{share}",
    ]
    cells += [
        "baseline"
        if benchmark.baseline
        else "-"
        if ratio is None
        else ratio_words(ratio, benchmark.unit),
        target,
    ]
    if comparison:
        change = comparison.of(group, benchmark)
        cells += (
            [change_words(change.median), change_words(change.ratio)] if change else ["new", "-"]
        )
    return Row(tuple(cells), reached)


def target_words(group: Group, benchmark: Benchmark) -> tuple[str, bool | None]:
    """Return the target, and whether it was reached."""
    target, rival = benchmark.target, group.rival(benchmark)
    if target is None:
        return "", None
    what = (
        f"at most {target.at_most:g}x"
        if target.at_most is not None
        else f"at least {target.at_least:g}x as fast as"
    )
    other = target.of if target.n is None else f"{target.of} (n = {target.n:g})"
    if rival is None or rival.stats.median <= 0 or benchmark.stats.median <= 0:
        return f"{what} {other}: not measured", None
    mine, theirs = benchmark.stats.median, rival.stats.median
    reached = target.reached(mine, theirs)
    verdict = "reached" if reached else "missed"
    return (
        f"{what} {other}: {digits(target.value(mine, theirs))}x, {verdict}",
        reached,
    )


def facts_table(facts: Facts) -> list[tuple[str, str]]:
    """Return the facts of the machine as pairs of a name and a value."""
    used = "" if facts.usable_cores == facts.cores else f", {facts.usable_cores} of them usable"
    peers = [
        f"{name} {version}" if version else f"{name} not installed"
        for name, version in facts.peers.items()
    ]
    return [
        ("processor", facts.cpu),
        ("cores", f"{facts.cores}{used}"),
        ("memory", f"{facts.memory / 2**30:.1f} GiB"),
        ("system", f"{facts.system}, {facts.kernel}"),
        ("Python", facts.python),
        ("pylinker", facts.pylinker),
        ("peers", ", ".join(peers)),
        ("load at start", f"{facts.load:.2f} on {facts.usable_cores} cores"),
    ]


def notes(run: Run, comparison: Comparison | None = None) -> list[str]:
    """Return notes for the reader."""
    shown = {(group.file, group.name) for group in run.groups}
    result = [f"not installed: {peer}" for peer in run.missing_peers]
    result += [f"{each.file} failed: {each.reason}" for each in run.failed if not each.group]
    for word, absents in (("skipped", run.skipped), ("failed", run.failed)):
        result += [
            f"{each.group}: {each.name} {word}: {each.reason}"
            for each in absents
            if each.group and (each.file, each.group) not in shown
        ]
    if run.quick:
        result.append("a quick run: it shows that everything works, the numbers are rough")
    if run.facts.load > run.facts.usable_cores / 2:
        result.append("the machine was busy when the run began: expect noise")
    if comparison:
        result += [f"compared with the run of {comparison.created}", *comparison.warnings]
        result += [f"measured then, not now: {name}" for name in comparison.gone]
    return result
