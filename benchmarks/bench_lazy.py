"""Calls of a lazily bound function: the first call, and every later one.

pylinker bench lazy

*Later*: the import leads to a trampoline in wasm, which makes a tail call through a slot of a
table. The floor, `bare`, is `call_indirect` written in the caller itself; a direct import is what
neither of them can reach. The host is not called: the resolver is entered once, for the first call.

*First*: a hundred imports are called once each. The trampoline's slot leads to a stub, the stub
calls the resolver, which finds in C what the load has decided and sets the slot. That is a matter
of the calling group alone, so it takes no lock and does not wait: with other groups running it
costs what it costs alone, but for the processors they use.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pylinker
from pylinker.benchmarks.company import SHARED, looping, threaded, write
from pylinker.benchmarks.roles import Target, per_call, role, scaled

LATER = "the guest calls through a bound lazy import"
FIRST = "first call through a lazy import"

# What a library imports and exports itself may be another's, so it is bound late, like what is
# needed in a circle.
CALLER = """(module
  (@dylink.0 (mem-info (table 1 0)))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__table_base" (global $base i32))
  (import "env" "callee" (func $imported (param i32) (result i32)))
  (type $callee (func (param i32) (result i32)))
  (func $callee (export "callee") (param i32) (result i32) (i32.sub (local.get 0) (i32.const 1)))
  (elem (global.get $base) func $callee)
  (func (export "lazy") (param i32) (result i32)
    (loop $again (br_if $again (local.tee 0 (call $imported (local.get 0)))))
    (local.get 0))
  (func (export "indirect") (param i32) (result i32)
    (loop $again (br_if $again (local.tee 0
      (call_indirect (type $callee) (local.get 0) (global.get $base)))))
    (local.get 0)))"""

DIRECT = """(module
  (@dylink.0 (mem-info) (needed "libcaller.so"))
  (import "env" "callee" (func $imported (param i32) (result i32)))
  (func (export "direct") (param i32) (result i32)
    (loop $again (br_if $again (local.tee 0 (call $imported (local.get 0)))))
    (local.get 0)))"""

IMPORTS = 100
MANY = f"""(module
  (@dylink.0 (mem-info))
  {SHARED}
  {"".join(f'(import "env" "f{n}" (func $i{n}))' for n in range(IMPORTS))}
  {"".join(f'(func (export "f{n}"))' for n in range(IMPORTS))}
  (func (export "all") {"".join(f"(call $i{n})" for n in range(IMPORTS))}))"""


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[pylinker.CDLL]:
    with pylinker.CDLL(write(tmp_path, "libcaller.so", CALLER)) as library:
        yield library


@pytest.mark.benchmark(group=LATER)
def bench_bound_import(benchmark: Any, caller: pylinker.CDLL) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=1.5, of="call_indirect"))
    assert per_call(benchmark, caller["lazy"].bind()) == 0
    assert caller.program.statistics().resolver_entries == 1


@pytest.mark.benchmark(group=LATER)
def bench_call_indirect(benchmark: Any, caller: pylinker.CDLL) -> None:
    role(benchmark, contender="bare", baseline=True)
    assert per_call(benchmark, caller["indirect"].bind()) == 0


@pytest.mark.benchmark(group=LATER)
def bench_direct_import(benchmark: Any, caller: pylinker.CDLL, tmp_path: Path) -> None:
    """As pylinker makes it of what is defined by a library that was there before."""
    role(benchmark, contender="bare")
    direct = caller.program.dlopen(write(tmp_path, "libdirect.so", DIRECT))
    assert per_call(benchmark, direct["direct"].bind()) == 0
    assert caller.program.statistics().resolver_entries == 0


def first_calls(benchmark: Any, directory: Path, groups: int) -> None:
    path = write(directory, "libmany.so", MANY)
    with threaded(directory) as program:
        rounds = scaled(200)
        libraries: list[pylinker.Library] = []

        def setup() -> tuple[tuple[Any], dict[str, Any]]:
            while libraries:
                libraries.pop().close()
            libraries.append(program.dlopen(path))
            return (libraries[0]["all"].bind(),), {}

        with looping(program, directory, groups):
            shared = program._linker.context.shared._native
            seen: list[int] = []

            def call(function: Any) -> None:
                before = shared.published
                function()
                seen.append(shared.published - before)

            benchmark.extra_info["calls"] = IMPORTS
            benchmark.pedantic(call, setup=setup, rounds=rounds, warmup_rounds=1)
            assert set(seen) == {0}  # no rendezvous
            assert program.statistics().resolver_entries == IMPORTS


@pytest.mark.benchmark(group=FIRST)
def bench_alone(benchmark: Any, tmp_path: Path) -> None:
    role(benchmark, contender="pylinker", baseline=True)
    first_calls(benchmark, tmp_path, 0)


@pytest.mark.benchmark(group=FIRST)
@pytest.mark.parametrize("groups", [1, 4, 16])
def bench_with_others_running(benchmark: Any, tmp_path: Path, groups: int) -> None:
    role(
        benchmark,
        contender="pylinker",
        n=groups,
        n_name="other groups in a loop of host calls",
        target=Target(at_most=2, of="alone"),
    )
    first_calls(benchmark, tmp_path, groups)
