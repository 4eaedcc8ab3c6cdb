"""Calls of a guest function from Python, beside wasmtime-py and one call through cffi.

pylinker bench call

Each contender is called in a loop that is written out, as a program would have it:
pytest-benchmark's own would pass the arguments on as a tuple, which costs a Python function more
than a C one.

The floor, `bare`, is a call of `wasmtime_func_call_unchecked` with its five arguments, which are
made before: the values are in place, and nothing is looked at afterwards. It goes through
`pl_instances_invoke`, which has the same five parameters and passes them on: with no stack pointer
to save it adds a call and a branch. The address of wasmtime's own function, called through a cffi
function pointer, would go through libffi and take more than twice as long.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from pylinker._core import ffi, lib
from pylinker.benchmarks.roles import Target, per_call, role
from pylinker.native.instances import Instances
from pylinker.native.objects import values

GROUP = "call (i32, i32) -> i32 from Python"
BOUND = "call (i32, i32) -> i32 from Python, bound before"
CALLS = 20_000


@pytest.fixture
def library(library_path: Path) -> pylinker.CDLL:
    return pylinker.CDLL(library_path)


@pytest.mark.benchmark(group=GROUP)
def bench_function(benchmark: Any, library: pylinker.CDLL) -> None:
    role(benchmark, contender="pylinker", target=Target(at_least=40, of="wasmtime-py"))

    def loop(calls: int) -> int:
        for _ in range(calls):
            result = library.add(1, 2)
        return result

    assert per_call(benchmark, loop, CALLS) == 3


def loop_bound(call: Callable[[int, int], int], calls: int) -> int:
    for _ in range(calls):
        result = call(1, 2)
    return result


@pytest.mark.benchmark(group=GROUP)
def bench_bound(benchmark: Any, library: pylinker.CDLL) -> None:
    role(benchmark, contender="pylinker", target=Target(at_least=60, of="wasmtime-py"))
    assert per_call(benchmark, partial(loop_bound, library["add"].bind()), CALLS) == 3


@pytest.mark.benchmark(group=BOUND)
def bench_bound_before(benchmark: Any, library: pylinker.CDLL) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=2, of="bare"))
    assert per_call(benchmark, partial(loop_bound, library["add"].bind()), CALLS) == 3


@pytest.mark.benchmark(group=GROUP)
def bench_wasmtime(benchmark: Any, library_bytes: bytes) -> None:
    role(benchmark, contender="wasmtime-py", baseline=True)
    store = wasmtime.Store()
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, None)))
    base = wasmtime.Global(
        store, wasmtime.GlobalType(wasmtime.ValType.i32(), mutable=False), wasmtime.Val.i32(0)
    )
    sink = wasmtime.Func(
        store,
        wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()]),
        lambda value: value,
    )
    instance = wasmtime.Instance(
        store, wasmtime.Module(store.engine, library_bytes), [memory, base, sink]
    )
    add = instance.exports(store)["add"]

    def loop(calls: int) -> int:
        for _ in range(calls):
            result = add(store, 1, 2)
        return result

    assert per_call(benchmark, loop, CALLS // 20) == 3


@pytest.mark.benchmark(group=BOUND)
def bench_bare_cffi_call(benchmark: Any, library: pylinker.CDLL) -> None:
    role(benchmark, contender="bare", baseline=True)
    linker = library.program._linker
    group = linker.group
    instances = Instances(
        group.state, group.store.context, group._wasi.native
    )  # of no library, with no stack pointer
    invoke, record = lib.pl_instances_invoke, instances.pointer
    func = group.function(linker.state.modules[0], "add")
    raw, failure = values(2), ffi.new("pl_failure *")
    raw[0].i32, raw[1].i32 = 1, 2

    def loop(calls: int) -> None:
        for _ in range(calls):
            invoke(record, func, raw, 2, failure)

    loop(1)
    assert raw[0].i32 == 3  # the result, and the first argument of the next call
    per_call(benchmark, loop, CALLS)
    assert failure.trap == failure.error == ffi.NULL
