"""Symbol lookup in cached libraries: the first lookup of a name, and links of many libraries.

pylinker bench lookup

*First*: a library of 5,000 functions is opened from the cache on disk, and one of them is looked
up. All that a lookup needs is in the tables that the core uses as they are, so nothing of the
module is read again. wasmtime-py makes a mapping of all exports first.

*Many*: a program is linked a second time in a process, so all its modules are in memory. What a
process keeps is counted in bytes, so a program of many small libraries costs as much for each as
one of few.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from pylinker.api import program as program_module
from pylinker.benchmarks.roles import Target, reported, role, scaled

FIRST = "first lookup of a name in a library of 5,000 functions"
MANY = "link libraries again, for each library"
FUNCTIONS = 5000
ROUNDS = 20
FEW_LIBRARIES, MANY_LIBRARIES = 100, 400

HEAD = '(module (@dylink.0 (mem-info)) (import "env" "memory" (memory 1))'


def library(path: Path, functions: int, first: int = 0) -> Path:
    body = "".join(
        f'(func (export "function{each}") (result i32) (i32.const {each}))'
        for each in range(first, first + functions)
    )
    path.write_bytes(wasmtime.wat2wasm(f"{HEAD} {body})"))
    return path


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, with a cache beside it."""
    path = library(tmp_path_factory.mktemp("lookup") / "liblarge.so", FUNCTIONS)
    pylinker.CDLL(path, cache=path.parent / "cache").close()
    return path


@pytest.mark.benchmark(group=FIRST)
def bench_pylinker(benchmark: Any, large: Path) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=1, of="wasmtime-py"))
    cache = large.parent / "cache"
    seconds = []
    for _ in range(scaled(ROUNDS)):
        program_module._caches.pop(cache, None)  # as a new process
        gc.collect()
        with pylinker.CDLL(large, cache=cache) as opened:
            begin = time.perf_counter()
            function = opened["function4321"]
            seconds.append(time.perf_counter() - begin)
            assert function() == 4321
    reported(benchmark, seconds)


@pytest.mark.benchmark(group=FIRST)
def bench_wasmtime(benchmark: Any, large: Path) -> None:
    role(benchmark, contender="wasmtime-py", baseline=True)
    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, large.read_bytes())
    seconds = []
    for _ in range(scaled(ROUNDS)):
        store = wasmtime.Store(engine)
        memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
        instance = wasmtime.Instance(store, module, [memory])
        begin = time.perf_counter()
        function = instance.exports(store)["function4321"]
        seconds.append(time.perf_counter() - begin)
        assert isinstance(function, wasmtime.Func)
    reported(benchmark, seconds)


def linked(directory: Path, count: int) -> list[float]:
    """Return the seconds for each library of a link of so many, which are in memory."""
    paths = [library(directory / f"lib{number}.so", 4, 4 * number) for number in range(count)]
    seconds = []
    for _ in range(1 + scaled(ROUNDS)):
        gc.collect()
        begin = time.perf_counter()
        program = pylinker.Program(None, preload=paths, cache=directory / "cache")
        seconds.append((time.perf_counter() - begin) / count)
        program.close()
    return seconds[1:]


@pytest.mark.benchmark(group=MANY)
def bench_few(benchmark: Any, tmp_path: Path) -> None:
    role(benchmark, contender="pylinker", baseline=True)
    reported(benchmark, linked(tmp_path, FEW_LIBRARIES))


@pytest.mark.benchmark(group=MANY)
def bench_many(benchmark: Any, tmp_path: Path) -> None:
    role(
        benchmark,
        contender="pylinker",
        n=MANY_LIBRARIES,
        n_name="libraries",
        target=Target(at_most=1.5, of="few"),
    )
    reported(benchmark, linked(tmp_path, MANY_LIBRARIES))
