"""Rendezvous of all threads: duration, distribution, and what each thread adds to a `dlopen`.

pylinker bench rendezvous

*Meet*: an operation that changes nothing, with N threads in a loop of `sched_yield`. All of them
come to the barrier, wait there, and carry it out before the leader returns. The floor, `bare`, is
what N threads in the same loop need to see a word change in their memory and to answer by counting:
each must have been on a processor once. With more threads than processors that is mostly the
scheduler's time. The same with threads that ask for the time in a loop: none of them gives up its
processor, which it may keep for some milliseconds.

*Each further thread*: the time of a `dlopen` (`pylinker bench dlopen`) beyond that without other
threads, divided by their number. Without any there is no rendezvous, so this has the fixed part of
one, too, which is much for few threads. *By a line*: the slope of a line through the times with all
these numbers of threads, which is without it. The floor is five `wasmtime_instance_new` of the same
library, and one wake-up of a sleeping thread: half of the time that a byte takes through a pipe to
another process, and back.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pylinker.benchmarks.bare import Bare
from pylinker.benchmarks.company import BUSY, LOOP, SHARED, looping, threaded
from pylinker.benchmarks.guests import GUEST, Guests
from pylinker.benchmarks.roles import Target, quick, reported, role, samples, scaled
from pylinker.linker.plan.operation import AllocateFunctionTable
from pylinker.runtime.store import GuestStore

MEET = "a rendezvous for nothing, with N threads in a loop of host calls"
MEET_BUSY = "a rendezvous for nothing, with N threads that never give up the processor"
EACH = "what each of N running threads adds to a dlopen"
THREADS = [1, 4, 16] if quick() else [1, 2, 4, 8, 16, 32, 64]
N_NAME = "other threads in a loop of host calls"

each_count = pytest.mark.parametrize("threads", THREADS)
ROUNDS = 500

ANSWER = f"""(module
  (@dylink.0 (mem-info (memory 12 2)))
  {SHARED}
  (import "env" "__memory_base" (global $base i32))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (func (export "loop") (local $seen i32) (local $now i32)
    (drop (i32.atomic.rmw.add offset=4 (global.get $base) (i32.const 1)))
    (loop $again
      (drop (call $yield))
      (local.set $now (i32.atomic.load (global.get $base)))
      (if (i32.ne (local.get $now) (local.get $seen))
        (then
          (local.set $seen (local.get $now))
          (drop (i32.atomic.rmw.add offset=8 (global.get $base) (i32.const 1)))))
      (br_if $again (i32.ge_s (local.get $now) (i32.const 0)))))
  (func (export "begun") (result i32) (i32.atomic.load offset=4 (global.get $base)))
  (func (export "ask") (param $threads i32)
    (i32.atomic.store offset=8 (global.get $base) (i32.const 0))
    (drop (i32.atomic.rmw.add (global.get $base) (i32.const 1)))
    (loop $again
      (drop (call $yield))
      (br_if $again (i32.lt_s (i32.atomic.load offset=8 (global.get $base)) (local.get $threads)))))
  (func (export "halt") (i32.atomic.store (global.get $base) (i32.const -1))))"""


def measure(benchmark: Any, meet: Callable[[], object]) -> None:
    """Report how long ``meet()`` takes each time."""
    times = []
    for _ in range(scaled(ROUNDS)):
        begin = time.perf_counter()
        meet()
        times.append(time.perf_counter() - begin)
    samples(benchmark, times)
    reported(benchmark, times)


@pytest.mark.benchmark(group=MEET)
@each_count
def bench_pylinker(benchmark: Any, tmp_path: Path, threads: int) -> None:
    role(benchmark, contender="pylinker", n=threads, n_name=N_NAME)
    meetings(benchmark, tmp_path, threads, LOOP)


@pytest.mark.benchmark(group=MEET_BUSY)
@each_count
def bench_busy(benchmark: Any, tmp_path: Path, threads: int) -> None:
    role(benchmark, contender="pylinker", n=threads, n_name=N_NAME)
    meetings(benchmark, tmp_path, threads, BUSY)


def meetings(benchmark: Any, directory: Path, threads: int, loop: str) -> None:
    with threaded(directory) as program, looping(program, directory, threads, loop):
        context = program._linker.context

        def meet() -> None:
            with context.exclusive() as change:
                change.publish(AllocateFunctionTable(table_size=0))

        before = context.shared._native.published
        measure(benchmark, meet)
        assert context.shared._native.published == before + scaled(ROUNDS)


@pytest.mark.benchmark(group=MEET)
@each_count
def bench_answers(benchmark: Any, tmp_path: Path, threads: int) -> None:
    role(benchmark, contender="bare", n=threads, n_name=N_NAME, baseline=True)
    with threaded(tmp_path) as program, looping(program, tmp_path, threads, ANSWER) as library:
        ask = library["ask"].bind()
        measure(benchmark, lambda: ask(threads))


@pytest.mark.benchmark(group=EACH)
@each_count
def bench_dlopen(benchmark: Any, guests: Guests, threads: int) -> None:
    role(
        benchmark,
        contender="pylinker",
        n=threads,
        n_name=N_NAME,
        target=Target(at_most=1, of="five_instances_and_a_wakeup"),
    )
    added: list[float] = []
    for _ in range(1 if quick() else 3):  # side by side: it is a small difference of two times
        alone = statistics.median(guests.fresh("dlopen", "dlopen"))
        added += [
            max(seconds - alone, 0) / threads
            for seconds in guests.fresh("dlopen", "dlopen", threads, "yield")
        ]
    reported(benchmark, added)


@pytest.mark.benchmark(group=EACH)
def bench_dlopen_by_a_line(benchmark: Any, guests: Guests) -> None:
    role(
        benchmark, contender="pylinker", target=Target(at_most=1, of="five_instances_and_a_wakeup")
    )
    times = [
        guests.seconds("pylinker", "dlopen", "dlopen", threads, "yield") for threads in THREADS
    ]
    reported(
        benchmark,
        [
            max(statistics.linear_regression(THREADS, each).slope, 0)
            for each in zip(*times, strict=True)
        ],
    )


TURNS = 10  # of two times the work in a round: a byte and its answer are two wake-ups


def wake_ups(benchmark: Any, instances: int) -> None:
    bare = Bare([GUEST / "libsmall.so"])
    loop = "import os\nwhile data := os.read(0, 1): os.write(1, data)"
    with subprocess.Popen(
        [sys.executable, "-c", loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as echo:
        to, back = echo.stdin.fileno(), echo.stdout.fileno()

        def setup() -> tuple[tuple[Any, Any], dict[str, Any]]:
            store = GuestStore(None)  # which keeps all instances until it goes
            return (store, bare.prepare(store) * 2 * instances), {}

        def work(store: GuestStore, prepared: Any) -> None:
            for _ in range(TURNS):
                bare.instantiate(store, prepared)
                os.write(to, b"x")
                os.read(back, 1)

        benchmark.extra_info["calls"] = 2 * TURNS
        benchmark.pedantic(work, setup=setup, rounds=scaled(500), warmup_rounds=5)
        echo.stdin.close()


@pytest.mark.benchmark(group=EACH)
def bench_five_instances_and_a_wakeup(benchmark: Any) -> None:
    role(benchmark, contender="bare", baseline=True)
    wake_ups(benchmark, 5)


@pytest.mark.benchmark(group=EACH)
def bench_wakeup_only(benchmark: Any) -> None:
    """How much of the floor is not the instances."""
    role(benchmark, contender="bare")
    wake_ups(benchmark, 0)
