"""A small library is opened and closed, compiled before: against what wasmtime alone needs to instantiate it.

pylinker bench dlopen
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from pylinker.benchmarks.roles import role

GROUP = "open and close a small library, warm"


@pytest.mark.benchmark(group=GROUP)
def bench_pylinker(benchmark: Any, library_path: Path) -> None:
    role(benchmark, contender="pylinker")
    program = pylinker.Program(None)

    def open_and_close() -> None:
        program.dlopen(library_path).close()

    benchmark(open_and_close)
    assert program.statistics().modules == 0


@pytest.mark.benchmark(group=GROUP)
def bench_deserialize_and_instantiate(benchmark: Any, library_bytes: bytes, tmp_path: Path) -> None:
    """The floor: no search, no symbols, no table."""
    role(benchmark, contender="wasmtime-py", baseline=True)
    engine = wasmtime.Engine()
    path = tmp_path / "library.cwasm"
    path.write_bytes(wasmtime.Module(engine, library_bytes).serialize())
    store = wasmtime.Store(engine)
    store.set_limits(instances=1 << 40)
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
    base = wasmtime.Global(store, wasmtime.GlobalType(wasmtime.ValType.i32(), mutable=False), wasmtime.Val.i32(0))
    sink = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()]), lambda value: value)

    def instantiate() -> None:
        wasmtime.Instance(store, wasmtime.Module.deserialize_file(engine, str(path)), [memory, base, sink])

    benchmark(instantiate)
