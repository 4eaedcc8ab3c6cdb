"""synchronize_link_operation and its followers: waits, locks held, and behaviour on errors."""

import contextlib
import math
import threading

import pytest

from pylinker._core import ffi, lib
from pylinker.errors import InternalError, RendezvousTimeout, SynchronizationAborted
from pylinker.native.enums import CANCELLED, RUNNING, Cause
from pylinker.sync import LinkerShared
from sync_world import DEADLINE, World, broken_invariant, wait_for, wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*was dropped before it was released:ResourceWarning"
)


@pytest.fixture
def world():
    """Three groups, all parked."""
    with World(groups=3) as world:
        yield world


@pytest.fixture
def alone():
    """One group."""
    with World(groups=1) as world:
        yield world


def fail(_number, _operation):
    raise KeyError("no such slot")


def nobody():
    """Wake no group: running guests are not interrupted."""


class Gate:
    """A place where a thread stops until the test lets it go on."""

    def __init__(self, world):
        self._reached = world.event()
        self._open = world.event()

    def __call__(self, *_arguments):
        self._reached.set()
        wait_for(self._open)

    def wait_until_reached(self):
        wait_for(self._reached)

    def open(self):
        self._open.set()


def take(world, group):
    return world.shared.write_linker_state_with_topology(group.state)


def assert_given_up(world, cause, reason):
    """The linker refuses all work, the token is released, and the guarded state is unreachable."""
    assert world.shared.cause == cause
    assert world.shared.reason is reason
    assert world.native.token == 0
    for group in world.groups:
        with pytest.raises(SynchronizationAborted) as caught:
            world.shared.write_linker_state(group.state)
        assert caught.value.__cause__ is reason


# One receiver or none: nothing to do


def test_with_one_group_there_is_nothing_to_do_but_to_commit(alone):
    group = alone.groups[0]
    topology, guard = take(alone, group)
    happened = []
    alone.shared.synchronize_link_operation(
        topology,
        "open a",
        guard,
        group.state,
        commit=lambda: happened.append(("commit", alone.native.readers, alone.native.token)),
        wake=lambda: happened.append("wake"),
        timeout=0,
    )
    assert happened == [("commit", -1, topology.number)]
    assert alone.native.published == 0
    assert len(alone.shared.log) == 0
    assert group.replayed == []


def test_with_one_group_guard_and_token_are_dropped(alone):
    group = alone.groups[0]
    topology, guard = take(alone, group)
    alone.shared.synchronize_link_operation(topology, "open a", guard, group.state)
    assert not guard.held and not topology.is_held
    alone.assert_untouched()


@pytest.mark.parametrize("error", [None, KeyError, InternalError])
def test_with_one_group_both_are_released_whatever_commit_raises(alone, error):
    def commit():
        if error is not None:
            raise error("in commit")

    topology, guard = take(alone, alone.groups[0])
    with pytest.raises(error) if error else contextlib.nullcontext():
        alone.shared.synchronize_link_operation(
            topology, "open a", guard, alone.groups[0].state, commit=commit
        )
    assert not topology.is_held and not guard.held and topology.guards == 0
    assert alone.native.token == 0 and alone.native.readers == 0
    assert alone.is_poisoned() == (error is InternalError)
    assert alone.shared.cause == 0


def test_without_any_group_there_is_nothing_to_do_either(alone):
    state = alone.groups[0].state
    topology = alone.shared.topology_coordinator.try_acquire()
    _topology, guard = alone.shared.write_linker_state_blocking_holding_topology(topology)
    alone.shared.unsubscribe(guard, state)
    committed = []
    alone.shared.synchronize_link_operation(
        topology, "open a", guard, state, commit=lambda: committed.append("a")
    )
    assert committed == ["a"]
    assert (alone.native.token, alone.native.readers, alone.native.published) == (0, 0, 0)


def test_with_one_group_a_commit_that_fails_gives_both_back_and_nothing_up(alone):
    group = alone.groups[0]
    topology, guard = take(alone, group)

    def commit():
        raise KeyError("no room")

    with pytest.raises(KeyError, match="no room"):
        alone.shared.synchronize_link_operation(
            topology, "open a", guard, group.state, commit=commit
        )
    alone.assert_untouched()


def test_with_one_group_a_commit_that_breaks_an_invariant_poisons_the_lock_as_in_any_write_guard(
    alone,
):
    group = alone.groups[0]
    topology, guard = take(alone, group)
    with pytest.raises(InternalError, match="the test says so"):
        alone.shared.synchronize_link_operation(
            topology, "open a", guard, group.state, commit=broken_invariant
        )
    assert alone.native.token == 0
    assert alone.is_poisoned()


# With followers


@pytest.mark.parametrize("position", [1, 2])
def test_the_leader_returns_only_after_every_running_group_has_replayed(world, position):
    leader, slow = world.groups[0], world.groups[position]
    quick = world.groups[3 - position]
    world.start_guest(quick)
    world.start_guest(slow)
    slow.on_replay = gate = Gate(world)
    job = world.start(world.lead, leader, "open a")
    gate.wait_until_reached()
    wait_until(lambda: quick.replayed and (job.is_done or world.sleepers == 1))
    assert not job.is_done and slow.replayed == []
    gate.open()
    job.result()
    assert quick.replayed == slow.replayed == [(1, "open a")]


def test_all_groups_replay_every_operation_once_and_in_the_same_order(world):
    for group in world.groups:
        world.start_guest(group)
    expected = []
    for number in range(1, 10):
        leader = world.groups[number % 3]
        world.lead(
            leader, f"open {number}"
        )  # from the host, while the group's own thread is in the guest
        expected.append((number, f"open {number}"))
        assert all(group.replayed == expected for group in world.groups)


def test_parked_groups_hold_nobody_up_and_replay_on_their_way_back_before_guest_code(world):
    leader, *others = world.groups
    world.lead(leader, "open a", wake=nobody)
    world.lead(leader, "open b", wake=nobody)
    assert [group.replayed for group in others] == [[], []]
    for group in others:
        with group.running():
            assert group.replayed == [(1, "open a"), (2, "open b")]
        with group.running():
            assert len(group.replayed) == 2


def test_a_group_inside_a_blocking_host_function_holds_nobody_up_and_replays_on_its_way_back(world):
    leader, group, _other = world.groups
    with group.running():
        with group.parked():
            world.run(lambda: world.lead(leader, "open a", wake=nobody))
            assert group.replayed == []
        assert group.replayed == [(1, "open a")]


def test_a_group_that_leaves_guest_code_lets_the_leader_go_on(world):
    leader, group, _other = world.groups
    guest = world.start_guest(group)
    job = world.start_leading(leader, "open a", wake_guests=False)
    wait_until(lambda: world.sleepers == 1)
    guest.leave()  # without coming to a safepoint
    job.result()
    assert group.replayed == []
    with group.running():
        assert group.replayed == [(1, "open a")]


def test_a_group_that_comes_back_during_a_rendezvous_runs_no_guest_code_before_it_has_replayed(
    world,
):
    leader, busy, back = world.groups
    guest = world.start_guest(busy)
    job = world.start_leading(leader, "open a", wake_guests=False)
    wait_until(lambda: world.sleepers == 1)
    seen = []

    def come_back():
        with back.running():
            seen.append(list(back.replayed))

    entering = world.start(come_back)
    wait_until(lambda: back.arrived == 1)
    assert seen == []
    guest.ring()
    job.result()
    entering.result()
    assert seen == [[(1, "open a")]]


def test_a_leader_in_guest_code_does_not_wait_for_itself(world):
    leader, group, _other = world.groups
    world.start_guest(group)
    with leader.running():
        world.run(lambda: world.lead(leader, "open a"))
    assert leader.replayed == group.replayed == [(1, "open a")]


def test_a_group_that_dies_before_the_barrier_lets_the_leader_go_on(world):
    leader, group, _other = world.groups
    world.start_guest(group)
    job = world.start_leading(leader, "open a", wake_guests=False)
    wait_until(lambda: world.sleepers == 1)
    group.state.die()
    job.result()
    assert world.shared.cause == 0


def test_a_group_that_dies_while_it_replays_lets_the_leader_go_on(world):
    leader, group, _other = world.groups
    guest = world.start_guest(group)
    group.on_replay = gate = Gate(world)
    job = world.start(world.lead, leader, "open a")
    gate.wait_until_reached()
    wait_until(lambda: world.sleepers == 1)
    group.state.die()
    job.result()
    gate.open()
    guest.leave()
    world.lead(leader, "open b")  # it owes nothing
    assert world.shared.cause == 0


def test_a_group_that_dies_at_the_barrier_lets_the_leader_go_on_and_owes_nothing(world):
    leader, group, _other = world.groups
    guest = world.start_guest(group)
    world.lead(leader, "open a", commit=group.state.die)
    guest.leave()
    assert group.replayed == []  # what is dead never runs again
    world.lead(leader, "open b")
    assert world.shared.cause == 0


def test_a_group_that_waits_for_its_read_lock_comes_to_the_next_barrier(world):
    """The group is back after one operation, and cannot replay it under the next leader's lock."""
    leader, back, _other = world.groups
    world.lead(leader, "open a")
    topology, guard = take(world, leader)
    is_waiting = world.event()
    back.state.check = is_waiting.set

    def come_back():
        with back.running():
            return list(back.replayed)

    job = world.start(come_back)
    wait_for(is_waiting)
    world.shared.synchronize_link_operation(topology, "open b", guard, leader.state)
    assert job.result() == [(1, "open a"), (2, "open b")]


def test_no_group_is_in_guest_code_before_it_has_replayed_whatever_moment_it_comes(world):
    leader, *others = world.groups
    is_over = world.event()
    looks = set()

    def come_and_go(group):
        while not is_over.is_set():
            with group.running():
                looks.add(group.state.applied == world.native.published)

    jobs = [world.start(come_and_go, group) for group in others]
    for number in range(2000):
        world.lead(leader, f"open {number}", wake=nobody)
    is_over.set()
    for job in jobs:
        job.result()
    assert looks <= {True}
    assert all(group.replayed == leader.replayed[: len(group.replayed)] for group in others)


def test_threads_that_lead_at_the_same_time_take_turns_and_lose_nothing():
    with World(groups=4) as world:

        def lead_often(group):
            with group.running():
                for turn in range(12):
                    world.lead(group, f"{group.state.number}.{turn}", wake=nobody)

        for job in [world.start(lead_often, group) for group in world.groups]:
            job.result()
        for group in world.groups:
            group.follow()
        replayed = world.groups[0].replayed
        assert [number for number, _operation in replayed] == list(range(1, 49))
        assert len({operation for _number, operation in replayed}) == 48
        assert all(group.replayed == replayed for group in world.groups)


# wake


def test_wake_is_called_once_when_the_barrier_is_up(world):
    leader, group, _other = world.groups
    guest = world.start_guest(group)
    looks = []

    def wake():
        looks.append((world.is_pending, group.arrived, world.native.published))
        guest.ring()

    world.lead(leader, "open a", wake=wake)
    assert looks == [(True, 0, 0)]


# commit


def test_commit_runs_with_the_write_lock_after_all_have_arrived_and_before_anybody_replays(world):
    leader, *others = world.groups
    for group in others:
        world.start_guest(group)
    looks = []

    def commit():
        looks.append(
            {
                "readers": world.native.readers,
                "arrived": [group.arrived for group in others],
                "replayed": [list(group.replayed) for group in others],
                "published": world.native.published,
                "pending": world.is_pending,
            }
        )

    world.lead(leader, "open a", commit=commit)
    assert looks == [
        {"readers": -1, "arrived": [1, 1], "replayed": [[], []], "published": 0, "pending": True}
    ]


def test_commit_waits_for_the_last_to_arrive(world):
    leader, early, late = world.groups
    guests = [world.start_guest(group) for group in (early, late)]
    committed = []
    job = world.start_leading(
        leader, "open a", wake_guests=False, commit=lambda: committed.append(late.arrived)
    )
    guests[0].ring()
    wait_until(lambda: early.arrived == 1)
    wait_until(
        lambda: committed or world.sleepers == 2
    )  # the leader, and the one that waits for the operation
    assert committed == []
    guests[1].ring()
    job.result()
    assert committed == [1]


def test_what_was_committed_is_there_when_it_is_replayed(world):
    leader, running, parked = world.groups
    world.start_guest(running)
    seen = []
    running.on_replay = parked.on_replay = lambda _number, _operation: seen.append(
        list(world.state["modules"])
    )
    world.lead(leader, "open a", commit=lambda: world.state["modules"].append("a"))
    parked.follow()
    assert seen == [["a"], ["a"]]


# What is held meanwhile


def test_followers_replay_under_read_locks_next_to_the_leaders(world):
    leader, *others = world.groups
    gate = Gate(world)
    for group in others:
        world.start_guest(group)
        group.on_replay = gate
    job = world.start(world.lead, leader, "open a")
    gate.wait_until_reached()
    wait_until(lambda: world.native.readers == 3)  # the leader and both followers
    assert world.shared.try_write_linker_state() is None
    gate.open()
    job.result()
    world.assert_untouched()


def test_no_writer_comes_between_the_operation_and_its_replay(world):
    """The leader downgrades to a read lock: a sleeping writer gets the lock after the leader."""
    leader, group, _other = world.groups
    world.start_guest(group)
    group.on_replay = gate = Gate(world)
    writers = []

    def commit():
        writers.append(
            world.start(world.shared.bootstrap_exclusive_write_then, lambda _state: "in")
        )
        wait_until(lambda: world.sleepers == 2)  # the writer, and the follower at the barrier

    job = world.start(world.lead, leader, "open a", commit=commit)
    gate.wait_until_reached()
    assert world.native.readers == 2
    wait_until(
        lambda: world.sleepers == 2 or writers[0].is_done or job.is_done
    )  # the writer, and the leader at the second barrier
    assert not writers[0].is_done and not job.is_done
    gate.open()
    assert isinstance(
        writers[0].error(), InternalError
    )  # it got the lock, and found more than one group
    assert group.state.applied == 1
    job.result()


def test_a_writer_who_tries_all_the_time_finds_every_running_group_up_to_date(world):
    leader, group, _other = world.groups
    world.start_guest(group)
    is_over = world.event()
    looks = set()

    def try_all_the_time():
        while not is_over.is_set():
            writer = world.shared.try_write_linker_state()
            if writer is not None:
                looks.add(group.state.applied == world.native.published)
                writer.release()

    job = world.start(try_all_the_time)
    for number in range(100):
        world.lead(leader, f"open {number}")
    is_over.set()
    job.result()
    assert looks <= {True}


def test_the_token_is_out_until_every_running_group_has_replayed(world):
    leader, group, _other = world.groups
    world.start_guest(group)
    tokens = []
    group.on_replay = gate = Gate(world)
    topology, guard = take(world, leader)

    def commit():
        tokens.append(world.native.token)

    job = world.start(
        world.shared.synchronize_link_operation,
        topology,
        "open a",
        guard,
        leader.state,
        commit=commit,
        wake=world.wake,
    )
    gate.wait_until_reached()
    wait_until(lambda: world.sleepers == 1 or job.is_done)
    tokens.append(world.native.token)
    gate.open()
    job.result()
    assert tokens == [topology.number] * 2
    assert not topology.is_held and not guard.held
    world.assert_untouched()


# What the caller must hold


def test_the_token_must_be_out(world):
    topology, guard = (
        world.shared.topology_coordinator.try_acquire(),
        world.shared.try_write_linker_state(),
    )
    topology.release()
    with pytest.raises(InternalError, match="not the topology token"):
        world.shared.synchronize_link_operation(topology, "open a", guard, world.groups[0].state)
    assert world.native.published == 0
    world.assert_untouched()


def test_the_token_must_be_this_linkers(world):
    foreign = LinkerShared.new({}).topology_coordinator.try_acquire()
    guard = world.shared.try_write_linker_state()
    with pytest.raises(InternalError, match="not the topology token"):
        world.shared.synchronize_link_operation(foreign, "open a", guard, world.groups[0].state)
    assert foreign.is_held  # it is another's
    assert world.native.published == 0
    world.assert_untouched()


def test_the_guard_must_be_held(world):
    topology, guard = take(world, world.groups[0])
    guard.release()
    with pytest.raises(InternalError, match="write lock"):
        world.shared.synchronize_link_operation(topology, "open a", guard, world.groups[0].state)
    assert world.native.published == 0
    world.assert_untouched()


def test_the_guard_must_be_this_linkers(world):
    topology = world.shared.topology_coordinator.try_acquire()
    foreign = LinkerShared.new({}).try_write_linker_state()
    with pytest.raises(InternalError, match="write lock"):
        world.shared.synchronize_link_operation(topology, "open a", foreign, world.groups[0].state)
    assert foreign.held  # it is another's
    assert world.native.published == 0
    world.assert_untouched()


def test_the_token_must_have_been_taken_before_the_guard(world):
    guard = world.shared.write_linker_state(world.groups[0].state)
    topology = world.shared.topology_coordinator.try_acquire()
    with pytest.raises(InternalError):
        world.shared.synchronize_link_operation(topology, "open a", guard, world.groups[0].state)
    assert world.native.published == 0
    assert (world.native.token, world.native.readers) == (0, 0)


# Misuse of the buses is fatal, and no thread hangs


def never_takes(world, bus):
    """Add a receiver that owes an answer to the next message and never gives it."""
    lib.pl_receiver_expect(world.subscribe(bus))


def test_a_bus_of_operations_that_is_full_gives_up_the_linker_and_wakes_everybody(world):
    leader, group, other = world.groups
    guest = world.start_guest(group)
    never_takes(world, world.native._operations)
    world.lead(leader, "open a")
    waiting = []

    def commit():
        waiting.append(world.start(world.shared.acquire_topology_token, other.state))
        wait_until(lambda: other.arrived == 2)

    with pytest.raises(InternalError, match="try_broadcast of operation 2 failed") as caught:
        world.lead(leader, "open b", commit=commit)
    for job in (guest, waiting[0]):
        assert isinstance(job.error(), SynchronizationAborted)
    assert group.replayed == [(1, "open a")]
    assert_given_up(world, Cause.BUS, caught.value)
    assert world.is_poisoned()


def test_a_running_group_owes_an_answer_until_it_has_replayed(world):
    """A full bus: a leader does not wait for a receiver.

    No leader does that; here its steps are taken by hand.
    """
    leader, group, _other = world.groups
    guest = world.start_guest(group)
    group.on_replay = gate = Gate(world)
    job = world.start(world.lead, leader, "open a")
    gate.wait_until_reached()
    assert leader.open_barrier() == 2
    assert lib.pl_lead_publish(leader.state.pointer) == 0
    assert world.native.published == 1
    assert world.shared.cause == Cause.BUS
    assert isinstance(job.error(), SynchronizationAborted)
    gate.open()
    assert isinstance(guest.error(), SynchronizationAborted)


def test_a_bus_of_barriers_that_is_full_gives_up_the_linker(world):
    leader = world.groups[0]
    never_takes(world, world.native._barriers)
    world.lead(leader, "open a")
    committed = []
    with pytest.raises(InternalError) as caught:
        world.lead(leader, "open b", commit=lambda: committed.append("b"))
    assert committed == []
    assert_given_up(world, Cause.BUS, caught.value)


def test_a_second_barrier_while_one_is_up_gives_up_the_linker_and_wakes_everybody(world):
    leader, group, _other = world.groups
    guest = world.start_guest(group)
    topology, guard = take(world, leader)
    leader.open_barrier()
    guest.ring()
    wait_until(lambda: group.arrived == 1)
    with pytest.raises(InternalError, match="open already") as caught:
        world.shared.synchronize_link_operation(topology, "open a", guard, leader.state)
    assert isinstance(guest.error(), SynchronizationAborted)
    assert_given_up(world, Cause.BUS, caught.value)


def test_a_bus_that_is_full_when_an_operation_is_withdrawn_is_fatal_too(world):
    leader, group, _other = world.groups
    never_takes(world, world.native._operations)
    world.lead(leader, "open a")
    guest = world.start_guest(group)
    with pytest.raises(InternalError, match="withdrawn") as caught:
        world.lead(leader, "open b", wake=nobody, timeout=0)
    guest.ring()
    assert isinstance(guest.error(), SynchronizationAborted)
    assert_given_up(world, Cause.BUS, caught.value)


def test_a_leader_that_is_behind_gives_up_the_linker_rather_than_lose_what_it_missed(world):
    leader, behind, _other = world.groups
    world.lead(leader, "open a")
    topology = world.shared.topology_coordinator.try_acquire()
    _topology, guard = world.shared.write_linker_state_blocking_holding_topology(
        topology
    )  # which replays nothing
    with pytest.raises(InternalError) as caught:
        world.shared.synchronize_link_operation(topology, "open b", guard, behind.state)
    assert behind.replayed == []
    assert_given_up(world, Cause.BUS, caught.value)


def test_a_number_that_is_not_the_logs_is_fatal(world):
    lib.pl_log_append(
        lib.pl_shared_log(world.native.pointer), ffi.NULL, ffi.NULL
    )  # an operation without an announcement
    with pytest.raises(InternalError, match="another number in the log") as caught:
        world.lead(world.groups[0], "open a")
    assert_given_up(world, Cause.BUS, caught.value)


# A leader that fails between the barriers


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        pytest.param(KeyError("no room"), Cause.LEADER, id="error"),
        pytest.param(KeyboardInterrupt(), Cause.LEADER, id="interrupt"),
        pytest.param(InternalError("torn"), Cause.BUS, id="invariant"),
        pytest.param(RendezvousTimeout("of another program"), Cause.LEADER, id="foreign-timeout"),
    ],
)
def test_a_leader_that_fails_while_the_others_wait_gives_up_the_linker_and_wakes_them(
    world, failure, cause
):
    leader, group, other = world.groups
    guest = world.start_guest(group)

    def fail_now():
        guest.ring()
        wait_until(lambda: group.arrived == other.arrived == 1)
        raise failure

    topology, guard = take(world, leader)
    waiting = world.start(world.shared.acquire_topology_token, other.state)
    with pytest.raises(type(failure)) as caught:
        world.shared.synchronize_link_operation(
            topology, "open a", guard, leader.state, wake=guest.ring, commit=fail_now
        )
    assert caught.value is failure
    for job in (guest, waiting):
        error = job.error()
        assert isinstance(error, SynchronizationAborted) and error.__cause__ is failure
    assert group.replayed == []
    assert world.native.published == 0
    assert_given_up(world, cause, failure)
    assert world.is_poisoned()


def test_a_leader_that_is_interrupted_at_the_barrier_withdraws(world):
    leader, group, _other = world.groups
    guest = world.start_guest(group)
    interrupt = KeyboardInterrupt()

    def check():
        raise interrupt

    leader.state.check = check
    with pytest.raises(KeyboardInterrupt) as caught:
        world.lead(leader, "open a", wake=nobody)
    assert caught.value is interrupt
    guest.ring()
    del leader.state.check
    world.lead(leader, "open b", wake=guest.ring)
    guest.leave()
    assert group.replayed == [(2, "open b")]
    world.assert_untouched()


def test_a_follower_that_is_interrupted_and_waits_in_vain_gives_up_the_linker(world):
    leader, busy, group = world.groups
    world.start_guest(busy)
    guest = world.start_guest(group)
    interrupt = KeyboardInterrupt()

    def check():
        raise interrupt

    group.state.check = check
    job = world.start_leading(leader, "open a", wake_guests=False)
    guest.ring()
    assert guest.error() is interrupt
    error = job.error()
    assert isinstance(error, SynchronizationAborted) and error.__cause__ is interrupt
    assert_given_up(world, Cause.INTERRUPTED, interrupt)


# A follower that cannot replay


def test_a_replay_that_fails_gives_up_the_linker_for_all(world):
    leader, broken, good = world.groups
    guests = [world.start_guest(group) for group in (broken, good)]
    broken.on_replay = fail
    job = world.start(world.lead, leader, "open a")
    failure = guests[0].error()
    assert isinstance(failure, KeyError)  # its own thread gets its own exception
    error = job.error()
    assert isinstance(error, SynchronizationAborted) and error.__cause__ is failure
    guests[1].ring()
    wait_until(lambda: good.replayed or guests[1].is_done)
    with pytest.raises(SynchronizationAborted) as caught:
        good.follow()
    assert caught.value.__cause__ is failure
    assert_given_up(world, Cause.REPLAY, failure)


def test_the_leader_knows_the_reason_though_it_wakes_before_the_failed_follower_is_back_in_python(
    world,
):
    leader, broken, _other = world.groups
    failure = KeyError("no such slot")

    def replay(_number, _operation):
        raise failure

    broken.on_replay = replay
    is_running, is_up, leader_is_back = world.event(), world.event(), world.event()

    def guest():
        with broken.running():
            is_running.set()
            wait_for(is_up)
            result = broken.poll_in_c()
            wait_for(leader_is_back)
            return result

    guest_job = world.start(guest)
    wait_for(is_running)
    error = world.start(world.lead, leader, "open a", wake=is_up.set).error()
    assert isinstance(error, SynchronizationAborted)
    assert error.__cause__ is failure
    leader_is_back.set()
    assert guest_job.result() == CANCELLED
    assert_given_up(world, Cause.REPLAY, failure)


def test_of_two_replays_that_fail_the_first_is_the_reason(world):
    leader, first, second = world.groups
    guests = [world.start_guest(group) for group in (first, second)]
    both = threading.Barrier(2)

    def fail_first(_number, _operation):
        both.wait(DEADLINE)
        raise KeyError("first")

    def fail_second(_number, _operation):
        both.wait(DEADLINE)
        wait_until(lambda: world.shared.cause)
        raise ValueError("second")

    first.on_replay, second.on_replay = fail_first, fail_second
    job = world.start(world.lead, leader, "open a")
    errors = [guest.error() for guest in guests]
    assert [type(error) for error in errors] == [KeyError, ValueError]
    assert job.error().__cause__ is errors[0]
    assert_given_up(world, Cause.REPLAY, errors[0])


def test_a_parked_group_that_cannot_replay_on_its_way_back_gives_up_the_linker(world):
    leader, broken, _other = world.groups
    world.lead(leader, "open a")
    broken.on_replay = fail
    with pytest.raises(KeyError, match="no such slot") as caught, broken.running():
        pytest.fail("guest code ran")
    assert_given_up(world, Cause.REPLAY, caught.value)


# Giving up from outside


REASON = KeyError("from outside")


def give_up(world):
    assert world.shared.cancel(Cause.CLOSED, REASON)


def assert_woken(job):
    error = job.error()
    assert isinstance(error, SynchronizationAborted)
    assert error.__cause__ is REASON


def test_giving_up_wakes_a_leader_at_the_first_barrier(world):
    leader, group, _other = world.groups
    guest = world.start_guest(group)
    committed = []
    job = world.start_leading(
        leader, "open a", wake_guests=False, commit=lambda: committed.append("a")
    )
    wait_until(lambda: world.sleepers == 1)
    give_up(world)
    assert_woken(job)
    assert committed == []
    guest.ring()
    assert_woken(guest)
    assert_given_up(world, Cause.CLOSED, REASON)


def test_giving_up_wakes_a_leader_at_the_second_barrier(world):
    leader, group, _other = world.groups
    world.start_guest(group)
    group.on_replay = gate = Gate(world)
    job = world.start(world.lead, leader, "open a")
    gate.wait_until_reached()
    wait_until(lambda: world.sleepers == 1)
    give_up(world)
    assert_woken(job)  # though the follower is still replaying
    assert group.replayed == []
    assert_given_up(world, Cause.CLOSED, REASON)


def test_giving_up_wakes_followers_that_wait_for_the_operation(world):
    leader, *others = world.groups
    guests = [world.start_guest(group) for group in others]
    take(world, leader)
    leader.open_barrier()
    world.wake()
    wait_until(lambda: world.sleepers == 2)
    give_up(world)
    for guest in guests:
        assert_woken(guest)
    assert [group.replayed for group in others] == [[], []]


def test_giving_up_wakes_a_follower_that_waits_for_its_read_lock(world):
    leader, group, _other = world.groups
    world.lead(leader, "open a")
    is_waiting = world.event()
    group.state.check = is_waiting.set
    with world.shared.write_linker_state(leader.state):
        job = world.start(group.follow)
        wait_for(is_waiting)
        give_up(world)
        assert_woken(job)
    assert group.replayed == []


def test_poisoning_wakes_a_follower_that_waits_for_its_read_lock(world):
    leader, group, _other = world.groups
    world.lead(leader, "open a")
    is_waiting = world.event()
    group.state.check = is_waiting.set
    guard = world.shared.write_linker_state(leader.state)
    job = world.start(group.follow)
    wait_for(is_waiting)
    guard.leave(InternalError("the state is broken"))
    assert isinstance(job.error(), SynchronizationAborted)
    assert group.replayed == []


def test_giving_up_wakes_all_who_wait_for_token_or_lock(world):
    leader, group, other = world.groups
    topology, guard = take(world, leader)
    jobs = []
    for wait, state in [
        (world.shared.write_linker_state, group.state),
        (world.shared.read_linker_state, group.state),
        (world.shared.acquire_topology_token, group.state),
        (world.shared.write_linker_state_with_topology, other.state),
    ]:
        before = world.pauses
        jobs.append(world.start(wait, state))
        wait_until(
            lambda before=before: world.pauses > before + 100
        )  # those before it sleep longer and longer
    jobs.append(world.start(world.shared.bootstrap_exclusive_write_then, lambda state: state))
    jobs.append(world.start(world.shared.write_linker_state_blocking_holding_topology, topology))
    wait_until(lambda: world.sleepers == 2)
    give_up(world)
    for job in jobs:
        assert_woken(job)
    guard.release()
    topology.release()
    assert (world.native.readers, world.native.token) == (0, 0)


def test_a_linker_that_was_given_up_lets_no_guest_in(world):
    give_up(world)
    with pytest.raises(SynchronizationAborted), world.groups[0].running():
        pytest.fail("guest code ran")


@pytest.mark.parametrize("groups", [1, 2])
def test_a_linker_that_was_given_up_carries_nothing_out(groups):
    with World(groups) as world:
        leader = world.groups[0]
        topology, guard = take(world, leader)
        give_up(world)
        committed = []
        with pytest.raises(SynchronizationAborted) as caught:
            world.shared.synchronize_link_operation(
                topology, "open a", guard, leader.state, commit=lambda: committed.append("a")
            )
        assert caught.value.__cause__ is REASON
        assert committed == []
        assert world.native.token == 0 and world.native.readers == 0


def test_a_linker_that_was_given_up_gives_no_lock_to_those_who_wait_blindly(alone):
    topology = alone.shared.topology_coordinator.try_acquire()
    give_up(alone)
    called = []
    with pytest.raises(SynchronizationAborted):
        alone.shared.bootstrap_exclusive_write_then(called.append)
    with pytest.raises(SynchronizationAborted):
        alone.shared.write_linker_state_blocking_holding_topology(topology)
    assert called == []
    assert alone.native.readers == 0


# A thread that does not come in time


@pytest.fixture
def timed_out(world):
    """``world`` after an operation for which one of two running groups came too late."""
    leader, early, late = world.groups
    guests = {group: world.start_guest(group) for group in (early, late)}
    committed = []

    def wake():
        guests[early].ring()
        wait_until(lambda: early.arrived == 1)

    with pytest.raises(RendezvousTimeout) as caught:
        world.lead(leader, "open a", wake=wake, timeout=0, commit=lambda: committed.append("a"))
    world.error, world.late_guest = caught.value, guests[late]
    assert committed == []
    return world


def test_the_timeout_names_the_thread_that_was_late(timed_out):
    number = timed_out.groups[2].state.number
    assert timed_out.error.thread == number
    assert f"thread {number} did not come to a safepoint within 0 seconds" in str(timed_out.error)
    assert isinstance(timed_out.error, TimeoutError)


def test_a_timeout_changes_nothing(timed_out):
    _leader, early, _late = timed_out.groups
    wait_until(lambda: early.state.applied == 1)  # it has gone on: there was nothing to carry out
    assert [group.replayed for group in timed_out.groups] == [[], [], []]
    assert early.state.state == RUNNING
    assert timed_out.state == {"modules": []}
    timed_out.assert_untouched()


def test_the_late_thread_goes_on_after_a_timeout(timed_out):
    late = timed_out.groups[2]
    timed_out.late_guest.ring()
    timed_out.late_guest.leave()
    with late.running():
        assert late.state.applied == 1
    assert late.replayed == []


def test_the_operation_after_a_timeout_works(timed_out):
    timed_out.lead(timed_out.groups[1], "open b", timeout=DEADLINE)
    timed_out.groups[0].follow()
    assert [group.replayed for group in timed_out.groups] == [[(2, "open b")]] * 3
    timed_out.assert_untouched()


def test_a_timeout_is_for_the_first_barrier_only(world):
    leader, group, _other = world.groups
    world.start_guest(group)
    group.on_replay = gate = Gate(world)
    # The guest arrives before the leader looks, and replays for longer than the timeout.
    job = world.start(
        world.lead,
        leader,
        "open a",
        timeout=0,
        wake=lambda: (world.wake(), wait_until(lambda: group.arrived == 1)),
    )
    gate.wait_until_reached()
    wait_until(lambda: world.sleepers == 1 or job.is_done)
    assert not job.is_done
    gate.open()
    job.result()


def test_no_timeout_when_everybody_comes(world):
    leader, group, _other = world.groups
    world.start_guest(group)
    world.lead(leader, "open a", timeout=DEADLINE)
    assert group.replayed == [(1, "open a")]


def test_an_endless_timeout_is_none(world):
    leader, group, _other = world.groups
    world.start_guest(group)
    world.lead(leader, "open a", timeout=math.inf)
    assert group.replayed == [(1, "open a")]


@pytest.mark.parametrize("timeout", [math.nan, "1"])
def test_a_timeout_that_is_no_time_is_refused_before_the_barrier_is_up(world, timeout):
    woken = []
    with pytest.raises((TypeError, ValueError)):
        world.lead(world.groups[0], "open a", timeout=timeout, wake=lambda: woken.append("up"))
    assert woken == []
    world.assert_untouched()


# The log


def test_the_log_forgets_what_every_group_has_replayed(world):
    for group in world.groups[1:]:
        world.start_guest(group)
    for number in range(20):
        world.lead(world.groups[0], f"open {number}")
    assert len(world.shared.log) <= 2


def test_the_log_keeps_what_a_parked_group_has_yet_to_replay(world):
    leader, running, parked = world.groups
    world.start_guest(running)
    for number in range(1, 6):
        world.lead(leader, f"open {number}")
    parked.follow()
    assert parked.replayed == [(number, f"open {number}") for number in range(1, 6)]
    world.lead(leader, "open 6")
    assert len(world.shared.log) <= 2


def test_the_log_keeps_nothing_for_the_dead(world):
    leader, dead, dropped = world.groups
    dead.state.die()
    world.lead(leader, "open a")
    world.drop_group(dropped)
    world.lead(leader, "open b")
    world.lead(leader, "open c")
    assert len(world.shared.log) <= 2
