"""`dlsym` in a WASIX program: a name looked up before, and new names while other threads run.

pylinker bench dlsym

By the program's own clock, against the WASIX linker of wasmer.

*Known*: the core keeps what a group has looked up, under what the guest asked for. So the floor is
a host call and hashing the name: no Python, no lock and no rendezvous.

*New*: all exported functions of a library have had their table slots, in every group, since it was
opened. So a lookup reads the linker's state and changes nothing: other threads do not notice, and
it costs as much as alone. Python makes it, which is the floor here.
"""

from __future__ import annotations

from typing import Any

import pytest

from pylinker.benchmarks.guests import Guests
from pylinker.benchmarks.roles import Target, quick, reported, role

KNOWN = "dlsym of a known symbol, in the guest"
NEW = "dlsym of a new function, in the guest"
OTHERS = (1, 16) if quick() else (1, 4, 16, 64)
N_NAME = "other threads in a loop of host calls"


@pytest.mark.benchmark(group=KNOWN)
def bench_pylinker(benchmark: Any, guests: Guests) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=1, of="wasmer-sdk"))
    reported(benchmark, guests.seconds("pylinker", "dlsym, known function", "dlsym"))


@pytest.mark.benchmark(group=KNOWN)
def bench_wasmer(benchmark: Any, guests: Guests) -> None:
    role(benchmark, contender="wasmer-sdk", baseline=True)
    reported(benchmark, guests.seconds("wasmer-sdk", "dlsym, known function", "dlsym"))


@pytest.mark.benchmark(group=NEW)
def bench_alone(benchmark: Any, guests: Guests) -> None:
    role(benchmark, contender="pylinker", baseline=True)
    reported(benchmark, guests.seconds("pylinker", "dlsym, new function", "dlsym"))


@pytest.mark.benchmark(group=NEW)
@pytest.mark.parametrize("others", OTHERS)
def bench_with_others(benchmark: Any, guests: Guests, others: int) -> None:
    role(
        benchmark,
        contender="pylinker",
        n=others,
        n_name=N_NAME,
        target=Target(at_most=2, of="alone"),
    )
    reported(benchmark, guests.seconds("pylinker", "dlsym, new function", "dlsym", others, "yield"))


@pytest.mark.benchmark(group=NEW)
@pytest.mark.parametrize("others", [0, *OTHERS])
def bench_wasmer_with_others(benchmark: Any, guests: Guests, others: int) -> None:
    role(benchmark, contender="wasmer-sdk", n=others, n_name=N_NAME)
    reported(
        benchmark, guests.seconds("wasmer-sdk", "dlsym, new function", "dlsym", others, "yield")
    )
