"""Made-up results of benchmarks, for the tests of what is made of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from pylinker.bench.facts import Facts
from pylinker.bench.results import Absent, Benchmark, Group, Run, Stats, Target

FACTS = Facts(
    cpu="A processor",
    cores=8,
    usable_cores=4,
    memory=16 << 30,
    system="A system 1",
    kernel="Linux 6.1 x86_64",
    python="CPython 3.12.1",
    pylinker="0.1.0",
    peers={"wasmtime-py": "50.0.1", "wasmer-sdk": None},
    load=0.25,
)


def measured(name: str, median: float, contender: str = "pylinker", **keywords: Any) -> Benchmark:
    """A benchmark with this median in seconds and quartiles of 0.9 and 1.2 times the median."""
    stats = Stats(
        median,
        median * 0.9,
        median * 1.2,
        median * 0.8,
        median * 9,
        median * 1.1,
        median * 0.3,
        100,
        7,
    )
    return Benchmark(name, contender, stats, **keywords)


CALL = Group(
    "bench_call.py",
    "call a function",
    (
        measured("pylinker", 2e-6, target=Target("bare", at_most=1.5)),
        measured("wasmtime", 8e-6, "wasmtime-py", baseline=True),
        measured("bare_call", 1e-6, "bare"),
    ),
)
SCALING = Group(
    "bench_threads.py",
    "open among threads",
    tuple(
        each
        for n in (1, 2, 4)
        for each in (
            measured(
                f"pylinker[{n}]", 1e-3 * n, n=n, n_name="threads", target=Target("bare", at_least=2)
            ),
            measured(f"barrier[{n}]", 3e-3 * n, "bare", n=n, n_name="threads", baseline=True),
        )
    ),
)
LATENCY = Group(
    "bench_latency.py",
    "wait for the others",
    (
        measured(
            "pylinker",
            1e-4,
            samples=tuple(1e-6 * number for number in range(1, 101)),
            baseline=True,
        ),
        measured("wasmer", 2e-4, "wasmer-sdk", samples=(1e-4, 2e-4, 9e-3)),
    ),
)
SKIPPED = Absent(
    "bench_call.py", "call a function", "wasmer", "not installed: wasmer-sdk", "wasmer-sdk"
)
FAILED = Absent("bench_other.py", "another group", "pylinker", "AssertionError: 1 == 2")
BROKEN = Absent("bench_broken.py", "", "", "ModuleNotFoundError: No module named 'x'")


def made_up(*groups: Group, **changes: Any) -> Run:
    """A complete run with these groups."""
    run = Run(
        "2030-01-02T03:04:05+00:00",
        quick=False,
        names=(),
        facts=FACTS,
        groups=groups or (CALL, SCALING, LATENCY),
    )
    return dataclasses.replace(run, **changes)
