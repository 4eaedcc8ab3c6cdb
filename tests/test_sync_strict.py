"""pylinker.sync refuses objects of another universe, invalid operations, and self-deadlocks."""

import copy
import pickle

import pytest

from pylinker.errors import InternalError
from pylinker.sync import Cause, LinkerShared, Ordering
from sync_world import World

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*was dropped before it was released:ResourceWarning"
)


@pytest.fixture
def world():
    """Two groups, both parked."""
    with World(groups=2) as world:
        yield world


@pytest.fixture
def other():
    """Another universe with two groups."""
    with World(groups=2) as world:
        yield world


# Groups, tokens and guards of another universe


def test_an_operation_is_not_published_in_another_universe(world, other):
    topology, guard = world.shared.write_linker_state_with_topology(world.groups[0].state)
    with pytest.raises(InternalError, match="not a group of this linker"):
        world.shared.synchronize_link_operation(topology, "open a", guard, other.groups[0].state)
    assert world.native.published == other.native.published == 0
    world.assert_untouched()
    other.assert_untouched()


def subscribe_in(shared, group):
    topology, guard = shared.topology_coordinator.try_acquire(), None
    with topology:
        _topology, guard = shared.write_linker_state_blocking_holding_topology(topology)
        with guard:
            try:
                shared.subscribe_member(guard, group, topology)
            except InternalError as error:  # a guard that is left with it poisons the lock
                return error
    return None


def unsubscribe_in(shared, group):
    with shared.try_write_linker_state() as guard:
        try:
            shared.unsubscribe(guard, group)
        except InternalError as error:
            return error
    return None


def take_exclusive(shared, group):
    shared.take_exclusive(*shared.new_exclusive(), group)


def prepare_topology(shared, group):
    shared.prepare_topology(*shared.new_exclusive(), group)


def take_for_reading(shared, group):
    shared.take_for_reading(shared.new_reader(), group)


@pytest.mark.parametrize(
    "use",
    [
        LinkerShared.write_linker_state,
        LinkerShared.read_linker_state,
        LinkerShared.acquire_topology_token,
        LinkerShared.write_linker_state_with_topology,
        LinkerShared.do_pending_link_operations_internal,
        take_exclusive,
        prepare_topology,
        take_for_reading,
        subscribe_in,
        unsubscribe_in,
    ],
)
def test_a_group_of_another_universe_is_refused_by_every_method(world, other, use):
    for wrong in (other.groups[1].state, None, "group"):
        try:
            error = use(world.shared, wrong)
        except InternalError as raised:
            error = raised
        assert "not a group of this linker" in str(error)
    assert (world.shared.num_groups, other.shared.num_groups) == (2, 2)
    world.assert_untouched()
    other.assert_untouched()


def test_not_even_the_first_group_subscribes_with_the_token_of_another_universe():
    foreign = LinkerShared.new({}).topology_coordinator.try_acquire()
    shared = LinkerShared.new({})
    guard = shared.write_linker_state_alone()
    with pytest.raises(InternalError, match="without the topology token"):
        shared.subscribe(guard, lambda _number, _operation: None, foreign)
    assert shared.num_groups == 0
    guard.release()


@pytest.mark.parametrize("wrong", [None, "token"])
def test_what_is_no_token_is_refused(world, wrong):
    _topology, guard = world.shared.write_linker_state_with_topology(world.groups[0].state)
    with pytest.raises(InternalError, match="not the topology token"):
        world.shared.synchronize_link_operation(wrong, "open a", guard, world.groups[0].state)
    with pytest.raises(InternalError, match="not the topology token"):
        world.shared.write_linker_state_blocking_holding_topology(wrong)


# Clones


def test_clones_compare_equal_and_others_do_not(world, other):
    clone = world.shared.clone().clone()
    assert clone == world.shared and hash(clone) == hash(world.shared)
    assert clone != other.shared and world.shared != "shared"
    assert {world.shared, clone, other.shared} == {clone, other.shared}


def test_nothing_is_copied_or_pickled_and_each_says_why(world):
    topology, guard = world.shared.write_linker_state_with_topology(world.groups[0].state)
    things = [
        world.shared,
        world.groups[0].state,
        world.shared.topology_coordinator,
        topology,
        guard,
    ]
    for thing in things:
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="neither copied nor pickled"):
                attempt(thing)
    with pytest.raises(TypeError, match=r"clone\(\)"):
        copy.copy(world.shared)


# Values


def test_none_is_no_operation(world):
    topology, guard = world.shared.write_linker_state_with_topology(world.groups[0].state)
    with pytest.raises(TypeError, match="operation is None"):
        world.shared.synchronize_link_operation(topology, None, guard, world.groups[0].state)
    assert world.native.published == 0
    world.assert_untouched()


@pytest.mark.parametrize("replay", [None, "replay"])
def test_a_replay_is_a_function(world, replay):
    topology, guard = world.shared.write_linker_state_with_topology(world.groups[0].state)
    with topology, guard, pytest.raises(TypeError, match="replay="):
        world.shared.subscribe(guard, replay, topology)
    assert world.shared.num_groups == 2


@pytest.mark.parametrize("ordering", [-1, 3, 99, None, "SEQ_CST"])
def test_an_unknown_ordering_is_an_error(world, ordering):
    with pytest.raises((TypeError, ValueError), match="ordering"):
        world.shared.dl_operation_pending_load(ordering)


@pytest.mark.parametrize("ordering", Ordering)
def test_every_ordering_loads_the_flag(world, ordering):
    assert world.shared.dl_operation_pending_load(ordering) is False
    assert world.shared.dl_operation_pending_load(int(ordering)) is False


@pytest.mark.parametrize("cause", [0, -1, 7, 0x80, None, "closed"])
def test_an_unknown_cause_is_an_error(world, cause):
    with pytest.raises(ValueError, match="valid Cause"):
        world.shared.cancel(cause)
    world.assert_untouched()


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_gives_the_linker_up(cause):
    with World() as world:
        assert world.shared.cancel(cause)
        assert world.shared.cause == cause


# What would wait for itself


def wait_blindly(shared, _group):
    with shared.topology_coordinator.try_acquire() as topology:
        shared.write_linker_state_blocking_holding_topology(topology)


@pytest.mark.parametrize(
    "wait", [LinkerShared.write_linker_state, LinkerShared.read_linker_state, wait_blindly]
)
def test_a_thread_does_not_wait_for_the_lock_it_has(world, wait):
    state = world.groups[0].state
    guard = world.shared.write_linker_state(state)
    with pytest.raises(InternalError, match="holds the write lock"):
        wait(world.shared, state)
    guard.release()
    world.assert_untouched()


def test_a_thread_does_not_follow_under_its_own_write_lock(world):
    leader, group = world.groups
    world.lead(leader, "open a")
    guard = world.shared.try_write_linker_state()
    with pytest.raises(InternalError, match="under its own write lock"):
        world.shared.do_pending_link_operations_internal(group.state)
    assert group.replayed == []
    guard.release()
    group.follow()
    assert group.replayed == [(1, "open a")]
    world.assert_untouched()
