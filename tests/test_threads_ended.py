"""Threads that exit: their groups are reaped at the next topology change, unnoticed otherwise."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

import pylinker
from guests import DEADLINE, YIELD, Guest, orderly
from pylinker import SynchronizationAborted
from pylinker.linker.groups.group import InstanceGroup
from pylinker.linker.load.linker import Linker
from pylinker.linker.plan.state import LinkerState
from pylinker.native import threads
from pylinker.sync import LinkerShared
from toolchain import Scenario

ROOM = 16  # PL_EXITED_MOST


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


@pytest.fixture
def guest(scenario: Scenario) -> Iterator[Guest]:
    with Guest(scenario("threads")) as guest:
        yield guest


def linker_of(guest: Guest) -> Linker:
    linker = guest.program._linker
    assert linker is not None
    return linker


def since(before: set[int]) -> set[int]:
    """Threads of the core that are kept and were not before.

    Those of another test may end meanwhile.
    """
    return set(threads._threads) - before


def let_end(guest: Guest, count: int, *, first: int = 0) -> LinkerShared[LinkerState, object]:
    """Start threads, let them return, and wait until that many groups are left behind."""
    shared = linker_of(guest).context.shared
    running = guest["running"]
    guest["stop"] = 0
    assert guest.main.start_threads(first, count, YIELD, 0) == count
    guest.until("running", running + count)
    assert shared.exited == 0
    guest["stop"] = 1
    until = time.monotonic() + DEADLINE
    while shared.exited < count:
        assert time.monotonic() < until
        shared._native.wait_exited(0.01)
    return shared


def test_a_group_is_taken_out_with_the_next_thread(guest: Guest) -> None:
    shared = let_end(guest, 1)
    assert shared.num_groups == 2
    thread = guest.program.spawn("nothing")
    assert shared.exited == 0
    thread.join(DEADLINE)
    assert guest.program.statistics().groups == 1


def test_a_group_is_taken_out_with_the_next_library(guest: Guest) -> None:
    guest.program.dlopen("libplain2.so").close()
    shared = let_end(guest, 3)
    published = shared.published
    with guest.program.dlopen("libtwice.so"):
        assert shared.exited == 0
        assert shared.num_groups == 1
        assert shared.published == published  # there was no other group


def test_statistics_do_not_count_them(guest: Guest) -> None:
    before = guest.program.statistics()
    let_end(guest, 5)
    after = guest.program.statistics()
    assert (after.groups, after.memory_used, after.table_used) == (
        1,
        before.memory_used,
        before.table_used,
    )


def test_they_do_not_count_against_the_limit(scenario: Scenario) -> None:
    with Guest(scenario("threads"), limits=pylinker.Limits(threads=3)) as guest:
        for first in (0, 3, 6):
            let_end(guest, 3, first=first)
        let_end(guest, 2, first=9)
        guest.program.spawn("nothing").join(DEADLINE)


def test_of_many_only_some_are_left(guest: Guest) -> None:
    shared = linker_of(guest).context.shared
    assert guest.main.start_threads(0, 60, YIELD, 0) == 60
    guest.until("running", 60)
    assert shared.num_groups == 61
    assert guest.main.finish(60) == 60
    until = time.monotonic() + DEADLINE
    while shared.num_groups > ROOM + 1:  # those for whom there is no room take out all
        assert time.monotonic() < until
        shared._native.wait_exited(0.01)
    while guest.program.statistics().groups > 1:  # which takes out those that have ended by now
        assert time.monotonic() < until
        shared._native.wait_exited(0.01)


def test_no_thread_of_the_core_is_kept(guest: Guest) -> None:
    before = set(threads._threads)
    let_end(guest, 7)
    assert len(since(before)) == 7
    guest.program.statistics()
    assert not since(before)


def test_what_is_taken_out_is_freed_at_once(guest: Guest) -> None:
    groups = linker_of(guest).context.groups
    gc.disable()
    try:
        assert guest.main.start_threads(0, 3, YIELD, 0) == 3
        guest.until("running", 3)
        kept: list[weakref.ref[object]] = []
        for group in groups.values():
            kept += [weakref.ref(group), weakref.ref(group.native), weakref.ref(group.state)]
        del group
        assert len(kept) == 9
        assert guest.main.finish(3) == 3
        until = time.monotonic() + DEADLINE
        while linker_of(guest).context.shared.exited < 3:
            assert time.monotonic() < until
            linker_of(guest).context.shared._native.wait_exited(0.01)
        guest.program.statistics()
        assert [each() for each in kept] == [None] * 9
    finally:
        gc.enable()


def test_closing_the_program_takes_them_out(
    scenario: Scenario, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(threads._threads)
    with Guest(scenario("threads")) as guest:
        let_end(guest, 4)
        assert guest.main.start_threads(4, 4, YIELD, 0) == 4
        guest.until("running", 4, 0)
    assert not since(before)
    assert not caplog.records


def test_a_program_that_is_dropped_is_not_kept_by_them(scenario: Scenario) -> None:
    before = set(threads._threads)
    guest = Guest(scenario("threads"))
    let_end(guest, 4)
    linker = weakref.ref(linker_of(guest))
    del guest
    gc.collect()
    assert linker() is None
    assert not since(before)


def test_a_thread_that_ends_after_its_program_was_dropped_keeps_nothing(scenario: Scenario) -> None:
    before = set(threads._threads)
    guest = Guest(scenario("threads"))
    assert guest.main.start_threads(0, 3, YIELD, 0) == 3
    guest.until("running", 3)
    linker = weakref.ref(linker_of(guest))
    memory = guest.program.memory.view()
    stop = guest.address("stop")
    del guest
    gc.collect()
    assert linker() is not None
    memory[stop] = 1
    del memory
    gone = threading.Event()
    weakref.finalize(linker(), gone.set)
    until = time.monotonic() + DEADLINE
    while not gone.wait(
        0.005
    ):  # the last thread is still in its Python code after it has left threads._threads
        assert time.monotonic() < until
        gc.collect()
    assert not since(before)


def test_whoever_fails_to_take_one_out_does_not_stop_the_rest(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = let_end(guest, 3)
    real, failures = InstanceGroup.close_prepared, [KeyboardInterrupt]

    def close_prepared(group: InstanceGroup) -> None:
        if failures:
            raise failures.pop()
        real(group)

    monkeypatch.setattr(InstanceGroup, "close_prepared", close_prepared)
    with pytest.raises(KeyboardInterrupt):
        guest.program.dlopen("libtwice.so")
    guest.program.dlopen("libtwice.so").close()
    assert shared.exited == 0
    guest.still_works()
    threads = linker_of(guest).threads
    assert threads is not None
    assert not threads._alive


def test_while_the_program_ends(scenario: Scenario) -> None:
    with Guest(scenario("threads")) as guest:
        let_end(guest, 5)
        threads = linker_of(guest).threads
        assert threads is not None
        threads.end(status=3)
        with pytest.raises(SynchronizationAborted):
            guest.program.spawn("nothing")
        threads.reap()
        threads.join_all()
        assert len(threads) == 0
        assert not threads._alive
