"""Python calls a guest function: against wasmtime-py, and against the least that a call through cffi can cost.

pylinker bench call
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from pylinker._core import ffi, lib
from pylinker._native import values
from pylinker.benchmarks.roles import Target, role

GROUP = "call (i32, i32) -> i32 from Python"


@pytest.fixture
def library(library_path: Path) -> pylinker.CDLL:
    return pylinker.CDLL(library_path)


@pytest.mark.benchmark(group=GROUP)
def bench_pylinker(benchmark: Any, library: pylinker.CDLL) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=1.5, of="bare"))
    add = library.add
    assert benchmark(add, 1, 2) == 3


@pytest.mark.benchmark(group=GROUP)
def bench_wasmtime(benchmark: Any, library_bytes: bytes) -> None:
    role(benchmark, contender="wasmtime-py", baseline=True)
    store = wasmtime.Store()
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
    base = wasmtime.Global(store, wasmtime.GlobalType(wasmtime.ValType.i32(), mutable=False), wasmtime.Val.i32(0))
    sink = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()]), lambda value: value)
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, library_bytes), [memory, base, sink])
    add = instance.exports(store)["add"]
    assert benchmark(add, store, 1, 2) == 3


@pytest.mark.benchmark(group=GROUP)
def bench_bare_cffi_call(benchmark: Any, library: pylinker.CDLL) -> None:
    """The floor: one call into the C core with the values in place and nothing looked at afterwards."""
    role(benchmark, contender="bare")
    linker = library.program._linker
    group = linker.group
    func = group.function(linker.state.modules[0], "add")
    raw, failure = values(2), ffi.new("pl_failure *")

    def call() -> None:
        raw[0].i32, raw[1].i32 = 1, 2
        lib.pl_call(group.state.member.pointer, group.store.context, func, raw, 2, failure)

    benchmark(call)
    assert raw[0].i32 == 3
