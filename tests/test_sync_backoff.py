"""LinkerStateWriteBackoff: the schedule, and that every cooperative wait keeps to it."""

import ctypes

import pytest

from pylinker.sync import LinkerStateWriteBackoff
from sync_world import World, after_pauses, wait_until

SPINS = [None] * 64
YIELDS = [0] * 24
SLEEPS = [
    48_000,
    96_000,
    192_000,
    384_000,
    768_000,
    1_536_000,
    3_072_000,
    6_144_000,
    10_000_000,
]  # nanoseconds
SCHEDULE = [*SPINS, *YIELDS, *SLEEPS]


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*was dropped before it was released:ResourceWarning"
)


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
    (wait_for_the_write_lock, take_the_lock),
    (wait_for_the_read_lock, take_the_lock),
    (wait_for_the_token, take_the_token),
    (wait_for_both, take_the_token),
    (wait_for_both, take_the_lock),
]


@pytest.mark.parametrize(("wait", "occupy"), WAITS)
def test_a_cooperative_wait_backs_off_until_it_gets_what_it_waits_for(world, wait, occupy):
    for _ in range(2):
        before = world.pauses
        with after_pauses(world, occupy(world).release, number=len(SCHEDULE) + 1):
            wait(world)
        assert world.pauses > before + len(SCHEDULE)
    world.assert_untouched()


@pytest.mark.parametrize(
    "wait", [wait_for_the_write_lock, wait_for_the_read_lock, wait_for_the_token, wait_for_both]
)
def test_what_is_free_is_taken_without_a_pause(world, wait):
    before = world.pauses
    wait(world)
    assert world.pauses == before


@pytest.mark.parametrize(("wait", "occupy"), WAITS)
def test_a_cooperative_wait_does_not_need_the_interpreter(world, wait, occupy):
    """While a thread keeps the GIL, a waiter pauses and tries; it takes it only for signals."""
    held = (
        take_the_token(world) if occupy is take_the_token else world.shared.try_write_linker_state()
    )
    job = world.start(wait, world)
    usleep = ctypes.PyDLL(None).usleep
    paused = 0
    while paused <= 1:  # a machine that is busy may let the waiter run rarely
        wait_until(lambda: world.pauses > len(SCHEDULE))
        before = world.pauses
        usleep(100_000)  # with the GIL
        paused = max(paused, world.pauses - before)
    held.release()
    job.result()
    assert paused > 1


def test_a_signal_handler_runs_within_a_cooperative_wait(world):
    held = world.run(world.shared.try_write_linker_state)
    group = world.groups[0]
    interrupt = KeyboardInterrupt()

    def check():
        raise interrupt

    group.state.check = check
    with pytest.raises(KeyboardInterrupt) as caught:
        world.shared.write_linker_state(group.state)
    assert caught.value is interrupt
    del group.state.check
    held.release()
    world.assert_untouched()
    assert world.shared.reason is None
