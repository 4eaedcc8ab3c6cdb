"""pylinker.sync as a program uses it that has no guests: groups that are RUNNING and PARKED."""

import copy

import pytest

import pylinker.sync
from pylinker.errors import InternalError, RendezvousTimeout, SynchronizationAborted
from pylinker.native.enums import DEAD, PARKED, RUNNING
from pylinker.sync import Cause, LinkerStateWriteBackoff
from sync_world import World, wait_until


@pytest.fixture
def world():
    """Two groups, both parked."""
    with World(groups=2) as world:
        yield world


def test_a_group_is_running_in_the_block_and_parked_outside(world):
    group = world.groups[0].state
    assert group.state == PARKED
    with group.running() as entered:
        assert entered is group
        assert group.state == RUNNING
        with group.parked():
            assert group.state == PARKED
            with group.running():
                assert group.state == RUNNING
            assert group.state == PARKED
        assert group.state == RUNNING
        with group.running():
            pass
        assert group.state == RUNNING
    assert group.state == PARKED


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_exception_leaves_the_block_as_it_found_the_group(world, error):
    group = world.groups[0].state
    with pytest.raises(error), group.running():
        raise error
    assert group.state == PARKED
    with group.running():
        with pytest.raises(error), group.parked():
            raise error
        assert group.state == RUNNING


def test_a_leader_waits_for_one_that_runs_until_it_comes_to_its_safepoint(world):
    leader, group = world.groups
    with group.state.running():
        job = world.start_leading(leader, "open a", wake_guests=False)
        wait_until(lambda: world.sleepers == 1)
        assert not job.is_done and group.replayed == []
        group.state.safepoint()
        assert group.replayed == [(1, "open a")]
        job.result()
        group.state.safepoint()
        assert group.replayed == [(1, "open a")]


def test_leaving_the_block_is_enough_and_the_way_back_replays(world):
    leader, group = world.groups
    with group.state.running():
        job = world.start_leading(leader, "open a", wake_guests=False)
        wait_until(lambda: world.sleepers == 1)
    job.result()
    assert group.replayed == []
    with group.state.running():
        assert group.replayed == [(1, "open a")]


def test_a_parked_block_holds_nobody_up_and_replays_at_its_end(world):
    leader, group = world.groups
    with group.state.running():
        with group.state.parked():
            world.run(world.lead, leader, "open a")
            assert group.replayed == []
        assert group.replayed == [(1, "open a")]


def test_a_leader_that_would_wait_too_long_withdraws(world):
    leader, group = world.groups
    with group.state.running(), pytest.raises(RendezvousTimeout):
        world.run(lambda: world.lead(leader, "open a", timeout=0.01))
    assert group.replayed == []
    world.assert_untouched()


def test_a_replay_that_fails_at_a_safepoint_is_raised_there(world):
    leader, group = world.groups
    world.lead(leader, "open a")

    def fail(_number, _operation):
        raise KeyError("no such slot")

    group.on_replay = fail
    with pytest.raises(KeyError, match="no such slot"), group.state.running():
        pytest.fail("it ran")
    assert group.state.state == PARKED
    assert world.shared.cause == Cause.REPLAY


def test_nothing_runs_once_all_is_given_up(world):
    group = world.groups[0].state
    with group.running():
        world.shared.cancel(Cause.CLOSED)
        with pytest.raises(SynchronizationAborted):
            group.safepoint()
    with pytest.raises(SynchronizationAborted), group.running():
        pytest.fail("it ran")
    assert group.state == PARKED


def test_a_group_that_has_left_runs_nothing(world):
    group = world.groups[1]
    dead = world.groups[0].state
    dead.die()
    with pytest.raises(InternalError, match="dead"), dead.running():
        pytest.fail("it ran")
    assert dead.state == DEAD
    world.drop_group(group)
    for use in (group.state.safepoint, group.state.running().__enter__):
        with pytest.raises(InternalError, match="has left"):
            use()


def test_a_safepoint_within_a_replay_lets_it_through(world):
    leader, group = world.groups
    world.lead(leader, "open a")
    group.on_replay = lambda _number, _operation: group.state.safepoint()
    group.follow()
    assert group.replayed == [(1, "open a")]


def test_a_block_is_entered_once(world):
    block = world.groups[0].state.running()
    with block, pytest.raises(RuntimeError, match="once"):
        block.__enter__()
    with block:
        assert world.groups[0].state.state == RUNNING


def test_a_backoff_may_be_subclassed_and_counts():
    class Mine(LinkerStateWriteBackoff):
        pass

    backoff = Mine()
    backoff.pause()
    assert backoff.pauses == 1


@pytest.mark.parametrize("name", ["ReadGuard", "WriteGuard", "TopologyToken"])
def test_guards_and_tokens_come_from_their_linker_only(name):
    with pytest.raises(TypeError, match="cannot create"):
        getattr(pylinker.sync, name)()
    with pytest.raises(TypeError):
        copy.copy(getattr(pylinker.sync, name).__new__)(getattr(pylinker.sync, name))
