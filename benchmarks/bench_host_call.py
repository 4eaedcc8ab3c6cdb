"""Calls of a Python function from a guest, beside a wasmtime.Func of the same function.

pylinker bench host_call
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from pylinker.benchmarks.roles import Target, per_call, role

GROUP = "call a Python function (i32, i32) -> i32, in the guest"
CALLS = 100_000

# Each call gets what the one before returned: none can be left out.
GUEST = r"""(module
  (@dylink.0 (mem-info (memory 0 0)))
  (import "env" "add" (func $add (param i32 i32) (result i32)))
  (func (export "loop") (param $calls i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (call $add (local.get $sum) (i32.const 3)))
      (br_if $again (local.tee $calls (i32.sub (local.get $calls) (i32.const 1)))))
    (local.get $sum)))"""


def add(left: int, right: int) -> int:
    return left + right


@pytest.fixture
def guest() -> bytes:
    return bytes(wasmtime.wat2wasm(GUEST))


@pytest.mark.benchmark(group=GROUP)
def bench_pylinker(benchmark: Any, guest: bytes, tmp_path: Path) -> None:
    role(benchmark, contender="pylinker", target=Target(at_least=3, of="wasmtime-py"))
    path = tmp_path / "libloop.so"
    path.write_bytes(guest)
    with pylinker.CDLL(path, imports={"add": add}) as library:
        assert per_call(benchmark, library.loop, CALLS) == 3 * benchmark.extra_info["calls"]


@pytest.mark.benchmark(group=GROUP)
def bench_wasmtime(benchmark: Any, guest: bytes) -> None:
    role(benchmark, contender="wasmtime-py", baseline=True)
    store = wasmtime.Store()
    i32 = wasmtime.ValType.i32()
    function = wasmtime.Func(store, wasmtime.FuncType([i32, i32], [i32]), add)
    loop = wasmtime.Instance(store, wasmtime.Module(store.engine, guest), [function]).exports(
        store
    )["loop"]
    assert (
        per_call(benchmark, lambda calls: loop(store, calls), CALLS)
        == 3 * benchmark.extra_info["calls"]
    )
