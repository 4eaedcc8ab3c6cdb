"""`dlopen` of a small, already compiled library: alone, and beside running or waiting threads.

pylinker bench dlopen

Opened from Python, against what wasmtime alone needs for it: reading the compiled code and one
instance.

Opened by a WASIX program, by its own clock, against the WASIX linker of wasmer. A library is opened
in all threads at one moment, so among N threads it takes N + 1 instances. Threads in a loop of host
calls must come to the rendezvous, each be woken up once, and instantiate the library before the
opener returns; how much of that is pylinker's is in `pylinker bench rendezvous`. Threads that wait
(`futex_wait`) are parked: they instantiate it when they are back, and cost the opener a look at the
state of each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from pylinker.benchmarks.guests import Guests
from pylinker.benchmarks.roles import Target, quick, reported, role

PYTHON = "open and close a small library, warm, from Python"
ALONE = "dlopen of a small library, warm, nobody else running"
RUNNING = "dlopen of a small library, warm, among threads in a loop of host calls"
WAITING = "dlopen of a small library, warm, among threads that wait"
OTHERS = [1, 4, 16] if quick() else [1, 2, 4, 8, 16, 32, 64]

# A store keeps its instances, and an instance the file that its module was read from, until the
# store is closed.
STORE_USES = 100


class Floor:
    """A store of wasmtime's and what the library imports."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self.used = 0
        self.store = wasmtime.Store(engine)
        memory = wasmtime.Memory(self.store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
        base = wasmtime.Global(
            self.store,
            wasmtime.GlobalType(wasmtime.ValType.i32(), mutable=False),
            wasmtime.Val.i32(0),
        )
        sink = wasmtime.Func(
            self.store,
            wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()]),
            lambda value: value,
        )
        self.imports = [memory, base, sink]


each_count = pytest.mark.parametrize("others", OTHERS)


@pytest.mark.benchmark(group=PYTHON)
def bench_open_and_close(benchmark: Any, library_path: Path) -> None:
    role(benchmark, contender="pylinker")
    program = pylinker.Program(None)

    def open_and_close() -> None:
        program.dlopen(library_path).close()

    benchmark(open_and_close)
    assert program.statistics().modules == 0


@pytest.mark.benchmark(group=PYTHON)
def bench_deserialize_and_instantiate(benchmark: Any, library_bytes: bytes, tmp_path: Path) -> None:
    """The floor: no search, no symbols, no table."""
    role(benchmark, contender="wasmtime-py", baseline=True)
    engine = wasmtime.Engine()
    path = tmp_path / "library.cwasm"
    path.write_bytes(wasmtime.Module(engine, library_bytes).serialize())
    current = Floor(engine)

    def instantiate() -> None:
        nonlocal current
        if current.used == STORE_USES:
            current.store.close()
            current = Floor(engine)
        current.used += 1
        wasmtime.Instance(
            current.store, wasmtime.Module.deserialize_file(engine, str(path)), current.imports
        )

    benchmark(instantiate)


@pytest.mark.benchmark(group=ALONE)
def bench_pylinker(benchmark: Any, guests: Guests) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=1 / 2, of="wasmer-sdk"))
    reported(benchmark, guests.seconds("pylinker", "dlopen", "dlopen"))


@pytest.mark.benchmark(group=ALONE)
def bench_wasmer(benchmark: Any, guests: Guests) -> None:
    role(benchmark, contender="wasmer-sdk", baseline=True)
    reported(benchmark, guests.seconds("wasmer-sdk", "dlopen", "dlopen"))


def among(
    benchmark: Any, guests: Guests, contender: str, others: int, kind: str, **keywords: Any
) -> None:
    what = {"yield": "other threads in a loop of host calls", "futex": "other threads that wait"}[
        kind
    ]
    role(benchmark, contender=contender, n=others, n_name=what, **keywords)
    reported(benchmark, guests.seconds(contender, "dlopen", "dlopen", others, kind))


@pytest.mark.benchmark(group=RUNNING)
@each_count
def bench_pylinker_running(benchmark: Any, guests: Guests, others: int) -> None:
    target = Target(at_most=1 / 4, of="wasmer-sdk") if others == 16 else None
    among(benchmark, guests, "pylinker", others, "yield", target=target)


@pytest.mark.benchmark(group=RUNNING)
@each_count
def bench_wasmer_running(benchmark: Any, guests: Guests, others: int) -> None:
    among(benchmark, guests, "wasmer-sdk", others, "yield", baseline=True)


@pytest.mark.benchmark(group=WAITING)
def bench_alone(benchmark: Any, guests: Guests) -> None:
    role(benchmark, contender="pylinker", baseline=True)
    reported(benchmark, guests.seconds("pylinker", "dlopen", "dlopen"))


@pytest.mark.benchmark(group=WAITING)
@each_count
def bench_pylinker_waiting(benchmark: Any, guests: Guests, others: int) -> None:
    among(benchmark, guests, "pylinker", others, "futex", target=Target(at_most=1.3, of="alone"))


@pytest.mark.benchmark(group=WAITING)
@each_count
def bench_wasmer_waiting(benchmark: Any, guests: Guests, others: int) -> None:
    among(benchmark, guests, "wasmer-sdk", others, "futex")
