/* rendezvous: the contract of each call, each interleaving of two groups, and the groups that a
 * leader waits for. */
#include "program.h"
#include "made.h"

/* One thread: what the header says of each call. The test's thread plays every group, which is
 * fine while none blocks. */

static void test_new_linker_has_nothing_pending(void) {
    set_up();
    CHECK(cause() == 0 && published() == 0 && pl_bus_sent(pl_shared_barriers(shared)) == 0);
    CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0);
    CHECK(pl_rwlock_readers(the_lock()) == 0 &&
          pl_topology_holder(pl_shared_topology(shared)) == 0);
    CHECK(pl_group_count(shared) == 0 && pl_shared_applied_by_all(shared) == 0);
    tear_down(NULL, 0);
    pl_shared_free(NULL);
}

static void test_new_group_is_parked_and_has_everything(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(pl_group_count(shared) == 2 && pl_group_shared(members[0].group) == shared);
    CHECK(lead(&members[0], 5, 0) == PL_ACQUIRED);
    struct member late = {.result = -1};
    join_program(&late);
    CHECK(pl_group_count(shared) == 3);
    CHECK(pl_group_handle(late.group) == (uintptr_t)&late && state_of(&late) == PL_PARKED);
    CHECK(pl_group_applied(late.group) == 1 && pl_group_arrived(late.group) == 1);
    CHECK(!pl_group_is_behind(late.group) && pl_follow(late.group) == PL_ACQUIRED &&
          late.replays == 0);
    pl_group_free(late.group);
    tear_down(members, 2);
}

static void test_leader_goes_through_its_steps(void) {
    struct member one;
    set_up_with(&one, 1);
    for (uint64_t number = 1; number <= 3; number++) {
        uintptr_t late;
        CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
        CHECK(pl_lead_open(one.group) == number);
        CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 1 && published() == number - 1);
        CHECK(pl_group_arrived(one.group) == number);
        CHECK(pl_lead_meet(one.group, -1, &late) == PL_ACQUIRED);
        append(number);
        CHECK(pl_lead_publish(one.group) == number);
        CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0 && published() == number);
        CHECK(pl_rwlock_readers(the_lock()) == 1);
        CHECK(pl_lead_finish(one.group) == PL_ACQUIRED);
        CHECK(pl_rwlock_readers(the_lock()) == 0);
        /* it has carried it out already */
        CHECK(pl_group_applied(one.group) == number && one.replays == 0);
    }
    CHECK(pl_group_safepoint_poll(one.group) == PL_ACQUIRED && one.replays == 0);
    tear_down(&one, 1);
}

static void release_both(uint64_t token) {
    pl_rwlock_release_write(the_lock());
    CHECK(pl_topology_release(pl_shared_topology(shared), token) == 0);
}

static void test_token_and_lock_at_once_or_not_at_all(void) {
    struct member members[2];
    set_up_with(members, 2);
    pl_group *self = members[0].group;
    pl_topology *topology = pl_shared_topology(shared);
    uint64_t token = pl_group_try_exclusive(self);
    CHECK(token != 0 && pl_topology_holder(topology) == token &&
          pl_rwlock_readers(the_lock()) == -1);
    CHECK(pl_group_try_exclusive(members[1].group) == 0); /* the token is out */
    CHECK(pl_topology_holder(topology) == token && pl_rwlock_readers(the_lock()) == -1);
    release_both(token);
    /* the lock is taken: the token comes back */
    CHECK(pl_rwlock_try_read(the_lock()) == PL_ACQUIRED);
    CHECK(pl_group_try_exclusive(self) == 0 && pl_topology_holder(topology) == 0 &&
          pl_rwlock_readers(the_lock()) == 1);
    pl_rwlock_release_read(the_lock());
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED); /* the other is parked, and behind */
    CHECK(pl_group_try_exclusive(members[1].group) == 0 && pl_topology_holder(topology) == 0 &&
          pl_rwlock_readers(the_lock()) == 0);
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED);
    token = pl_group_try_exclusive(members[1].group);
    CHECK(token != 0);
    release_both(token);
    CHECK(pl_topology_holder(topology) == 0 && pl_rwlock_readers(the_lock()) == 0);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(pl_group_try_exclusive(self) == 0 && pl_topology_holder(topology) == 0 &&
          pl_rwlock_readers(the_lock()) == 0);
    tear_down(members, 2);
}

/* At every moment of what `pair[0]` does: the lock is not held for writing by anyone who has not
 * the token. */

static int token_was_out, lock_was_held;

static void look_at_token_and_lock(void) {
    token_was_out = pl_topology_holder(pl_shared_topology(shared)) != 0;
    lock_was_held = pl_rwlock_readers(the_lock()) == -1;
}

static struct member orderly[2];

static void test_the_token_is_taken_before_the_lock_and_given_back_after_it(void) {
    for (int behind = 0; behind < 2; behind++) {
        int seen = 0; /* the lock was held */
        for (unsigned steps = 0, is_over = 0; !is_over; steps++) {
            set_up_with(orderly, 2);
            if (behind) { /* then it takes both and gives both back itself */
                CHECK(lead(&orderly[1], 5, -1) == PL_ACQUIRED);
            }
            inject_between(steps, look_at_token_and_lock);
            uint64_t token = pl_group_try_exclusive(orderly[0].group);
            CHECK((token == 0) == behind);
            if (token != 0) {
                release_both(token);
            }
            is_over = inject_is_over();
            CHECK(is_over || !lock_was_held || token_was_out);
            seen |= !is_over && lock_was_held;
            tear_down(orderly, 2);
        }
        CHECK(seen);
    }
}

static void test_an_attempt_for_both_ends_after_a_few_steps(void) {
    struct member one;
    unsigned steps;
    uint64_t token;
    set_up_with(&one, 1);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    INJECT_STEPS(steps, token = pl_group_try_exclusive(one.group));
    CHECK(token == 0 && steps < 20);
    pl_rwlock_release_write(the_lock());
    CHECK((token = pl_topology_try_acquire(pl_shared_topology(shared))) != 0);
    uint64_t other;
    INJECT_STEPS(steps, other = pl_group_try_exclusive(one.group));
    CHECK(other == 0 && steps < 20);
    release_token(token);
    tear_down(&one, 1);
}

static void test_alone(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(!pl_shared_is_alone(shared));
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    pl_group_free(members[1].group);
    CHECK(pl_shared_is_alone(shared));
    pl_rwlock_release_write(the_lock());
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(!pl_shared_is_alone(shared));
    tear_down(members, 1);
}

static void test_parked_group_holds_nobody_up_and_replays_before_it_runs(void) {
    struct member members[2];
    set_up_with(members, 2);
    struct member *leader = &members[0], *parked = &members[1];
    for (uint64_t number = 1; number <= 3; number++) {
        CHECK(lead(leader, 4 + number, -1) == PL_ACQUIRED);
    }
    CHECK(pl_group_is_behind(parked->group) && parked->replays == 0);
    pl_safepoint_run(pl_group_safepoint(parked->group));
    CHECK(pl_group_safepoint_poll(parked->group) == PL_ACQUIRED);
    CHECK(parked->replays == 1 && parked->from == 1 && parked->to == 3);
    CHECK(pl_group_applied(parked->group) == 3 && parked->digest == leader->digest);
    CHECK(!pl_group_is_behind(parked->group) && pl_rwlock_readers(the_lock()) == 0);
    tear_down(members, 2);
}

static void test_leader_catches_up_first(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED && lead(&members[0], 6, -1) == PL_ACQUIRED);
    CHECK(lead(&members[1], 7, -1) == PL_ACQUIRED); /* take_both calls pl_group_catch_up */
    CHECK(members[1].replays == 1 && members[1].from == 1 && members[1].to == 2);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_group_catch_up(members[0].group) == 0 && members[0].from == 3);
    CHECK(pl_group_catch_up(members[0].group) == 0 && members[0].replays == 1);
    pl_rwlock_release_write(the_lock());
    CHECK(members[0].digest == members[1].digest);
    tear_down(members, 2);
}

static void test_leader_that_cannot_catch_up_cancels(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    members[1].on_replay = fail;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_group_catch_up(members[1].group) != 0);
    CHECK(cause() == PL_CAUSE_REPLAY && pl_group_applied(members[1].group) == 0);
    CHECK(pl_rwlock_readers(the_lock()) == -1);
    tear_down(members, 2);
}

static void test_leader_that_is_behind_is_refused(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[1].group) == 0); /* its own operation would hide the one it missed */
    CHECK(cause() == PL_CAUSE_BUS && pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0);
    tear_down(members, 2);
}

static void test_second_barrier_while_one_is_up_is_refused(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1);
    CHECK(pl_lead_open(members[1].group) == 0);
    CHECK(cause() == PL_CAUSE_BUS);
    CHECK(pl_follow(members[1].group) == PL_CANCELLED);
    tear_down(members, 2);
}

static void test_full_bus_is_fatal(void) {
    struct member one;
    set_up_with(&one, 1);
    pl_receiver *mute = subscribe(pl_shared_operations(shared));
    pl_receiver_expect(mute);
    CHECK(lead(&one, 5, -1) == PL_ACQUIRED);
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(one.group) == 2 && pl_lead_meet(one.group, -1, &late) == PL_ACQUIRED);
    CHECK(pl_lead_publish(one.group) == 0);
    CHECK(cause() == PL_CAUSE_BUS && published() == 1);
    CHECK(pl_lead_withdraw(one.group) == 0 && published() == 1);
    CHECK(pl_rwlock_readers(the_lock()) == -1); /* nothing was published: no reader may enter */
    unsubscribe(pl_shared_operations(shared), mute);
    tear_down(&one, 1);
}

static void test_log_may_forget_what_every_living_group_has(void) {
    struct member members[3];
    set_up_with(members, 3);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED);
    CHECK(lead(&members[0], 6, -1) == PL_ACQUIRED);
    CHECK(pl_shared_applied_by_all(shared) == 0);
    pl_safepoint_die(pl_group_safepoint(members[2].group));
    CHECK(pl_shared_applied_by_all(shared) == 1);
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED);
    CHECK(pl_shared_applied_by_all(shared) == 2);
    CHECK(pl_group_count(shared) == 3); /* the dead one included */
    tear_down(members, 3);
}

static void test_dead_group_is_never_behind_and_never_runs(void) {
    struct member members[2];
    set_up_with(members, 2);
    struct member *leader = &members[0], *dead = &members[1];
    CHECK(lead(leader, 5, -1) == PL_ACQUIRED);
    pl_safepoint_die(pl_group_safepoint(dead->group));
    CHECK(lead(leader, 6, -1) == PL_ACQUIRED); /* the log forgets what the dead one missed */
    CHECK(!pl_group_is_behind(dead->group) && pl_follow(dead->group) == PL_ACQUIRED);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_group_catch_up(dead->group) == 0);
    pl_rwlock_release_write(the_lock());
    CHECK(dead->replays == 0 && cause() == 0);
    CHECK(pl_group_safepoint_poll(dead->group) == PL_CANCELLED);
    tear_down(members, 2);
}

static int run_guest_while_replaying(struct member *self) {
    pl_safepoint *safepoint = pl_group_safepoint(self->group);
    int before = pl_safepoint_run(safepoint);
    CHECK(pl_group_is_behind(self->group));
    CHECK(pl_group_safepoint_poll(self->group) == PL_ACQUIRED);
    pl_safepoint_restore(safepoint, before);
    return 0;
}

static void test_replay_may_execute_guest_code(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[1].on_replay = run_guest_while_replaying;
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED && members[1].replays == 1);
    CHECK(!pl_group_is_behind(members[1].group));
    tear_down(members, 2);
}

static void test_cancelled_linker_lets_nobody_in(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(pl_group_safepoint_poll(members[0].group) == PL_CANCELLED); /* it is not behind */
    CHECK(pl_group_safepoint_poll(members[1].group) == PL_CANCELLED && members[1].replays == 0);
    CHECK(pl_follow(members[0].group) == PL_CANCELLED &&
          pl_follow(members[1].group) == PL_CANCELLED);
    tear_down(members, 2);
}

static void test_lack_of_memory_is_told_and_leaves_nothing_behind(void) {
    for (long left = 0;; left++) {
        atomic_store(&inject_memory, left);
        pl_shared *made = pl_shared_new();
        atomic_store(&inject_memory, -1);
        pl_shared_free(made);
        if (made != NULL) {
            CHECK(left == 1);
            break;
        }
    }
    set_up();
    for (long left = 0;; left++) {
        atomic_store(&inject_memory, left);
        pl_group *made = pl_group_new(shared, 1, replay, check);
        atomic_store(&inject_memory, -1);
        if (made != NULL) {
            CHECK(left == 1);
            pl_group_free(made);
            break;
        }
        CHECK(pl_group_count(shared) == 0 && pl_bus_receivers(pl_shared_operations(shared)) == 0);
    }
    tear_down(NULL, 0);
}

/* One thread, two roles: all that a leader does between any two steps of a group that comes
 * back, and the reverse. */

static struct member pair[2];
static int came_back; /* the group executes guest code without having followed */

static void come_back(void) {
    pl_safepoint_run(pl_group_safepoint(pair[1].group));
    came_back = !pl_group_is_behind(pair[1].group);
}

static void lead_in_between(void) {
    int result = lead(&pair[0], 5, 0);
    /* late, if it is running: it would have been waited for */
    CHECK(result == PL_ACQUIRED || result == PL_TIMEOUT);
}

static void check_that_nobody_runs_stale(void) {
    CHECK(state_of(&pair[1]) == PL_RUNNING);
    CHECK(!came_back || pl_group_applied(pair[1].group) >= atomic_load(&returned));
}

static void test_leader_may_come_at_any_moment_of_coming_back(void) {
    unsigned steps = 0;
    for (int is_over = 0; !is_over; steps++) {
        set_up_with(pair, 2);
        inject_between(steps, lead_in_between);
        come_back();
        is_over = inject_is_over();
        check_that_nobody_runs_stale();
        tear_down(pair, 2);
    }
    CHECK(steps > 3); /* the state, the flag, what is applied, what is published */
}

static void test_group_may_come_back_at_any_moment_of_leading(void) {
    unsigned steps = 0;
    for (int is_over = 0; !is_over; steps++) {
        set_up_with(pair, 2);
        came_back = 0;
        inject_between(steps, come_back);
        lead_in_between();
        is_over = inject_is_over();
        if (!is_over) {
            check_that_nobody_runs_stale();
        }
        tear_down(pair, 2);
    }
    CHECK(steps > 15);
}

static void publish_and_finish(void) {
    append(5);
    CHECK(pl_lead_publish(pair[0].group) == 1);
    CHECK(pl_lead_finish(pair[0].group) == PL_ACQUIRED);
    atomic_store(&returned, 1);
}

static void test_leader_that_has_met_may_publish_at_any_moment_of_coming_back(void) {
    unsigned steps = 0;
    for (int is_over = 0; !is_over; steps++) {
        uintptr_t late;
        set_up_with(pair, 2);
        CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
        CHECK(pl_lead_open(pair[0].group) == 1 &&
              pl_lead_meet(pair[0].group, 0, &late) == PL_ACQUIRED);
        inject_between(steps, publish_and_finish);
        come_back();
        is_over = inject_is_over();
        check_that_nobody_runs_stale();
        tear_down(pair, 2);
    }
    CHECK(steps > 3);
}

static void try_to_write(void) { CHECK(pl_rwlock_try_write(the_lock()) == PL_BUSY); }

static void test_no_writer_comes_between_a_publication_and_its_end(void) {
    unsigned steps = 0;
    for (int is_over = 0; !is_over; steps++) {
        uintptr_t late;
        set_up_with(pair, 1);
        CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
        CHECK(pl_lead_open(pair[0].group) == 1 &&
              pl_lead_meet(pair[0].group, 0, &late) == PL_ACQUIRED);
        inject_between(steps, try_to_write);
        append(5);
        CHECK(pl_lead_publish(pair[0].group) == 1);
        is_over = inject_is_over();
        try_to_write();
        CHECK(pl_lead_finish(pair[0].group) == PL_ACQUIRED);
        tear_down(pair, 1);
    }
    CHECK(steps > 3);
}

/* Threads. */

static void test_leader_returns_after_every_running_group_has_replayed(void) {
    struct member members[3];
    set_up_with(members, 3);
    members[1].on_replay = wait_until_free;
    pthread_t guests[] = {start_guest(&members[1]), start_guest(&members[2])};
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    /* one replays, and the leader waits for it */
    AWAIT(pl_rwlock_readers(the_lock()) == 2 && sleepers() == 1);
    CHECK(atomic_load(&returned) == 0 && published() == 1);
    atomic_store(&members[1].is_free, 1);
    thread_join(leader);
    CHECK(members[0].result == PL_ACQUIRED);
    CHECK(pl_group_applied(members[1].group) == 1 && pl_group_applied(members[2].group) == 1);
    stop_guest(&members[1], guests[0]);
    stop_guest(&members[2], guests[1]);
    tear_down(members, 3);
}

static void test_nobody_waits_for_long_for_one_that_replays_for_long(void) {
    /* more than there are processors on most machines: followers that have replayed let others run
     * first */
    enum { OVERSUBSCRIPTION_LIMIT = 6 };
    struct member members[OVERSUBSCRIPTION_LIMIT];
    pthread_t guests[OVERSUBSCRIPTION_LIMIT];
    set_up_with(members, OVERSUBSCRIPTION_LIMIT);
    members[1].on_replay = wait_until_free;
    for (int i = 1; i < OVERSUBSCRIPTION_LIMIT; i++) {
        guests[i] = start_guest(&members[i]);
    }
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    for (int i = 2; i < OVERSUBSCRIPTION_LIMIT; i++) {
        AWAIT(pl_group_applied(members[i].group) == 1);
        atomic_store(&members[i].is_in, 0);
        AWAIT(atomic_load(&members[i].is_in));
    }
    CHECK(atomic_load(&returned) == 0 && pl_group_applied(members[1].group) == 0);
    atomic_store(&members[1].is_free, 1);
    thread_join(leader);
    CHECK(members[0].result == PL_ACQUIRED);
    for (int i = 1; i < OVERSUBSCRIPTION_LIMIT; i++) {
        CHECK(pl_group_applied(members[i].group) == 1);
        stop_guest(&members[i], guests[i]);
    }
    tear_down(members, OVERSUBSCRIPTION_LIMIT);
}

static void test_group_that_comes_back_during_a_rendezvous_waits_and_is_not_waited_for(void) {
    struct member members[2];
    set_up_with(members, 2);
    struct member *leader = &members[0], *back = &members[1];
    back->on_replay = wait_until_free;
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(leader->group) == 1 &&
          pl_lead_meet(leader->group, -1, &late) == PL_ACQUIRED);
    pthread_t thread = thread_start(guest, back);
    AWAIT(pl_group_arrived(back->group) == 1 && sleepers() == 1);
    CHECK(!atomic_load(&back->is_in));
    append(5);
    CHECK(pl_lead_publish(leader->group) == 1);
    /* its replay is not over, and it cannot run before */
    CHECK(pl_lead_finish(leader->group) == PL_ACQUIRED);
    CHECK(!atomic_load(&back->is_in));
    atomic_store(&back->is_free, 1);
    AWAIT(atomic_load(&back->is_in));
    stop_guest(back, thread);
    tear_down(members, 2);
}

static void test_follower_that_waits_for_the_lock_comes_to_the_next_barrier(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    /* the next leader, before its barrier is up */
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    pthread_t thread = thread_start(guest, &members[1]);
    AWAIT(atomic_load(&members[1].checks) != 0); /* it waits for the lock, to replay operation 1 */
    CHECK(pl_group_arrived(members[1].group) == 0);
    CHECK(rendezvous(&members[0], 6, -1) == PL_ACQUIRED); /* and the leader waits for it */
    CHECK(pl_group_applied(members[1].group) == 2);
    AWAIT(atomic_load(&members[1].is_in));
    stop_guest(&members[1], thread);
    tear_down(members, 2);
}

static void test_late_group_is_named_and_the_others_go_on(void) {
    struct member members[3];
    set_up_with(members, 3);
    struct member *leader = &members[0], *computing = &members[1], *polling = &members[2];
    pl_safepoint_run(pl_group_safepoint(computing->group));
    pthread_t thread = start_guest(polling);
    uintptr_t late = 0;
    int64_t deadline = pl_deadline(MILLISECOND);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(leader->group) == 1);
    AWAIT(pl_group_arrived(polling->group) == 1);
    CHECK(pl_lead_meet(leader->group, MILLISECOND, &late) == PL_TIMEOUT);
    CHECK(pl_now() >= deadline && late == (uintptr_t)computing);
    append(NOTHING);
    CHECK(pl_lead_withdraw(leader->group) == 1);
    CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0 && published() == 1);
    CHECK(pl_rwlock_readers(the_lock()) == -1 && pl_group_applied(leader->group) == 1);
    pl_rwlock_release_write(the_lock());
    AWAIT(pl_group_applied(polling->group) == 1);
    CHECK(pl_group_safepoint_poll(computing->group) == PL_ACQUIRED && computing->to == 1);
    pl_safepoint_park(pl_group_safepoint(computing->group));
    CHECK(lead(leader, 6, -1) == PL_ACQUIRED); /* as if nothing had been */
    CHECK(pl_group_applied(polling->group) == 2);
    stop_guest(polling, thread);
    tear_down(members, 3);
}

static uint32_t count_of_event(void) {
    return pl_event_prepare(pl_shared_event(shared)) +
           pl_event_prepare(pl_shared_barrier_event(shared)) +
           pl_event_prepare(pl_waiter_event(pl_shared_waiter(shared)));
}

static void test_each_step_that_is_waited_for_notifies(void) {
    /* A wait looks again after a slice in any case; this is about not having to wait for that. */
    struct member members[2];
    set_up_with(members, 2);
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    uint32_t key = count_of_event();
    CHECK(pl_lead_open(members[0].group) == 1);
    CHECK(count_of_event() != key);
    key = count_of_event();
    pl_waiter_begin(pl_shared_waiter(shared), pl_group_safepoint(members[1].group));
    pthread_t follower = thread_start(guest, &members[1]);
    AWAIT(pl_group_arrived(members[1].group) == 1 && sleepers() == 1);
    CHECK(count_of_event() != key);
    CHECK(pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED);
    key = count_of_event();
    append(NOTHING);
    CHECK(pl_lead_withdraw(members[0].group) == 1);
    CHECK(count_of_event() != key);
    pl_rwlock_release_write(the_lock());
    AWAIT(atomic_load(&members[1].is_in));
    stop_guest(&members[1], follower);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 2 &&
          pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED);
    append(5);
    /* where followers sleep; the lock's event moves in any case */
    key = pl_event_prepare(pl_shared_barrier_event(shared));
    CHECK(pl_lead_publish(members[0].group) == 2);
    CHECK(pl_event_prepare(pl_shared_barrier_event(shared)) != key);
    CHECK(pl_lead_finish(members[0].group) == PL_ACQUIRED);
    /* the leader has one, so that releasing another is no news */
    CHECK(pl_rwlock_try_read(the_lock()) == PL_ACQUIRED);
    key = count_of_event();
    pl_waiter_begin(pl_shared_waiter(shared), pl_group_safepoint(members[1].group));
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED);
    CHECK(count_of_event() != key);
    pl_rwlock_release_read(the_lock());
    tear_down(members, 2);
}

static void test_cancelling_moves_every_event(void) {
    set_up();
    pl_event *events[] = {pl_shared_event(shared), pl_shared_barrier_event(shared),
                          pl_shared_sleepers(shared), pl_waiter_event(pl_shared_waiter(shared))};
    uint32_t keys[4];
    for (int i = 0; i < 4; i++) {
        keys[i] = pl_event_prepare(events[i]);
    }
    CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED));
    for (int i = 0; i < 4; i++) {
        CHECK(pl_event_prepare(events[i]) != keys[i]);
    }
    tear_down(NULL, 0);
}

int main(void) {
    check_begin(0);
    RUN(test_new_linker_has_nothing_pending);
    RUN(test_new_group_is_parked_and_has_everything);
    RUN(test_leader_goes_through_its_steps);
    RUN(test_token_and_lock_at_once_or_not_at_all);
    RUN(test_the_token_is_taken_before_the_lock_and_given_back_after_it);
    RUN(test_an_attempt_for_both_ends_after_a_few_steps);
    RUN(test_alone);
    RUN(test_parked_group_holds_nobody_up_and_replays_before_it_runs);
    RUN(test_leader_catches_up_first);
    RUN(test_leader_that_cannot_catch_up_cancels);
    RUN(test_leader_that_is_behind_is_refused);
    RUN(test_second_barrier_while_one_is_up_is_refused);
    RUN(test_full_bus_is_fatal);
    RUN(test_log_may_forget_what_every_living_group_has);
    RUN(test_dead_group_is_never_behind_and_never_runs);
    RUN(test_replay_may_execute_guest_code);
    RUN(test_cancelled_linker_lets_nobody_in);
    RUN(test_lack_of_memory_is_told_and_leaves_nothing_behind);
    RUN(test_leader_may_come_at_any_moment_of_coming_back);
    RUN(test_group_may_come_back_at_any_moment_of_leading);
    RUN(test_leader_that_has_met_may_publish_at_any_moment_of_coming_back);
    RUN(test_no_writer_comes_between_a_publication_and_its_end);
    RUN(test_leader_returns_after_every_running_group_has_replayed);
    RUN(test_nobody_waits_for_long_for_one_that_replays_for_long);
    RUN(test_group_that_comes_back_during_a_rendezvous_waits_and_is_not_waited_for);
    RUN(test_follower_that_waits_for_the_lock_comes_to_the_next_barrier);
    RUN(test_late_group_is_named_and_the_others_go_on);
    RUN(test_each_step_that_is_waited_for_notifies);
    RUN(test_cancelling_moves_every_event);
    return 0;
}
