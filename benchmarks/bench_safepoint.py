"""`pylinker.safepoint` with nothing pending, beside a host function in C that does nothing.

pylinker bench safepoint

A loop in the guest, of one million calls. The floor, `bare`, is the same module in a store of the
same engine, so with the same check of the epoch in each turn of its loop; the function it imports
is `PL_BUILTIN_EMPTY`, which returns at once. It is in the core since no other function that does
nothing has the parameters that wasmtime passes. What is left is wasmtime's way out of the guest and
back: a few nanoseconds. The two looks of a safepoint, at the flag and at the cancellation, are two
loads that stay in the processor's cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from pylinker._core import ffi, lib
from pylinker.benchmarks.roles import Target, per_call, role
from pylinker.native.enums import BuiltinIndex
from pylinker.runtime.engine import engine
from pylinker.runtime.private import raw_function

GROUP = "the guest calls a host function that has nothing to do"

LOOP = """(module
  (@dylink.0 (mem-info))
  (import "pylinker" "safepoint" (func $call))
  (func (export "loop") (param i32) (result i32)
    (loop $again
      (call $call)
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 0)))"""


@pytest.mark.benchmark(group=GROUP)
def bench_safepoint(benchmark: Any, tmp_path: Path) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=1.5, of="bare"))
    path = tmp_path / "libloop.so"
    path.write_bytes(wasmtime.wat2wasm(LOOP))
    with pylinker.CDLL(path) as library:
        assert per_call(benchmark, library["loop"].bind()) == 0


@pytest.mark.benchmark(group=GROUP)
def bench_empty(benchmark: Any) -> None:
    role(benchmark, contender="bare", baseline=True)
    store = wasmtime.Store(engine())
    store.set_epoch_deadline(1 << 40)
    function = raw_function(
        store,
        wasmtime.FuncType([], []),
        int(ffi.cast("uintptr_t", lib.pl_builtin(BuiltinIndex.EMPTY))),
    )
    instance = wasmtime.Instance(
        store, wasmtime.Module(engine(), wasmtime.wat2wasm(LOOP)), [function]
    )
    loop = instance.exports(store)["loop"]
    assert per_call(benchmark, lambda calls: loop(store, calls)) == 0
