"""LinkerStateWriteBackoff: the schedule, and that every cooperative wait keeps to it."""

import pytest

from pylinker.native.shared import Hold
from pylinker.sync import LinkerStateWriteBackoff
from sync_world import World, at_each_pause, kept_guards

SPINS = [None] * 64
YIELDS = [0] * 24
SLEEPS = [48_000, 96_000, 192_000, 384_000, 768_000, 1_536_000, 3_072_000, 6_144_000, 10_000_000]  # nanoseconds
SCHEDULE = [*SPINS, *YIELDS, *SLEEPS]


@pytest.fixture(autouse=True)
def _kept(monkeypatch):
    with kept_guards(monkeypatch):
        yield


@pytest.fixture
def world():
    with World() as world:
        yield world


def in_nanoseconds(seconds):
    return None if seconds is None else round(seconds * 1e9)


def take(backoff, count):
    """Take pauses and return what each of them is."""
    kinds = []
    for _ in range(count):
        kinds.append(in_nanoseconds(backoff.next_sleep))
        backoff.pause()
    return kinds


def test_the_schedule_is_64_spins_then_24_yields_then_doubling_sleeps():
    assert take(LinkerStateWriteBackoff(), len(SCHEDULE)) == SCHEDULE


def test_sleeps_start_at_48_microseconds_and_double_at_most_8_times():
    first, *others = SLEEPS
    doubled = [min(first << doublings, 10_000_000) for doublings in range(9)]
    assert first == 48_000
    assert [first, *others] == doubled
    assert first << 8 > 10_000_000  # the eighth doubling meets the cap


def test_no_pause_is_longer_than_10_milliseconds():
    backoff = LinkerStateWriteBackoff()
    take(backoff, len(SCHEDULE))
    assert take(backoff, 3) == [10_000_000] * 3


def test_pauses_are_counted():
    backoff = LinkerStateWriteBackoff()
    assert backoff.pauses == 0
    take(backoff, 70)
    assert backoff.pauses == 70
    assert repr(backoff) == "<LinkerStateWriteBackoff after 70 pauses>"


def test_reset_starts_over_with_spins():
    backoff = LinkerStateWriteBackoff()
    take(backoff, 90)
    backoff.reset()
    assert backoff.pauses == 0
    assert take(backoff, 90) == SCHEDULE[:90]


def test_each_wait_has_its_own_backoff():
    tired, fresh = LinkerStateWriteBackoff(), LinkerStateWriteBackoff()
    take(tired, 90)
    assert fresh.pauses == 0
    assert fresh.next_sleep is None


def wait_for_the_write_lock(world):
    world.shared.write_linker_state(world.groups[0].state).release()


def wait_for_the_read_lock(world):
    world.shared.read_linker_state(world.groups[0].state).release()


def wait_for_the_token(world):
    world.shared.acquire_topology_token(world.groups[0].state).release()


def wait_for_both(world):
    topology, guard = world.shared.write_linker_state_with_topology(world.groups[0].state)
    guard.release()
    topology.release()


def take_the_lock(world):
    return world.run(world.shared.try_write_linker_state)


def take_the_token(world):
    return world.shared.topology_coordinator.try_acquire()


WAITS = [
    (wait_for_the_write_lock, take_the_lock, "write"),
    (wait_for_the_read_lock, take_the_lock, "read"),
    (wait_for_the_token, take_the_token, "acquire"),
    (wait_for_both, take_the_token, "acquire"),
    (wait_for_both, take_the_lock, "write"),
]


@pytest.mark.parametrize(("wait", "occupy", "attempt"), WAITS)
def test_a_cooperative_wait_tries_once_between_the_pauses_of_the_schedule(world, monkeypatch, wait, occupy, attempt):
    attempts = []
    original = getattr(Hold, attempt)

    def counted(*arguments):
        attempts.append(attempt)
        return original(*arguments)

    for _ in range(2):  # a second wait starts anew
        held = occupy(world)
        attempts.clear()

        def let_go_at_last(number, held=held):
            assert len(attempts) == number
            if number == len(SCHEDULE) + 1:
                held.release()

        with at_each_pause(monkeypatch, let_go_at_last) as pauses, monkeypatch.context() as patch:
            patch.setattr(Hold, attempt, counted)
            wait(world)
        assert [in_nanoseconds(each) for each in pauses] == [*SCHEDULE, 10_000_000]
        assert len(attempts) == len(pauses) + 1


@pytest.mark.parametrize("wait", [wait_for_the_write_lock, wait_for_the_read_lock, wait_for_the_token, wait_for_both])
def test_what_is_free_is_taken_without_a_pause(world, monkeypatch, wait):
    with at_each_pause(monkeypatch, lambda _number: None) as pauses:
        wait(world)
    assert pauses == []
