"""A WASIX program makes host calls that have nothing to do: against the WASIX linker of wasmer.

pylinker bench "WASIX host call"

The program calls each function ten thousand times between two looks at its own clock. All three are
safepoints: they check whether an operation is pending, and none is. The
floor is wasmtime's way out of the guest and back (`pylinker bench safepoint`), and what the
function is for: a number that is known, a system call that yields, a read of the clock.
"""

from __future__ import annotations

from typing import Any

import pytest

from pylinker.benchmarks.guests import Guests
from pylinker.benchmarks.roles import Target, reported, role

CALLS = ("thread_id", "sched_yield", "clock_time_get")
each_call = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.benchmark(group=f"WASIX host call: {name}"))
        for name in CALLS
    ],
)


@each_call
def bench_pylinker(benchmark: Any, guests: Guests, name: str) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=1, of="wasmer-sdk"))
    reported(benchmark, guests.seconds("pylinker", name, "host"))


@each_call
def bench_wasmer(benchmark: Any, guests: Guests, name: str) -> None:
    role(benchmark, contender="wasmer-sdk", baseline=True)
    reported(benchmark, guests.seconds("wasmer-sdk", name, "host"))
