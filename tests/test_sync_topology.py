"""The topology token: one holder, one release, acquired before the lock and released after it."""

import threading

import pytest

from pylinker.errors import InternalError, SynchronizationAborted
from pylinker.native.enums import ACQUIRED, Cause
from pylinker.sync import LinkerShared, WriteGuard
from sync_world import DEADLINE, Group, World, after_pauses, wait_for, wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*was dropped before it was released:ResourceWarning"
)


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def coordinator(world):
    return world.shared.topology_coordinator


@pytest.fixture
def group_state(world):
    return world.groups[0].state


def published_behind_the_back_of(world, group):
    """Have another group lead while ``group`` is parked."""
    world.lead(world.new_group(), "open a")
    assert group.replayed == []


def interrupted(*_arguments):
    """The outcome of a call that Ctrl-C interrupts."""
    raise KeyboardInterrupt


# The token


def test_there_is_one_token_at_a_time(coordinator):
    token = coordinator.try_acquire()
    assert coordinator.try_acquire() is None
    token.release()
    assert coordinator.try_acquire() is not None


def test_trying_for_a_token_that_is_out_never_blocks(world, coordinator):
    _token = coordinator.try_acquire()
    assert world.run(coordinator.try_acquire) is None


def test_numbers_only_go_up(coordinator):
    numbers = []
    for _ in range(5):
        with coordinator.try_acquire() as token:
            coordinator.try_acquire()  # a try that fails costs no number
            numbers.append(token.number)
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 0


def test_one_thread_takes_a_token_and_another_gives_it_back(world, coordinator):
    token = world.run(coordinator.try_acquire)
    assert token.is_held
    world.run(token.release)
    assert not token.is_held
    assert coordinator.try_acquire() is not None


def test_a_token_is_released_once(coordinator):
    token = coordinator.try_acquire()
    token.release()
    with pytest.raises(InternalError, match="twice"):
        token.release()


def test_a_token_that_was_released_does_not_release_the_next_one(coordinator):
    old = coordinator.try_acquire()
    old.release()
    new = coordinator.try_acquire()
    with pytest.raises(InternalError):
        old.release()
    assert new.is_held
    assert coordinator.try_acquire() is None


def test_only_one_of_many_threads_releases_a_token(world, coordinator):
    token = coordinator.try_acquire()
    together = threading.Barrier(8)

    def release():
        together.wait(DEADLINE)
        token.release()

    jobs = [world.start(release) for _ in range(8)]
    errors = [job.error() for job in jobs]
    assert errors.count(None) == 1
    assert sum(isinstance(error, InternalError) for error in errors) == 7


def test_threads_go_through_one_at_a_time(world, group_state):
    inside, most = [], []

    def go_through():
        for _ in range(25):
            with world.shared.acquire_topology_token(group_state) as token:
                inside.append(token.number)
                most.append(len(inside))
                inside.remove(token.number)

    for job in [world.start(go_through) for _ in range(4)]:
        job.result()
    assert most == [1] * 100


def test_a_token_knows_whether_it_is_out(coordinator):
    token = coordinator.try_acquire()
    assert token.is_held
    assert repr(token) == f"<TopologyToken {token.number}>"
    assert repr(coordinator) == f"<TopologyCoordinator, token {token.number}>"
    token.release()
    assert not token.is_held
    assert repr(token) == f"<TopologyToken {token.number} (released)>"
    assert repr(coordinator) == "<TopologyCoordinator, token free>"


def test_a_token_belongs_to_one_linker(world, coordinator):
    other = LinkerShared.new({})
    token = coordinator.try_acquire()
    assert token.belongs_to(world.native)
    assert not token.belongs_to(other._native)
    assert other.topology_coordinator.try_acquire() is not None  # each linker has its own
    token.release()
    assert not token.belongs_to(world.native)


def test_a_token_releases_itself_at_the_end_of_a_with_block(coordinator):
    with coordinator.try_acquire() as token:
        assert token.is_held
    assert not token.is_held
    with pytest.raises(KeyError), coordinator.try_acquire() as token:
        raise KeyError
    assert not token.is_held


def test_a_with_block_may_release_its_token_itself(coordinator):
    with coordinator.try_acquire() as token:
        token.release()
        newer = coordinator.try_acquire()
    assert newer.is_held
    assert coordinator.try_acquire() is None


# acquire_topology_token


def test_acquiring_the_token_does_not_touch_the_lock(world, group_state):
    guard = world.shared.try_write_linker_state()
    token = world.run(world.shared.acquire_topology_token, group_state)
    assert token.is_held
    assert token.guards == 0
    assert guard.held and world.native.readers == -1


def test_acquiring_waits_until_the_token_is_back(world, coordinator, group_state):
    first = coordinator.try_acquire()
    with after_pauses(world, first.release, number=3):
        second = world.shared.acquire_topology_token(group_state)
    assert second.is_held and second.number > first.number


def test_acquiring_drains_what_is_pending_while_the_token_is_out():
    with World(groups=3) as world:
        leader, waiting, _parked = world.groups
        is_running, is_up = world.event(), world.event()

        def in_a_host_function_that_stays_running():
            with waiting.running():
                is_running.set()
                wait_for(is_up)
                with world.shared.acquire_topology_token(waiting.state) as token:
                    return token.number, list(waiting.replayed)

        job = world.start(in_a_host_function_that_stays_running)
        wait_for(is_running)
        # The leader has the token and waits for this very thread, which waits for the token.
        world.run(lambda: world.lead(leader, "open a", wake=is_up.set))
        assert job.result() == (
            world.shared.topology_coordinator.try_acquire().number - 1,
            [(1, "open a")],
        )


def test_acquiring_ends_when_the_linker_is_given_up(world, coordinator, group_state):
    reason = KeyError("first")
    token = coordinator.try_acquire()

    def give_up():
        world.shared.cancel(Cause.CLOSED, reason)

    with after_pauses(world, give_up), pytest.raises(SynchronizationAborted) as caught:
        world.shared.acquire_topology_token(group_state)
    assert caught.value.__cause__ is reason
    token.release()
    with pytest.raises(SynchronizationAborted):
        world.shared.acquire_topology_token(group_state)
    assert world.native.token == 0


# write_linker_state_blocking_holding_topology


def test_blocking_write_returns_the_token_it_was_given_and_the_guard(world, coordinator):
    topology = coordinator.try_acquire()
    same, guard = world.shared.write_linker_state_blocking_holding_topology(topology)
    assert same is topology and same.is_held
    assert guard.topology is topology
    assert guard.state is world.state
    assert world.native.readers == -1


def test_blocking_write_needs_a_token_that_is_out(world, coordinator):
    topology = coordinator.try_acquire()
    topology.release()
    with pytest.raises(InternalError, match="not the topology token"):
        world.shared.write_linker_state_blocking_holding_topology(topology)
    assert world.native.readers == 0


def test_blocking_write_needs_the_token_of_its_own_linker(world, coordinator):
    _token = coordinator.try_acquire()
    foreign = LinkerShared.new({}).topology_coordinator.try_acquire()
    with pytest.raises(InternalError, match="not the topology token"):
        world.shared.write_linker_state_blocking_holding_topology(foreign)
    assert world.native.readers == 0
    assert foreign.is_held


def test_blocking_write_sleeps_until_the_lock_is_free(world, coordinator):
    before = world.shared.try_write_linker_state()
    topology = coordinator.try_acquire()
    job = world.start(world.shared.write_linker_state_blocking_holding_topology, topology)
    wait_until(lambda: world.sleepers == 1)
    assert not job.is_done
    before.release()
    _topology, guard = job.result()
    assert guard.held and not before.held


def test_blocking_write_ends_when_the_linker_is_given_up(world, coordinator):
    guard = world.shared.try_write_linker_state()
    topology = coordinator.try_acquire()
    job = world.start(world.shared.write_linker_state_blocking_holding_topology, topology)
    wait_until(lambda: world.sleepers == 1)
    world.shared.cancel(Cause.CLOSED, KeyError("first"))
    assert isinstance(job.error(), SynchronizationAborted)
    guard.release()
    assert world.native.readers == 0  # it did not take the lock after all
    topology.release()  # and left no guard behind


# write_linker_state_with_topology


def test_with_topology_returns_token_and_guard(world, group_state):
    topology, guard = world.shared.write_linker_state_with_topology(group_state)
    assert topology.belongs_to(world.native)
    assert guard.topology is topology
    assert guard.state is world.state
    assert world.native.readers == -1


def test_while_the_lock_is_held_elsewhere_the_token_is_out_already(world, group_state):
    before = world.run(world.shared.try_write_linker_state)
    tokens = []

    def look():
        tokens.append(world.native.token)
        before.release()

    with after_pauses(world, look, number=3):
        topology, guard = world.shared.write_linker_state_with_topology(group_state)
    assert tokens == [topology.number]
    assert guard.held


def test_while_the_token_is_out_elsewhere_the_lock_is_not_touched(world, coordinator, group_state):
    before = coordinator.try_acquire()
    readers = []

    def look():
        readers.append(world.native.readers)
        before.release()

    with after_pauses(world, look, number=3):
        topology, guard = world.shared.write_linker_state_with_topology(group_state)
    assert readers == [0]
    assert topology.is_held and guard.held


def test_an_interrupt_right_after_both_were_taken_leaves_neither_taken(
    world, group_state, monkeypatch
):
    other = world.new_group()
    original = WriteGuard.take_both

    def take_and_raise(*arguments):
        assert original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WriteGuard, "take_both", take_and_raise)
        with pytest.raises(KeyboardInterrupt):
            world.shared.write_linker_state_with_topology(group_state)
    assert (world.native.token, world.native.readers) == (0, 0)
    topology, guard = world.shared.write_linker_state_with_topology(group_state)
    with monkeypatch.context() as patch:  # what others have is not given back
        patch.setattr(WriteGuard, "take_both", interrupted)
        with pytest.raises(KeyboardInterrupt):
            world.run(world.shared.write_linker_state_with_topology, other.state)
    assert (world.native.token, world.native.readers) == (topology.number, -1)
    guard.release()
    topology.release()


def test_an_interrupt_right_after_the_lock_was_waited_for_leaves_it_free(
    world, coordinator, monkeypatch
):
    topology = coordinator.try_acquire()
    original = WriteGuard.take_blindly

    def take_and_raise(*arguments):
        assert original(*arguments) == ACQUIRED
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WriteGuard, "take_blindly", take_and_raise)
        with pytest.raises(KeyboardInterrupt):
            world.shared.write_linker_state_blocking_holding_topology(topology)
    assert (topology.guards, world.native.readers) == (0, 0)
    reader = world.shared.try_read_linker_state()
    with monkeypatch.context() as patch:
        patch.setattr(WriteGuard, "take_blindly", interrupted)
        with pytest.raises(KeyboardInterrupt):
            world.shared.write_linker_state_blocking_holding_topology(topology)
    assert world.native.readers == 1
    reader.release()
    topology.release()


def test_with_topology_has_replayed_everything_before_it_returns(world, group_state):
    group = world.groups[0]
    published_behind_the_back_of(world, group)
    topology, guard = world.shared.write_linker_state_with_topology(group_state)
    assert group.replayed == [(1, "open a")]
    guard.release()
    topology.release()


def test_with_topology_gives_the_token_back_when_the_linker_is_given_up(world, group_state):
    guard = world.run(world.shared.try_write_linker_state)
    with (
        after_pauses(world, lambda: world.shared.cancel(Cause.CLOSED)),
        pytest.raises(SynchronizationAborted),
    ):
        world.shared.write_linker_state_with_topology(group_state)
    assert world.native.token == 0
    guard.release()
    assert world.native.readers == 0


def test_with_topology_gives_the_token_back_when_it_cannot_catch_up(world, group_state):
    group = world.groups[0]
    published_behind_the_back_of(world, group)

    def fail(_number, _operation):
        raise KeyError("no such slot")

    group.on_replay = fail
    with pytest.raises(KeyError, match="no such slot"):
        world.shared.write_linker_state_with_topology(group_state)
    assert world.native.token == 0
    assert world.is_poisoned()
    assert world.shared.cause == Cause.REPLAY


# The guard before the token


def blocking_holding(world):
    topology = world.shared.topology_coordinator.try_acquire()
    return world.shared.write_linker_state_blocking_holding_topology(topology)


def with_topology(world):
    return world.shared.write_linker_state_with_topology(world.groups[0].state)


@pytest.mark.parametrize("take", [blocking_holding, with_topology])
def test_the_token_is_not_released_before_the_guard(world, take):
    topology, guard = take(world)
    with pytest.raises(InternalError, match="before the guard"):
        topology.release()
    assert topology.is_held and guard.held
    guard.release()
    topology.release()
    world.assert_untouched()


@pytest.mark.parametrize("take", [blocking_holding, with_topology])
def test_leaving_the_token_before_the_guard_is_an_error_too(world, take):
    topology, guard = take(world)
    with pytest.raises(InternalError, match="before the guard"), topology:
        pass
    assert topology.is_held
    with topology, guard:  # the right order
        pass
    world.assert_untouched()


@pytest.mark.parametrize(
    "error", [None, InternalError("the state is broken")], ids=["released", "poisoned"]
)
def test_however_a_guard_ends_its_token_may_go_then(world, error):
    topology, guard = with_topology(world)
    guard.leave(error)
    topology.release()
    assert world.native.token == 0


def test_a_guard_without_token_does_not_count(world, coordinator, group_state):
    topology = coordinator.try_acquire()
    guard = world.shared.write_linker_state(group_state)
    assert guard.topology is None
    topology.release()
    assert guard.held


# The spawn: the parent takes the token, the child finalizes under it


def test_nobody_else_subscribes_between_preparing_and_finalizing_a_spawn(world, group_state):
    other = world.new_group()
    topology = world.shared.acquire_topology_token(group_state)  # the parent prepares
    is_waiting, may_finalize = world.event(), world.event()

    def finalize():
        wait_for(may_finalize)
        same, guard = world.shared.write_linker_state_blocking_holding_topology(topology)
        with same, guard:
            group = Group(world)
            group.state = world.shared.subscribe(guard, group.replay, same)
            return group, world.shared.num_groups

    child = world.start(finalize)
    with after_pauses(world, is_waiting.set):
        rival = world.start(world.new_group)
        wait_for(is_waiting)
        world.run(
            lambda: world.shared.write_linker_state(other.state).release()
        )  # a plain write changes no topology, and may
        assert world.shared.num_groups == 2
        may_finalize.set()
        _group, count_for_the_child = child.result()
        rival.result()
    assert count_for_the_child == 3
    assert world.shared.num_groups == 4
