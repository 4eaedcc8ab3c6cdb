"""What a benchmark says about itself: who is measured, against whom, and what is to be reached.

    @pytest.mark.benchmark(group="what all contenders of this group do")
    def bench_pylinker(benchmark: Any) -> None:
        role(benchmark, contender="pylinker", target=Target(at_most=1.5, of="bare"))
        benchmark(function, argument)

Every group has a baseline: one, or one for each ``n``. ``docs/performance.md`` says what the report
makes of it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import ModuleType
from typing import Any, TypeVar

import pytest

from pylinker.bench.facts import PEERS
from pylinker.bench.plugin import NOT_INSTALLED
from pylinker.bench.results import Target, thinned

__all__ = ["Target", "peer", "per_call", "quick", "reported", "role", "samples", "scaled"]

CONTENDERS = ("pylinker", "bare", *PEERS)
MODULES = {"wasmtime-py": "wasmtime", "wasmer-sdk": "wasmer_sdk"}  # what is imported

Result = TypeVar("Result")


def role(
    benchmark: Any,
    *,
    contender: str,
    baseline: bool = False,
    target: Target | None = None,
    n: float | None = None,
    n_name: str = "n",
    keep_rounds: bool = False,
    unit: str = "s",
) -> None:
    """Declare what ``benchmark`` (the fixture) measures.

    ``contender`` is ``"pylinker"``, a peer, or ``"bare"``: the least that the same work can cost,
    without pylinker. ``n`` is what grows within the group, and ``n_name`` what that is, for example
    threads: the page draws time over ``n``. With ``keep_rounds`` the page shows how the times of
    the rounds are distributed. ``unit`` is ``"B"`` if bytes are reported and not times. Raises
    ``ValueError`` for an unknown contender.
    """
    if contender not in CONTENDERS:
        raise ValueError(f"contender {contender!r} is none of {', '.join(CONTENDERS)}")
    benchmark.extra_info.update(contender=contender, baseline=baseline, unit=unit)
    if target is not None:
        benchmark.extra_info["target"] = asdict(target)
    if n is not None:
        benchmark.extra_info.update(n=n, n_name=n_name)
    if keep_rounds:
        benchmark.extra_info["keep_rounds"] = True


def per_call(benchmark: Any, loop: Callable[[int], Result], calls: int = 1_000_000) -> Result:
    """Measure ``loop(calls)``, which makes so many calls by itself, and report the time of one.

    Returns what ``loop`` returned.

    This is how calls inside a guest are measured: one by one they are much shorter than the way
    there from Python. In a quick run it is a tenth of the calls.
    """
    calls = scaled(calls)
    benchmark.extra_info["calls"] = calls
    result: Result = benchmark(loop, calls)
    return result


def reported(benchmark: Any, values: Sequence[float]) -> None:
    """Use ``values`` as the rounds of the benchmark: seconds by another clock, or bytes."""
    if not values:
        raise ValueError("nothing was measured")
    benchmark.pedantic(lambda: None)
    if benchmark.stats is not None:  # None: pytest-benchmark was told to measure nothing
        benchmark.stats.stats.data[:] = values


def samples(benchmark: Any, seconds: Sequence[float]) -> None:
    """Record times that the benchmark took by itself: the page shows how they are distributed."""
    benchmark.extra_info["samples"] = thinned(list(seconds))


def peer(name: str) -> ModuleType:
    """Return the module of the peer ``name``, or skip the benchmark if it is not installed."""
    try:
        return importlib.import_module(MODULES[name])
    except ModuleNotFoundError as error:
        if error.name != MODULES[name]:
            raise
        pytest.skip(NOT_INSTALLED + name)


def quick() -> bool:
    """Return whether this is a quick run, which only shows that everything works."""
    return os.environ.get("PYLINKER_BENCH_QUICK", "0") not in {"", "0"}


def scaled(count: int) -> int:
    """Return ``count`` of rounds or calls, in a quick run a tenth of it and at least one."""
    return max(count // 10, 1) if quick() else count
