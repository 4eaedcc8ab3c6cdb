"""Uncontended calls of `pylinker.sync`, beside the same in C: flag, lock, token, pauses.

pylinker bench sync

The floor, `bare`, is the same primitive of the core in a loop of C (`csrc/measure.h`). Between the
two is a call from Python, and for a guard or token the object. What Python's own calls cost is in
each group, too: `len()` of a list returns a number and takes nothing; a `threading.Lock` is taken
without waiting and released. So a target is a multiple of what CPython needs for a call that does
less.

*Rendezvous*: one thread leads an operation that changes nothing, N - 1 others pass safepoints with
a yield between two. All come to the barrier, wait there and replay before the leader continues.
`pylinker` leads through `pylinker.sync`, and a replay is a function of Python. In C both are C's.
The floor is the least that N threads in the same loop need: each sees a word change and counts.
With more threads than processors that is mostly the scheduler's time.

*Pauses*: the 24 yields of a back-off, while another thread computes in Python. Each that gave up
the GIL would wait for it for five milliseconds; `bare` are the same yields in C, without the GIL.
"""

from __future__ import annotations

import threading
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pylinker._core import ffi, lib
from pylinker.benchmarks.roles import Target, per_call, quick, role
from pylinker.native.enums import RUNNING, Measured
from pylinker.sync import Cause, InstanceGroupState, LinkerShared, LinkerStateWriteBackoff, Ordering

FLAG = "load the pending flag"
LOCK = "take the free lock for writing, and release it"
TOKEN = "take the free topology token, and release it"
SAFEPOINT = "a safepoint with nothing pending, in Python"
MEET = "a rendezvous of N threads for an operation that changes nothing"
PAUSES = "the 24 yields of a back-off beside a busy Python thread"


def universe() -> tuple[LinkerShared[dict[str, str], str], InstanceGroupState[str]]:
    """Return a LinkerShared with one group."""
    shared: LinkerShared[dict[str, str], str] = LinkerShared.new({})
    with shared.write_linker_state_alone() as guard:
        group = shared.subscribe(guard, lambda _number, _operation: None)
    return shared, group


def python(benchmark: Any, statement: str, setup: str = "pass", **names: object) -> None:
    """Report the time of a statement."""
    timer = timeit.Timer(statement, setup, globals=names)
    per_call(benchmark, timer.timeit)


def core(benchmark: Any, what: Measured, calls: int = 1_000_000) -> None:
    """Report the time of the same in C."""
    shared, group = universe()
    pointer = shared._native.pointer

    def measure(calls: int) -> None:
        assert lib.pl_measure(pointer, group.pointer, what, calls) == calls

    per_call(benchmark, measure, calls)


@pytest.mark.benchmark(group=FLAG)
@pytest.mark.parametrize(
    "ordering", [Ordering.RELAXED, Ordering.SEQ_CST], ids=lambda each: each.name.lower()
)
def bench_flag(benchmark: Any, ordering: Ordering) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=3, of="len"))
    python(
        benchmark, "load(ordering)", load=universe()[0].dl_operation_pending_load, ordering=ordering
    )


@pytest.mark.benchmark(group=FLAG)
@pytest.mark.parametrize(
    "what", [Measured.FLAG_RELAXED, Measured.FLAG_SEQ_CST], ids=lambda each: each.name.lower()
)
def bench_flag_in_c(benchmark: Any, what: Measured) -> None:
    role(benchmark, contender="bare")
    core(benchmark, what)


@pytest.mark.benchmark(group=FLAG)
def bench_len(benchmark: Any) -> None:
    role(benchmark, contender="bare", baseline=True)
    python(benchmark, "load(ordering)", load=len, ordering=[])


@pytest.mark.benchmark(group=LOCK)
def bench_try_write(benchmark: Any) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=3, of="python_lock"))
    python(benchmark, "shared.try_write_linker_state().release()", shared=universe()[0])


@pytest.mark.benchmark(group=LOCK)
def bench_write(benchmark: Any) -> None:
    """The work of a group's thread, which replays everything."""
    shared, group = universe()
    role(benchmark, contender="pylinker", target=Target(at_most=5, of="python_lock"))
    python(benchmark, "shared.write_linker_state(group).release()", shared=shared, group=group)


@pytest.mark.benchmark(group=LOCK)
@pytest.mark.parametrize(
    "what", [Measured.TRY_WRITE, Measured.WRITE], ids=lambda each: each.name.lower()
)
def bench_lock_in_c(benchmark: Any, what: Measured) -> None:
    role(benchmark, contender="bare")
    core(benchmark, what)


@pytest.mark.benchmark(group=LOCK)
def bench_python_lock(benchmark: Any) -> None:
    role(benchmark, contender="bare", baseline=True)
    python(benchmark, "lock.acquire(False); lock.release()", lock=threading.Lock())


@pytest.mark.benchmark(group=TOKEN)
def bench_token(benchmark: Any) -> None:
    shared, group = universe()
    role(benchmark, contender="pylinker")
    python(benchmark, "shared.acquire_topology_token(group).release()", shared=shared, group=group)


@pytest.mark.benchmark(group=TOKEN)
def bench_token_in_c(benchmark: Any) -> None:
    role(benchmark, contender="bare", baseline=True)
    core(benchmark, Measured.TOKEN)


@pytest.mark.benchmark(group=SAFEPOINT)
def bench_safepoint(benchmark: Any) -> None:
    _shared, group = universe()
    role(benchmark, contender="pylinker", target=Target(at_most=3, of="len_again"))
    python(benchmark, "safepoint()", safepoint=group.safepoint)


@pytest.mark.benchmark(group=SAFEPOINT)
def bench_len_again(benchmark: Any) -> None:
    role(benchmark, contender="bare", baseline=True)
    python(benchmark, "length(empty)", length=len, empty=[])


MEMBERS = [2, 5] if quick() else [2, 3, 5, 8, 16, 32, 64]
each_count = pytest.mark.parametrize("members", MEMBERS)


@contextmanager
def company(
    shared: LinkerShared[dict[str, str], str],
    leader: InstanceGroupState[str],
    members: int,
    *,
    in_c: bool,
) -> Iterator[None]:
    """Have other groups follow until the end of the block; then the linker is cancelled."""
    groups, threads = [], []
    for _ in range(members - 1):
        topology, guard = shared.write_linker_state_with_topology(leader)
        with topology, guard:
            group = shared.subscribe(guard, lambda _number, _operation: None, topology)
        groups.append(group)
        threads.append(
            threading.Thread(target=lib.pl_measure_follow, args=(group.pointer, int(in_c), 1))
        )
    for thread in threads:
        thread.start()
    try:
        while any(each.state != RUNNING for each in groups):
            time.sleep(0.001)
        yield
    finally:
        shared.cancel(Cause.CLOSED)
        for thread in threads:
            thread.join()


def meet(benchmark: Any, members: int, *, in_c: bool, lead: Callable[..., object]) -> None:
    """Report the time of an operation led by ``lead(shared, group, count)``."""
    shared, leader = universe()
    with company(shared, leader, members, in_c=in_c):
        per_call(benchmark, lambda count: lead(shared, leader, count), 1000)


@pytest.mark.benchmark(group=MEET)
@each_count
def bench_meet(benchmark: Any, members: int) -> None:
    def lead(shared: Any, group: Any, count: int) -> None:
        for _ in range(count):
            topology, guard = shared.write_linker_state_with_topology(group)
            shared.synchronize_link_operation(topology, "nothing", guard, group)

    role(benchmark, contender="pylinker", n=members, n_name="threads")
    meet(benchmark, members, in_c=False, lead=lead)


@pytest.mark.benchmark(group=MEET)
@each_count
def bench_meet_in_c(benchmark: Any, members: int) -> None:
    def lead(_shared: Any, group: Any, count: int) -> None:
        assert lib.pl_measure_lead(group.pointer, count) == count

    role(
        benchmark,
        contender="pylinker",
        n=members,
        n_name="threads",
        target=Target(at_most=4, of="answers"),
    )
    meet(benchmark, members, in_c=True, lead=lead)


@pytest.mark.benchmark(group=MEET)
@each_count
def bench_answers(benchmark: Any, members: int) -> None:
    role(benchmark, contender="bare", n=members, n_name="threads", baseline=True)
    words = ffi.new("uint32_t[]", 2)
    threads = [
        threading.Thread(target=lib.pl_measure_answer, args=(words,)) for _ in range(members - 1)
    ]
    for thread in threads:
        thread.start()
    try:
        while words[1] < members - 1:
            time.sleep(0.001)
        per_call(benchmark, lambda count: lib.pl_measure_ask(words, members - 1, count), 1000)
    finally:
        words[0] = 0xFFFFFFFF
        for thread in threads:
            thread.join()


@contextmanager
def busy() -> Iterator[None]:
    """Have another thread compute in Python."""
    is_over = False

    def compute() -> None:
        while not is_over:
            sum(range(100))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        is_over = True
        thread.join()


@pytest.mark.benchmark(group=PAUSES)
def bench_yields(benchmark: Any) -> None:
    role(benchmark, contender="pylinker", target=Target(at_most=10, of="yields_in_c"))
    backoff = LinkerStateWriteBackoff()

    def spin() -> tuple[tuple[()], dict[str, Any]]:
        backoff.reset()
        while backoff.next_sleep is None:
            backoff.pause()
        return (), {}

    def pause() -> None:
        while backoff.next_sleep == 0:
            backoff.pause()

    with busy():
        benchmark.pedantic(pause, setup=spin, rounds=50)


@pytest.mark.benchmark(group=PAUSES)
def bench_yields_in_c(benchmark: Any) -> None:
    role(benchmark, contender="bare", baseline=True)
    with busy():
        core(benchmark, Measured.YIELDS, 1000)
