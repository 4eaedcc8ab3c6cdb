"""LinkerShared name by name; the rendezvous and the token have their own files."""

import functools
import gc
import subprocess
import sys
import weakref

import pytest

from pylinker._core import lib
from pylinker.errors import InternalError, SynchronizationAborted
from pylinker.native.enums import ACQUIRE, RELAXED, SEQ_CST, Cause
from pylinker.sync import LinkerShared
from sync_world import Group, World, after_pauses, broken_invariant, wait_for, wait_until

ORDERINGS = [RELAXED, ACQUIRE, SEQ_CST]


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*was dropped before it was released:ResourceWarning"
)


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def shared(world):
    return world.shared


@pytest.fixture
def group(world):
    return world.groups[0]


def fail(_number, _operation):
    raise KeyError("no such slot")


# new


def test_new_wraps_the_state_it_is_given():
    state = {"modules": ["main"]}
    with LinkerShared.new(state).write_linker_state_alone() as guard:
        assert guard.state is state


def test_a_new_linker_has_no_groups_and_nothing_is_held_or_pending():
    shared = LinkerShared.new({})
    assert shared.num_groups == 0
    assert shared._native.receivers == (0, 0)
    assert shared._native.readers == 0
    assert shared._native.token == 0
    assert shared._native.published == 0
    assert not any(map(shared.dl_operation_pending_load, ORDERINGS))
    assert shared.cause == 0 and shared.reason is None


# clone


def test_a_clone_guards_the_same_state_with_the_same_lock(shared, world):
    clone = shared.clone()
    assert clone is not shared
    with clone.try_write_linker_state() as guard:
        assert guard.state is world.state
        assert shared.try_write_linker_state() is None
        assert shared.try_read_linker_state() is None
    with shared.try_read_linker_state():
        assert clone.try_write_linker_state() is None


def test_a_clone_has_the_same_flag(shared, group):
    clone = shared.clone()
    group.open_barrier()
    assert clone.dl_operation_pending_load(SEQ_CST)


def test_a_clone_has_the_same_token(shared, group):
    clone = shared.clone()
    token = clone.acquire_topology_token(group.state)
    assert shared.topology_coordinator.try_acquire() is None
    _token, guard = shared.write_linker_state_blocking_holding_topology(token)
    assert guard.held


def test_a_clone_talks_to_the_same_groups(world, shared, group):
    clone = shared.clone()
    other = world.new_group()
    assert clone.num_groups == 2
    topology, guard = clone.write_linker_state_with_topology(group.state)
    clone.synchronize_link_operation(topology, "open a", guard, group.state)
    shared.do_pending_link_operations_internal(other.state)
    assert other.replayed == [(1, "open a")]


def test_a_clone_of_a_clone_is_given_up_with_the_first(shared):
    clone = shared.clone().clone()
    reason = KeyError("first")
    clone.cancel(Cause.CLOSED, reason)
    assert shared.cause == Cause.CLOSED
    assert shared.reason is reason


def test_a_clone_outlives_the_handle_it_was_made_from():
    shared = LinkerShared.new({"modules": []})
    clone = shared.clone()
    del shared
    with clone.write_linker_state_alone() as guard:
        assert guard.state == {"modules": []}


# assert_exactly_one_dl_bus_subscriber


def subscribe_to(world, barriers, operations):
    """Add receivers to single buses, which no group does."""
    for bus, count in ((world.native._barriers, barriers), (world.native._operations, operations)):
        for _ in range(count):
            world.subscribe(bus)


def test_one_receiver_on_both_buses_is_right(shared):
    shared.assert_exactly_one_dl_bus_subscriber()


@pytest.mark.parametrize("groups", [0, 2, 3])
def test_any_other_number_of_groups_is_a_broken_invariant(groups):
    with (
        World(groups) as world,
        pytest.raises(InternalError, match=f"they have {groups} and {groups}"),
    ):
        world.shared.assert_exactly_one_dl_bus_subscriber()


@pytest.mark.parametrize(
    ("groups", "barriers", "operations"),
    [(0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 2, 1), (0, 1, 2)],
)
def test_each_of_the_two_buses_counts(groups, barriers, operations):
    with World(groups) as world:
        subscribe_to(world, barriers, operations)
        with pytest.raises(
            InternalError, match=f"they have {groups + barriers} and {groups + operations}"
        ):
            world.shared.assert_exactly_one_dl_bus_subscriber()


def test_a_group_that_is_dropped_no_longer_counts(world, shared):
    world.drop_group(world.new_group())
    shared.assert_exactly_one_dl_bus_subscriber()


# bootstrap_exclusive_write_then


def test_bootstrap_is_refused_without_assertions_too(tmp_path):
    """``python -O`` drops assert statements and what is under ``__debug__``."""
    script = """if True:
        from pylinker.errors import InternalError
        from pylinker.sync import LinkerShared

        shared, called = LinkerShared.new({}), []
        try:
            shared.bootstrap_exclusive_write_then(called.append)
        except InternalError as error:
            print(error, called)
    """
    for options in ([], ["-O"]):
        done = subprocess.run(
            [sys.executable, *options, "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert (done.stdout, done.stderr) == (
            "internal error: both buses must have one receiver, but they have 0 and 0 []\n",
            "",
        )


@pytest.mark.parametrize("value", ["done", None, 0])
def test_bootstrap_calls_the_function_alone_with_the_state_and_returns_its_result(
    world, shared, value
):
    def start_up(state):
        assert world.native.readers == -1
        state["modules"].append("main")
        return value

    assert shared.bootstrap_exclusive_write_then(start_up) is value
    assert world.state == {"modules": ["main"]}
    world.assert_untouched()


@pytest.mark.parametrize("groups", [0, 2])
def test_bootstrap_refuses_any_other_number_of_groups_and_poisons_the_lock(groups):
    with World(groups) as world:
        called = []
        with pytest.raises(InternalError, match="both buses must have one receiver"):
            world.shared.bootstrap_exclusive_write_then(called.append)
        assert called == []
        assert world.is_poisoned()


def test_bootstrap_counts_after_it_has_the_lock(world, shared):
    """There is one group when it starts to wait for the lock, and a second one when it gets it."""
    called = []
    with (
        shared.try_write_linker_state() as guard,
        shared.topology_coordinator.try_acquire() as topology,
    ):
        job = world.start(shared.bootstrap_exclusive_write_then, called.append)
        wait_until(lambda: world.sleepers == 1)
        late = Group(world)
        late.state = shared.subscribe(guard, late.replay, topology)
    assert isinstance(job.error(), InternalError)
    assert called == []


def test_bootstrap_does_not_count_before_it_has_the_lock(world, shared):
    """There are two groups when it starts to wait for the lock, and one when it gets it."""
    other = world.new_group()
    with shared.try_write_linker_state() as guard:
        job = world.start(shared.bootstrap_exclusive_write_then, lambda _state: "done")
        wait_until(lambda: world.sleepers == 1)
        shared.unsubscribe(guard, other.state)
    assert job.result() == "done"


def test_bootstrap_leaves_the_lock_free_when_the_function_raises(world, shared):
    def start_up(_state):
        raise KeyError("main")

    with pytest.raises(KeyError, match="main"):
        shared.bootstrap_exclusive_write_then(start_up)
    world.assert_untouched()


def test_bootstrap_poisons_the_lock_when_the_function_breaks_an_invariant(world, shared):
    with pytest.raises(InternalError, match="the test says so"):
        shared.bootstrap_exclusive_write_then(lambda _state: broken_invariant())
    assert world.is_poisoned()


def test_bootstrap_ends_when_the_linker_is_given_up(world, shared):
    guard = shared.try_write_linker_state()
    called = []
    job = world.start(shared.bootstrap_exclusive_write_then, called.append)
    wait_until(lambda: world.sleepers == 1)
    shared.cancel(Cause.CLOSED)
    assert isinstance(job.error(), SynchronizationAborted)
    assert called == []
    guard.release()
    assert world.native.readers == 0


# write_linker_state_alone


def test_writing_alone_is_for_a_linker_without_groups():
    with World(groups=0) as world:
        with world.shared.write_linker_state_alone() as guard:
            assert world.native.readers == -1
            assert guard.state is world.state
            with pytest.raises(InternalError):
                world.shared.write_linker_state_alone()
        world.new_group()
        with pytest.raises(InternalError):
            world.shared.write_linker_state_alone()
        world.assert_untouched()


# try_write_linker_state, try_read_linker_state


def test_trying_gives_a_guard_of_the_state_when_the_lock_is_free(world, shared):
    with shared.try_write_linker_state() as guard:
        assert guard.state is world.state
        assert world.native.readers == -1
    with shared.try_read_linker_state() as guard:
        assert guard.state is world.state
        assert world.native.readers == 1
    assert world.native.readers == 0


def test_while_somebody_writes_both_tries_answer_none_at_once(world, shared):
    with shared.try_write_linker_state():
        assert world.run(shared.try_write_linker_state) is None
        assert world.run(shared.try_read_linker_state) is None


def test_while_somebody_reads_others_may_read_but_not_write(world, shared):
    with shared.try_read_linker_state(), world.run(shared.try_read_linker_state):
        assert world.native.readers == 2
        assert world.run(shared.try_write_linker_state) is None
    assert shared.try_write_linker_state() is not None


def test_trying_never_enters_the_rendezvous(world, shared, group):
    """For callers that must not re-enter the linker: while a barrier is up, the lock is busy."""
    leader = world.new_group()
    guard = shared.write_linker_state(leader.state)
    number = leader.open_barrier()
    with group.parked():
        assert world.run(shared.try_write_linker_state) is None
        assert world.run(shared.try_read_linker_state) is None
        assert group.arrived < number
        leader.withdraw()
        guard.release()


def test_trying_a_poisoned_lock_says_that_the_linker_was_given_up(shared):
    shared.try_write_linker_state().leave(InternalError("the state is broken"))
    for attempt in (shared.try_write_linker_state, shared.try_read_linker_state):
        with pytest.raises(SynchronizationAborted):
            attempt()


# write_linker_state, read_linker_state


def test_write_linker_state_gives_the_lock_to_one(world, shared, group):
    with shared.write_linker_state(group.state) as guard:
        assert guard.state is world.state
        assert world.native.readers == -1
        assert guard.topology is None and world.native.token == 0
    world.assert_untouched()


@pytest.mark.parametrize("hold", ["try_write_linker_state", "try_read_linker_state"])
def test_write_linker_state_backs_off_until_the_lock_is_free(world, shared, group, hold):
    before = world.run(getattr(shared, hold))
    with after_pauses(world, before.release, number=3):
        guard = shared.write_linker_state(group.state)
    assert guard.held and not before.held


def test_read_linker_state_backs_off_while_somebody_writes(world, shared, group):
    before = world.run(shared.try_write_linker_state)
    with after_pauses(world, before.release):
        guard = shared.read_linker_state(group.state)
    assert world.native.readers == 1
    assert guard.state is world.state


@pytest.mark.parametrize("wait", ["write_linker_state", "read_linker_state"])
def test_waiting_for_the_lock_drains_what_is_pending(wait):
    """The leader holds the lock and waits at the barrier for this thread, a waiter for the lock."""
    with World(groups=3) as world:
        leader, waiting, _parked = world.groups
        is_running, is_up = world.event(), world.event()

        def in_a_host_function_that_stays_running():
            with waiting.running():
                is_running.set()
                wait_for(is_up)
                with getattr(world.shared, wait)(waiting.state) as guard:
                    return list(waiting.replayed), guard.state["modules"]

        job = world.start(in_a_host_function_that_stays_running)
        wait_for(is_running)
        world.run(
            lambda: world.lead(
                leader, "open a", wake=is_up.set, commit=lambda: world.state["modules"].append("a")
            )
        )
        assert job.result() == ([(1, "open a")], ["a"])


def test_write_linker_state_has_replayed_everything_before_it_returns(world, shared, group):
    leader = world.new_group()
    world.lead(leader, "open a")
    world.lead(leader, "open b")
    assert group.replayed == []
    group.on_replay = lambda _number, _operation: looks.append(world.native.readers)
    looks = []
    with shared.write_linker_state(group.state):
        assert group.replayed == [(1, "open a"), (2, "open b")]
    assert looks == [-1, -1]  # under the lock it has, so that nothing comes between
    assert not group.state.is_behind


def test_a_group_that_cannot_catch_up_gives_up_the_linker_and_poisons_the_lock(
    world, shared, group
):
    world.lead(world.new_group(), "open a")
    group.on_replay = fail
    with pytest.raises(KeyError, match="no such slot") as caught:
        shared.write_linker_state(group.state)
    assert shared.cause == Cause.REPLAY
    assert shared.reason is caught.value
    assert world.is_poisoned()


def test_read_linker_state_has_replayed_everything_before_it_returns(world, shared, group):
    world.lead(world.new_group(), "open a")
    looks = []
    group.on_replay = lambda _number, _operation: looks.append(world.native.readers)
    with shared.read_linker_state(group.state):
        assert group.replayed == [(1, "open a")]
    assert looks == [1]
    world.assert_untouched()


def test_a_reader_that_cannot_catch_up_gives_up_the_linker_and_gives_the_lock_back(
    world, shared, group
):
    world.lead(world.new_group(), "open a")
    group.on_replay = fail
    with pytest.raises(KeyError, match="no such slot") as caught:
        shared.read_linker_state(group.state)
    assert shared.cause == Cause.REPLAY
    assert shared.reason is caught.value
    assert world.native.readers == 0


@pytest.mark.parametrize("wait", ["write_linker_state", "read_linker_state"])
def test_waiting_for_the_lock_ends_when_the_linker_is_given_up(world, shared, group, wait):
    reason = KeyError("first")
    before = world.run(shared.try_write_linker_state)

    def give_up():
        shared.cancel(Cause.CLOSED, reason)

    with (
        after_pauses(world, give_up),
        pytest.raises(SynchronizationAborted, match="the program has ended") as caught,
    ):
        getattr(shared, wait)(group.state)
    assert caught.value.__cause__ is reason
    before.release()
    with pytest.raises(SynchronizationAborted):  # nor does it start
        getattr(shared, wait)(group.state)
    assert world.native.readers == 0


@pytest.mark.parametrize("wait", ["write_linker_state", "read_linker_state"])
def test_waiting_for_the_lock_ends_when_it_is_poisoned(world, shared, group, wait):
    before = world.run(shared.try_write_linker_state)
    with (
        after_pauses(world, lambda: before.leave(InternalError("the state is broken"))),
        pytest.raises(SynchronizationAborted),
    ):
        getattr(shared, wait)(group.state)


# Guards


@pytest.fixture(params=["write", "read"])
def guard(request, shared):
    return getattr(shared, f"try_{request.param}_linker_state")()


def test_a_guard_is_released_once(guard, world):
    guard.release()
    with pytest.raises(InternalError, match="released"):
        guard.release()
    assert world.native.readers == 0


def test_the_state_is_out_of_reach_once_the_guard_is_released(guard):
    guard.release()
    with pytest.raises(InternalError, match="after it was released"):
        _ = guard.state
    with pytest.raises(InternalError, match="after it was released"), guard:
        pass


def test_a_guard_is_released_at_the_end_of_its_with_block(guard, world):
    with guard as entered:
        assert entered is guard
    assert not guard.held
    assert world.native.readers == 0


def test_an_ordinary_exception_releases_the_guard_and_leaves_the_linker_well(guard, world):
    with pytest.raises(KeyError), guard:
        raise KeyError
    world.assert_untouched()


def test_a_with_block_may_release_its_guard_itself(guard, world):
    with guard:
        guard.release()
        next_one = world.shared.try_write_linker_state()
    assert next_one.held and world.native.readers == -1


def test_a_guard_may_be_released_by_another_thread(guard, world):
    world.run(guard.release)
    world.assert_untouched()


def test_a_guard_is_of_one_linker(guard, world):
    other = LinkerShared.new({})
    assert guard.guards(world.native)
    assert not guard.guards(other._native)
    guard.release()
    assert not guard.guards(world.native)


def test_a_broken_invariant_inside_a_write_guard_poisons_the_lock(world, shared):
    with pytest.raises(InternalError), shared.try_write_linker_state():
        broken_invariant()
    assert world.is_poisoned()


def test_a_broken_invariant_inside_a_read_guard_does_not(world, shared):
    with pytest.raises(InternalError), shared.try_read_linker_state():
        broken_invariant()
    world.assert_untouched()


def test_a_broken_invariant_after_the_guard_was_released_does_not(world, shared):
    def release_and_break():
        with shared.try_write_linker_state() as guard:
            guard.release()
            broken_invariant()

    with pytest.raises(InternalError, match="the test says so"):
        release_and_break()
    world.assert_untouched()


def test_nobody_gets_a_poisoned_lock(world, shared, group):
    topology = shared.topology_coordinator.try_acquire()
    shared.try_write_linker_state().leave(InternalError("the state is broken"))
    attempts = [
        lambda: shared.write_linker_state(group.state),
        lambda: shared.read_linker_state(group.state),
        lambda: shared.write_linker_state_blocking_holding_topology(topology),
        lambda: shared.bootstrap_exclusive_write_then(lambda state: state),
    ]
    for attempt in attempts:
        with pytest.raises(SynchronizationAborted):
            world.run(attempt)
    topology.release()
    with pytest.raises(SynchronizationAborted):
        world.run(shared.write_linker_state_with_topology, group.state)
    assert world.native.token == 0


def test_whoever_sleeps_for_the_lock_wakes_when_it_is_poisoned(world, shared):
    guard = shared.try_write_linker_state()
    topology = shared.topology_coordinator.try_acquire()
    jobs = [
        world.start(shared.write_linker_state_blocking_holding_topology, topology),
        world.start(shared.bootstrap_exclusive_write_then, lambda state: state),
    ]
    wait_until(lambda: world.sleepers == 2)
    guard.leave(InternalError("the state is broken"))
    assert all(isinstance(job.error(), SynchronizationAborted) for job in jobs)


# dl_operation_pending_load


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_the_flag_is_up_from_the_barrier_to_the_publication(world, shared, group, ordering):
    other = world.new_group()
    looks = []

    def look(*_arguments):
        looks.append(shared.dl_operation_pending_load(ordering))

    other.on_replay = look
    look()
    guest = world.start_guest(other)

    def wake():
        look()
        guest.ring()

    world.lead(group, "open a", wake=wake, commit=look)
    look()
    assert looks == [
        False,
        True,
        True,
        False,
        False,
    ]  # idle, barrier up, committing, replaying, idle


def test_the_orderings_differ():
    assert len(set(ORDERINGS)) == 3


# do_pending_link_operations_internal


def test_following_when_nothing_is_pending_returns_at_once(world, shared, group):
    with shared.try_write_linker_state():  # not even the lock is needed
        world.run(shared.do_pending_link_operations_internal, group.state)
    assert group.replayed == []


def test_a_parked_group_follows_what_it_missed_in_order_and_once(world, shared, group):
    leader = world.new_group()
    world.lead(leader, "open a")
    world.lead(leader, "open b")
    shared.do_pending_link_operations_internal(group.state)
    shared.do_pending_link_operations_internal(group.state)
    assert group.replayed == [(1, "open a"), (2, "open b")]


def test_a_follower_replays_under_a_read_lock_and_gives_it_back(world, shared, group):
    world.lead(world.new_group(), "open a")
    looks = []
    group.on_replay = lambda _number, _operation: looks.append(
        (world.native.readers, shared.try_write_linker_state())
    )
    shared.do_pending_link_operations_internal(group.state)
    assert looks == [(1, None)]
    world.assert_untouched()


def test_a_follower_does_not_replay_while_somebody_writes(world, shared, group):
    world.lead(world.new_group(), "open a")
    guard = shared.try_write_linker_state()
    writing = [True]
    looks = []
    group.on_replay = lambda _number, _operation: looks.append(list(writing))
    is_there = world.event()

    def follow():
        is_there.set()
        group.follow()

    job = world.start(follow)
    wait_for(is_there)
    writing.clear()
    guard.release()
    job.result()
    assert looks == [[]]


def test_a_group_without_receivers_cannot_follow(world, shared):
    group = world.new_group()
    world.drop_group(group)
    with pytest.raises(InternalError, match="without receivers"):
        shared.do_pending_link_operations_internal(group.state)


def test_an_operation_that_is_not_in_the_log_is_fatal(world, shared, group):
    world.lead(world.new_group(), "open a")
    lib.pl_log_forget(lib.pl_shared_log(world.native.pointer), 1)
    with pytest.raises(InternalError, match="operation 1 is not in the log"):
        shared.do_pending_link_operations_internal(group.state)
    assert shared.cause == Cause.REPLAY
    assert isinstance(shared.reason, InternalError)


def test_following_raises_once_the_linker_is_given_up_though_nothing_is_pending(shared, group):
    reason = KeyError("first")
    shared.cancel(Cause.CLOSED, reason)
    with pytest.raises(SynchronizationAborted) as caught:
        shared.do_pending_link_operations_internal(group.state)
    assert caught.value.__cause__ is reason


def test_following_a_poisoned_linker_raises(world, shared, group):
    world.lead(world.new_group(), "open a")
    shared.try_write_linker_state().leave(InternalError("the state is broken"))
    with pytest.raises(SynchronizationAborted):
        world.run(shared.do_pending_link_operations_internal, group.state)
    assert group.replayed == []


# subscribe, unsubscribe


def test_a_group_subscribes_to_both_buses_and_has_everything(world, shared):
    world.lead(world.new_group(), "open a")
    late = world.new_group()
    assert world.native.receivers == (3, 3)
    assert late.state.applied == 1 and not late.state.is_behind
    shared.do_pending_link_operations_internal(late.state)
    assert late.replayed == []


def test_group_numbers_are_unique_in_the_process(world):
    with World(groups=2) as other:
        numbers = {group.state.number for group in [*world.groups, *other.groups]}
    assert len(numbers) == 3


def test_subscribing_needs_the_write_lock_of_this_linker(world, shared):
    topology, guard = shared.write_linker_state_with_topology(world.groups[0].state)
    guard.release()
    foreign = LinkerShared.new({}).try_write_linker_state()
    for wrong in (guard, foreign):
        with pytest.raises(InternalError, match="write lock"):
            shared.subscribe(wrong, lambda _number, _operation: None, topology)
    assert world.native.receivers == (1, 1)


def test_only_the_first_group_subscribes_without_the_token(world, shared):
    foreign = LinkerShared.new({}).topology_coordinator.try_acquire()
    old = shared.topology_coordinator.try_acquire()
    old.release()
    with shared.try_write_linker_state() as guard:
        for wrong in (None, old, foreign):
            # Caught inside the block: this is the caller's mistake, and the state is as it was.
            with pytest.raises(InternalError, match="without the topology token"):
                shared.subscribe(guard, lambda _number, _operation: None, wrong)
    assert world.native.receivers == (1, 1)


def test_unsubscribing_needs_the_write_lock(world, shared, group):
    guard = shared.try_write_linker_state()
    guard.release()
    with pytest.raises(InternalError, match="write lock"):
        shared.unsubscribe(guard, group.state)
    assert world.native.receivers == (1, 1)


def test_a_reader_neither_subscribes_nor_unsubscribes(world, shared, group):
    topology = shared.topology_coordinator.try_acquire()
    with shared.try_read_linker_state() as reader:
        with pytest.raises(InternalError, match="write lock"):
            shared.subscribe(reader, lambda _number, _operation: None, topology)
        with pytest.raises(InternalError, match="write lock"):
            shared.unsubscribe(reader, group.state)
    assert world.native.receivers == (1, 1)


def test_unsubscribing_takes_the_group_out_of_both_buses_and_a_second_time_does_nothing(
    world, shared
):
    group = world.new_group()
    assert world.native.receivers == (2, 2)
    with shared.try_write_linker_state() as guard:
        shared.unsubscribe(guard, group.state)
        shared.unsubscribe(guard, group.state)
    assert world.native.receivers == (1, 1)


def test_a_group_tells_what_it_is_doing(world, group):
    number = group.state.number
    assert repr(group.state) == f"<InstanceGroupState {number} parked, replayed 0>"
    with group.running():
        assert repr(group.state) == f"<InstanceGroupState {number} running, replayed 0>"
    group.state.die()
    assert repr(group.state).startswith(f"<InstanceGroupState {number} dead")
    assert repr(world.shared) == "<LinkerShared of 1 groups>"


AFTER_UNSUBSCRIBING = """
from pylinker.errors import InternalError
from pylinker.sync import LinkerShared

shared = LinkerShared.new({{}})
with shared.write_linker_state_alone() as guard:
    group = shared.subscribe(guard, lambda number, operation: None)
with shared.write_linker_state(group) as guard:
    shared.unsubscribe(guard, group)
try:
    print({use})
except InternalError:
    print("InternalError")
"""


@pytest.mark.parametrize(
    ("use", "answer"),
    [
        ("repr(group)[:19]", "<InstanceGroupState"),
        ("group.is_behind", "InternalError"),
        ("shared.write_linker_state(group)", "InternalError"),
        ("shared.write_linker_state_with_topology(group)", "InternalError"),
        ("shared.do_pending_link_operations_internal(group)", "InternalError"),
    ],
)
def test_a_group_that_has_unsubscribed_is_told_so_and_does_not_crash(tmp_path, use, answer):
    program = AFTER_UNSUBSCRIBING.format(use=use)
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, answer), result.stderr


# cancel


def test_the_first_cause_wins(shared):
    first = KeyError("first")
    assert shared.cancel(Cause.LEADER, first) is True
    assert shared.cancel(Cause.CLOSED, KeyError("second")) is False
    assert shared.cause == Cause.LEADER
    assert shared.reason is first
    assert repr(shared) == "<LinkerShared of 1 groups, cancelled>"


def test_the_reason_is_that_of_the_first_cause_though_it_came_without(shared):
    shared.cancel(Cause.CLOSED)
    shared.cancel(Cause.LEADER, KeyError("second"))
    assert shared.cause == Cause.CLOSED
    assert shared.reason is None
    assert shared.aborted().__cause__ is None


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (Cause.CLOSED, "the program has ended"),
        (Cause.LEADER, "failed while the others waited"),
        (Cause.REPLAY, "could not carry out an operation"),
        (Cause.BUS, "protocol was broken"),
        (Cause.INTERRUPTED, "was interrupted"),
    ],
)
def test_what_is_raised_afterwards_tells_the_cause_and_has_the_reason(shared, group, cause, text):
    reason = KeyError("first")
    shared.cancel(cause, reason)
    with pytest.raises(SynchronizationAborted, match=text) as caught:
        shared.write_linker_state(group.state)
    assert caught.value.__cause__ is reason


# The log


@pytest.fixture
def log(world, shared):
    """Five operations that a parked group has yet to replay, of which the second was withdrawn."""
    leader = world.new_group()
    world.lead(leader, "open a")
    with shared.write_linker_state(leader.state):
        leader.open_barrier()
        leader.withdraw()
    for name in "cde":
        world.lead(leader, f"open {name}")
    return shared.log


def test_operations_are_numbered_from_one(log):
    assert [log[number] for number in range(1, 6)] == ["open a", None, "open c", "open d", "open e"]
    assert len(log) == 4


def test_the_log_forgets_its_old_end_and_numbers_stay(world, log):
    forget = functools.partial(lib.pl_log_forget, lib.pl_shared_log(world.native.pointer))
    forget(3)
    assert len(log) == 2
    assert (log[4], log[5]) == ("open d", "open e")
    forget(1)  # again, and older: nothing to do
    assert len(log) == 2
    forget(9)
    assert len(log) == 0
    world.groups[0].state.die()  # which can replay nothing any more
    world.lead(world.new_group(), "open f")
    assert log[6] == "open f"


@pytest.mark.parametrize("number", [0, 1, 6, -1])
def test_an_operation_that_was_forgotten_or_never_came_is_a_broken_invariant(world, log, number):
    lib.pl_log_forget(lib.pl_shared_log(world.native.pointer), 1)
    with pytest.raises(
        InternalError, match=f"operation {number} is not in the log, which has 2 to 5"
    ):
        log[number]
    world.groups[0].state.die()


def test_the_log_keeps_an_operation_alive_until_it_is_forgotten(world, shared, group):
    class Operation:
        pass

    operation = Operation()
    life = weakref.ref(operation)
    leader = world.new_group()
    world.lead(leader, operation)
    leader.replayed.clear()
    del operation
    gc.collect()
    assert life() is shared.log[1]
    group.follow()
    group.replayed.clear()
    shared.write_linker_state(group.state).release()
    gc.collect()
    assert life() is None


def test_a_log_does_not_keep_its_own_linker_alive():
    class Operation:
        pass

    with World(groups=2) as world:
        operation = Operation()
        operation.shared = world.shared
        world.lead(world.groups[0], operation)
        life = weakref.ref(operation)
        assert len(world.shared.log) == 1
    del world, operation
    wait_until(
        lambda: gc.collect() >= 0 and life() is None
    )  # a thread of the world may yet have to end
