"""Start and join of a thread with M libraries open, beside the WASIX linker of wasmer.

pylinker bench spawn

By the program's own clock. A thread needs a store and an instance of each module in it, with filled
table slots and a block of thread-local data for those that have some: so the floor is a thread of
the operating system, some ten microseconds, and M instances (`instance_new` in `pylinker bench
per`). pylinker makes them in C from records that the load left behind: nothing is resolved again.
"""

from __future__ import annotations

from typing import Any

import pytest

from pylinker.benchmarks.guests import Guests
from pylinker.benchmarks.roles import Target, reported, role

GROUP = "spawn and join a thread, with M libraries"
TARGETS = {0: Target(at_most=1 / 4, of="wasmer-sdk"), 100: Target(at_most=1 / 10, of="wasmer-sdk")}

each_count = pytest.mark.parametrize("libraries", [0, 1, 10, 100])


@pytest.mark.benchmark(group=GROUP)
@each_count
def bench_pylinker(benchmark: Any, guests: Guests, libraries: int) -> None:
    role(
        benchmark,
        contender="pylinker",
        n=libraries,
        n_name="libraries",
        target=TARGETS.get(libraries),
    )
    reported(benchmark, guests.seconds("pylinker", "spawn and join", "spawn", libraries))


@pytest.mark.benchmark(group=GROUP)
@each_count
def bench_wasmer(benchmark: Any, guests: Guests, libraries: int) -> None:
    role(benchmark, contender="wasmer-sdk", n=libraries, n_name="libraries", baseline=True)
    reported(benchmark, guests.seconds("wasmer-sdk", "spawn and join", "spawn", libraries))
