/* rendezvous: a death or a failure at each step of the protocol, and every early end of a wait.
 * Afterwards either all groups go on, or all are cancelled; no thread waits forever. */
#include "program.h"

static void *open_and_die(void *argument) {
    struct member *self = argument;
    uint64_t token;
    CHECK(take_both(self, &token) == PL_ACQUIRED);
    CHECK(pl_lead_open(self->group) == 1);
    AWAIT(atomic_load(&self->is_free));
    CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_LEADER) == 1);
    pl_rwlock_poison(the_lock());
    pl_safepoint_die(pl_group_safepoint(self->group));
    release_token(token);
    return NULL;
}

static void test_leader_dies_after_it_opened_the_barrier(void) {
    struct member members[3];
    set_up_with(members, 3);
    pthread_t follower = start_guest(&members[1]);
    pthread_t leader = thread_start(open_and_die, &members[0]);
    AWAIT(pl_group_arrived(members[1].group) == 1 && sleepers() == 1);
    /* it wants the token, and follows */
    pthread_t next = thread_start(lead_in_thread, &members[2]);
    AWAIT(pl_group_arrived(members[2].group) == 1 && sleepers() == 2);
    atomic_store(&members[0].is_free, 1);
    thread_join(leader);
    thread_join(follower);
    thread_join(next);
    CHECK(members[1].result == PL_CANCELLED && members[2].result == PL_CANCELLED &&
          cause() == PL_CAUSE_LEADER);
    CHECK(lead(&members[1], 6, -1) == PL_POISONED);
    CHECK(pl_topology_holder(pl_shared_topology(shared)) == 0 && published() == 0);
    tear_down(members, 3);
}

static void test_running_group_dies_before_it_arrives(void) {
    struct member members[2];
    set_up_with(members, 2);
    pl_safepoint_run(pl_group_safepoint(members[1].group));
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(sleepers() == 1);
    pl_safepoint_die(pl_group_safepoint(members[1].group));
    thread_join(leader);
    CHECK(members[0].result == PL_ACQUIRED && lead(&members[0], 6, -1) == PL_ACQUIRED);
    tear_down(members, 2);
}

static int die_here(struct member *self) {
    if (!atomic_load(&self->is_free)) {
        return 0;
    }
    pl_safepoint_die(pl_group_safepoint(self->group));
    pthread_exit(NULL);
}

static void test_follower_dies_at_the_barrier(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[1].on_check = die_here;
    pthread_t follower = start_guest(&members[1]);
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1);
    /* it has arrived, and is to be waited for */
    CHECK(pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED);
    atomic_store(&members[1].is_free, 1);
    thread_join(follower);
    append(5);
    CHECK(pl_lead_publish(members[0].group) == 1);
    CHECK(pl_lead_finish(members[0].group) == PL_ACQUIRED);
    CHECK(pl_group_applied(members[1].group) == 0 && lead(&members[0], 6, -1) == PL_ACQUIRED);
    tear_down(members, 2);
}

static int die_while_replaying(struct member *self) {
    pl_safepoint_die(pl_group_safepoint(self->group));
    pl_rwlock_release_read(the_lock());
    pthread_exit(NULL);
}

static int vanish_while_replaying(struct member *self) {
    (void)self;
    pl_rwlock_release_read(the_lock());
    pthread_exit(NULL);
}

static void test_group_that_was_waited_for_and_owes_its_answer_keeps_the_bus_full(void) {
    struct member members[2];
    set_up_with(members, 2);
    /* a bug of its thread: it does not say that it is dead */
    members[1].on_replay = vanish_while_replaying;
    pthread_t follower = start_guest(&members[1]);
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    thread_join(follower);
    /* or the leader waits for ever */
    CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED) == 1);
    thread_join(leader);
    CHECK(members[0].result == PL_CANCELLED);
    uintptr_t late;
    pl_safepoint_park(pl_group_safepoint(members[1].group));
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 2 &&
          pl_lead_meet(members[0].group, 0, &late) == PL_ACQUIRED);
    CHECK(pl_lead_publish(members[0].group) == 0 && published() == 1);
    tear_down(members, 2);
}

/* It never acknowledges a message of the bus of operations. */
static void let_one_die_in_debt(struct member *leader, struct member *debtor) {
    debtor->on_replay = die_while_replaying;
    pthread_t follower = start_guest(debtor);
    CHECK(lead(leader, 5, -1) == PL_ACQUIRED);
    thread_join(follower);
    CHECK(pl_group_applied(debtor->group) == 0 && pl_rwlock_readers(the_lock()) == 0);
}

static void test_follower_dies_while_it_replays(void) {
    struct member members[2];
    set_up_with(members, 2);
    let_one_die_in_debt(&members[0], &members[1]);
    CHECK(lead(&members[0], 6, -1) == PL_ACQUIRED);
    CHECK(lead(&members[0], 7, -1) == PL_ACQUIRED);
    tear_down(members, 2);
}

static void test_operation_is_withdrawn_after_a_death_in_debt(void) {
    struct member members[3];
    set_up_with(members, 3);
    let_one_die_in_debt(&members[0], &members[1]);
    CHECK(pl_follow(members[2].group) == PL_ACQUIRED);
    pl_safepoint_run(pl_group_safepoint(members[2].group));
    CHECK(lead(&members[0], 6, 0) == PL_TIMEOUT && cause() == 0);
    CHECK(pl_group_safepoint_poll(members[2].group) == PL_ACQUIRED);
    tear_down(members, 3);
}

static int fail_when_free(struct member *self) {
    AWAIT(atomic_load(&self->is_free));
    return 7;
}

static void test_failed_replay_cancels_everybody(void) {
    struct member members[4];
    set_up_with(members, 4);
    members[1].on_replay = fail_when_free;
    members[2].on_replay = wait_until_free;
    pthread_t guests[] = {start_guest(&members[1]), start_guest(&members[2]),
                          start_guest(&members[3])};
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(members[1].replays == 1 && members[2].replays == 1);
    atomic_store(&members[1].is_free, 1);
    thread_join(leader); /* though another is still replaying */
    CHECK(members[0].result == PL_CANCELLED && cause() == PL_CAUSE_REPLAY &&
          atomic_load(&returned) == 0);
    atomic_store(&members[2].is_free, 1);
    for (int i = 0; i < 3; i++) {
        thread_join(guests[i]);
        CHECK(members[1 + i].result == PL_CANCELLED);
    }
    CHECK(pl_group_applied(members[1].group) == 0 && pl_group_applied(members[2].group) == 1);
    CHECK(pl_rwlock_readers(the_lock()) == 0 &&
          pl_topology_holder(pl_shared_topology(shared)) == 0);
    tear_down(members, 4);
}

static void *guest_that_dies_of_a_failure(void *argument) {
    struct member *self = argument;
    guest(self);
    pl_safepoint_die(pl_group_safepoint(self->group));
    return NULL;
}

static void test_failed_replay_is_not_hidden_by_the_death_of_its_group(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[1].on_replay = fail;
    pthread_t follower = thread_start(guest_that_dies_of_a_failure, &members[1]);
    AWAIT(atomic_load(&members[1].is_in));
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1 &&
          pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED);
    append(5);
    CHECK(pl_lead_publish(members[0].group) == 1);
    thread_join(follower);
    CHECK(members[1].result == PL_CANCELLED && state_of(&members[1]) == PL_DEAD);
    /* not every group that arrived has replayed */
    CHECK(pl_lead_finish(members[0].group) == PL_CANCELLED);
    CHECK(pl_rwlock_readers(the_lock()) == 0);
    tear_down(members, 2);
}

/* Every place where a thread waits, and the two things that end a wait before its time:
 * cancellation from outside, and a `check`. */

static int ends_by_check;

static int stop_when_told(struct member *self) { return atomic_load(&self->stop); }

static void end_wait(struct member *waiting) {
    if (ends_by_check) { /* what it waits for does not come: it gives up after a second */
        atomic_store(&waiting->stop, 1);
        AWAIT(cause() != 0);
        CHECK(cause() == PL_CAUSE_INTERRUPTED);
    } else {
        CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED) == 1);
    }
}

static void end_leader_that_meets(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[0].on_check = stop_when_told;
    pl_safepoint_run(pl_group_safepoint(members[1].group));
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(sleepers() == 1);
    if (ends_by_check) { /* it withdraws, and the linker goes on */
        atomic_store(&members[0].stop, 1);
        thread_join(leader);
        CHECK(members[0].result == PL_SIGNALLED && published() == 1 && cause() == 0);
    } else {
        end_wait(&members[0]);
        thread_join(leader);
        CHECK(members[0].result == PL_CANCELLED && published() == 0);
    }
    tear_down(members, 2);
}

/* The leader waits for the second of `members`, which waits in its replay. */
static pthread_t start_leader_that_finishes(struct member members[2], pthread_t *follower) {
    set_up_with(members, 2);
    members[0].on_check = stop_when_told;
    members[1].on_replay = wait_until_free;
    *follower = start_guest(&members[1]);
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(pl_rwlock_readers(the_lock()) == 2 && sleepers() == 1);
    return leader;
}

static void end_leader_that_finishes(void) {
    struct member members[2];
    pthread_t follower, leader = start_leader_that_finishes(members, &follower);
    end_wait(&members[0]);
    thread_join(leader);
    CHECK(members[0].result == PL_CANCELLED && pl_rwlock_readers(the_lock()) == 1);
    atomic_store(&members[1].is_free, 1);
    thread_join(follower);
    CHECK(members[1].result == PL_CANCELLED && pl_rwlock_readers(the_lock()) == 0);
    tear_down(members, 2);
}

static void end_followers_at_the_barrier(void) {
    struct member members[3];
    set_up_with(members, 3);
    members[1].on_check = stop_when_told;
    pthread_t followers[] = {start_guest(&members[1]), start_guest(&members[2])};
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1);
    AWAIT(pl_group_arrived(members[1].group) == 1 && pl_group_arrived(members[2].group) == 1 &&
          sleepers() == 2);
    end_wait(&members[1]);
    thread_join(followers[0]);
    thread_join(followers[1]);
    CHECK(members[1].result == PL_CANCELLED && members[2].result == PL_CANCELLED);
    tear_down(members, 3);
}

static void end_followers_that_wait_for_the_lock(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[1].on_check = stop_when_told;
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    pthread_t follower = thread_start(guest, &members[1]);
    AWAIT(atomic_load(&members[1].checks) != 0);
    end_wait(&members[1]);
    thread_join(follower);
    CHECK(members[1].result == PL_CANCELLED && members[1].replays == 0);
    tear_down(members, 2);
}

static void test_cancellation_from_outside_ends_every_wait(void) {
    ends_by_check = 0;
    end_leader_that_meets();
    end_leader_that_finishes();
    end_followers_at_the_barrier();
    end_followers_that_wait_for_the_lock();
}

/* The others count on it: it waits until the operation is done. */
static void test_who_is_told_to_stop_in_a_rendezvous_takes_part_in_it(void) {
    struct member members[2];
    pthread_t follower, leader = start_leader_that_finishes(members, &follower);
    int checks = atomic_load(&members[0].checks);
    atomic_store(&members[0].stop, 1);
    AWAIT(atomic_load(&members[0].checks) > checks + 1);
    atomic_store(&members[1].is_free, 1);
    thread_join(leader);
    stop_guest(&members[1], follower);
    CHECK(members[0].result == PL_SIGNALLED && cause() == 0);
    tear_down(members, 2);
}

static void test_check_ends_every_wait(void) {
    ends_by_check = 1;
    end_leader_that_meets();
    end_leader_that_finishes();
    end_followers_at_the_barrier();
    end_followers_that_wait_for_the_lock();
}

static void *write_blindly(void *argument) {
    struct member *self = argument;
    self->result = pl_rwlock_write(the_lock(), pl_shared_cancel(shared), -1);
    return NULL;
}

static void test_cancellation_from_outside_ends_the_wait_for_token_and_lock(void) {
    struct member members[3];
    set_up_with(members, 3);
    uint64_t token;
    CHECK(take_both(&members[0], &token) == PL_ACQUIRED);
    pthread_t for_token = thread_start(lead_in_thread, &members[1]);
    pthread_t for_lock = thread_start(write_blindly, &members[2]);
    AWAIT(sleepers() == 1);
    CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED) == 1);
    thread_join(for_token);
    thread_join(for_lock);
    CHECK(members[1].result == PL_CANCELLED && members[2].result == PL_CANCELLED);
    release_token(token);
    tear_down(members, 3);
}

static void test_check_is_called_however_often_others_notify(void) {
    struct member members[2];
    set_up_with(members, 2);
    pthread_t follower = start_guest(&members[1]);
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1 &&
          pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED);
    AWAIT((pl_event_notify(pl_shared_barrier_event(shared)), atomic_load(&members[1].checks) != 0));
    append(5);
    CHECK(pl_lead_publish(members[0].group) == 1 &&
          pl_lead_finish(members[0].group) == PL_ACQUIRED);
    stop_guest(&members[1], follower);
    tear_down(members, 2);
}

static void test_check_is_called_though_each_group_comes_soon(void) {
    enum { GROUPS = 12 };
    struct member members[1 + GROUPS];
    set_up_with(members, 1 + GROUPS);
    for (int i = 1; i <= GROUPS; i++) {
        pl_safepoint_run(pl_group_safepoint(members[i].group));
    }
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(sleepers() == 1);
    int64_t start = pl_now();
    /* the newest is waited for first; none of them for a whole slice */
    for (int i = GROUPS; i > 0; i--) {
        int64_t moment = start + (1 + GROUPS - i) * (PL_SLICE / 10 * 8);
        AWAIT(pl_now() >= moment);
        pl_safepoint_park(pl_group_safepoint(members[i].group));
    }
    thread_join(leader);
    CHECK(members[0].result == PL_ACQUIRED);
    CHECK(atomic_load(&members[0].checks) > 0); /* it waited for more than nine slices */
    tear_down(members, 1 + GROUPS);
}

static void test_group_needs_no_check(void) {
    set_up();
    struct member one = {.result = -1}, other = {.result = -1};
    join_program(&one);
    other.group = pl_group_new(shared, (uintptr_t)&other, replay, NULL);
    pl_safepoint_run(pl_group_safepoint(one.group));
    uintptr_t late = 0;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED && pl_lead_open(other.group) == 1);
    CHECK(pl_lead_meet(other.group, 2 * PL_SLICE, &late) == PL_TIMEOUT && late == (uintptr_t)&one);
    CHECK(cause() == 0);
    pl_group_free(other.group);
    tear_down(&one, 1);
}

int main(void) {
    check_begin(0);
    RUN(test_leader_dies_after_it_opened_the_barrier);
    RUN(test_running_group_dies_before_it_arrives);
    RUN(test_follower_dies_at_the_barrier);
    RUN(test_group_that_was_waited_for_and_owes_its_answer_keeps_the_bus_full);
    RUN(test_follower_dies_while_it_replays);
    RUN(test_operation_is_withdrawn_after_a_death_in_debt);
    RUN(test_failed_replay_cancels_everybody);
    RUN(test_failed_replay_is_not_hidden_by_the_death_of_its_group);
    RUN(test_cancellation_from_outside_ends_every_wait);
    RUN(test_who_is_told_to_stop_in_a_rendezvous_takes_part_in_it);
    RUN(test_check_ends_every_wait);
    RUN(test_cancellation_from_outside_ends_the_wait_for_token_and_lock);
    RUN(test_check_is_called_however_often_others_notify);
    RUN(test_check_is_called_though_each_group_comes_soon);
    RUN(test_group_needs_no_check);
    return 0;
}
