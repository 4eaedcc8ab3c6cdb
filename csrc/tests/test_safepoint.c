/* safepoint: the three states, nested switches, a death that is never undone, and "run, then check"
 * against "set, then check". */
#include "check.h"
#include "made.h"

#include "flag.h"
#include "safepoint.h"

enum { ROUNDS = 20000, DEATHS = 300 };

static pl_waiter *waiter;
static pl_event *event; /* of `waiter` */
static pl_safepoint *safepoint;

static void set_up(void) {
    waiter = new_waiter();
    event = pl_waiter_event(waiter);
    safepoint = new_safepoint(waiter);
    CHECK(pl_safepoint_state(safepoint) == PL_PARKED);
}

static void tear_down(void) {
    free_safepoint(safepoint);
    free_waiter(waiter);
}

static void test_run_and_park_answer_what_was_before(void) {
    set_up();
    CHECK(pl_safepoint_park(safepoint) == PL_PARKED && pl_safepoint_state(safepoint) == PL_PARKED);
    CHECK(pl_safepoint_run(safepoint) == PL_PARKED && pl_safepoint_state(safepoint) == PL_RUNNING);
    CHECK(pl_safepoint_run(safepoint) == PL_RUNNING && pl_safepoint_state(safepoint) == PL_RUNNING);
    CHECK(pl_safepoint_park(safepoint) == PL_RUNNING && pl_safepoint_state(safepoint) == PL_PARKED);
    tear_down();
}

static void test_switches_nest_like_calls(void) {
    set_up();
    int host = pl_safepoint_run(safepoint);   /* the host calls the guest */
    int guest = pl_safepoint_park(safepoint); /* which calls Python */
    int python = pl_safepoint_run(safepoint); /* which calls the guest */
    CHECK(pl_safepoint_state(safepoint) == PL_RUNNING);
    /* which calls a short host function that calls the guest */
    int quick = pl_safepoint_run(safepoint);
    pl_safepoint_restore(safepoint, quick);
    CHECK(pl_safepoint_state(safepoint) == PL_RUNNING);
    /* which blocks, in a function that would also park */
    int blocks = pl_safepoint_park(safepoint);
    int again = pl_safepoint_park(safepoint);
    pl_safepoint_restore(safepoint, again);
    CHECK(pl_safepoint_state(safepoint) == PL_PARKED);
    pl_safepoint_restore(safepoint, blocks);
    CHECK(pl_safepoint_state(safepoint) == PL_RUNNING);
    pl_safepoint_restore(safepoint, python);
    CHECK(pl_safepoint_state(safepoint) == PL_PARKED);
    pl_safepoint_restore(safepoint, guest);
    CHECK(pl_safepoint_state(safepoint) == PL_RUNNING);
    pl_safepoint_restore(safepoint, host);
    CHECK(pl_safepoint_state(safepoint) == PL_PARKED);
    tear_down();
}

static void test_dead_is_for_good(void) {
    set_up();
    CHECK(pl_safepoint_run(safepoint) == PL_PARKED);
    pl_safepoint_die(safepoint);
    CHECK(pl_safepoint_run(safepoint) == PL_DEAD && pl_safepoint_state(safepoint) == PL_DEAD);
    CHECK(pl_safepoint_park(safepoint) == PL_DEAD && pl_safepoint_state(safepoint) == PL_DEAD);
    for (int before = PL_PARKED; before <= PL_DEAD; before++) {
        pl_safepoint_restore(safepoint, before);
        CHECK(pl_safepoint_state(safepoint) == PL_DEAD);
    }
    pl_safepoint_die(safepoint);
    CHECK(pl_safepoint_state(safepoint) == PL_DEAD);
    tear_down();
}

static void test_restoring_dead_changes_nothing(void) {
    set_up();
    pl_safepoint_restore(safepoint, PL_DEAD);
    CHECK(pl_safepoint_state(safepoint) == PL_PARKED);
    tear_down();
}

static void *wait_until_not_running(void *unused) {
    pl_waiter_begin(waiter, safepoint);
    for (;;) {
        uint32_t key = pl_event_prepare(event);
        if (pl_safepoint_state(safepoint) != PL_RUNNING) {
            pl_waiter_end(waiter);
            return unused;
        }
        CHECK(pl_event_wait(event, key, -1) == 1);
    }
}

static void restore_parked(pl_safepoint *running) { pl_safepoint_restore(running, PL_PARKED); }

static void park(pl_safepoint *running) { pl_safepoint_park(running); }

static void test_whoever_waits_for_the_state_is_woken_by_parking_and_by_death(void) {
    void (*const ends[])(pl_safepoint *) = {park, restore_parked, pl_safepoint_die};
    for (int i = 0; i < 3; i++) {
        set_up();
        pl_safepoint_run(safepoint);
        pthread_t waiter = thread_start(wait_until_not_running, NULL);
        AWAIT(pl_event_waiters(event) == 1);
        ends[i](safepoint);
        thread_join(waiter);
        tear_down();
    }
}

/* A death from outside, at any moment of the group's thread. */

static atomic_int switching;

static void *switch_until_dead(void *seed) {
    inject_delays(random_seed((uintptr_t)seed, 0), 4);
    for (;;) {
        atomic_store(&switching, 1);
        int host = pl_safepoint_run(safepoint);
        int guest = pl_safepoint_park(safepoint);
        pl_safepoint_restore(safepoint, guest);
        pl_safepoint_restore(safepoint, host);
        if (guest == PL_DEAD) {
            CHECK(pl_safepoint_state(safepoint) == PL_DEAD);
            return NULL;
        }
    }
}

static void test_death_from_outside_is_never_undone(void) {
    for (uintptr_t i = 0; i < DEATHS; i++) {
        set_up();
        atomic_store(&switching, 0);
        pthread_t thread = thread_start(switch_until_dead, (void *)(i + 1));
        AWAIT(atomic_load(&switching));
        pl_safepoint_die(safepoint);
        CHECK(pl_safepoint_state(safepoint) == PL_DEAD);
        thread_join(thread);
        CHECK(pl_safepoint_state(safepoint) == PL_DEAD);
        tear_down();
    }
}

/* Running is "state, then flag"; leading is "flag, then state". One of the two sees the other,
 * in each round. */

static pl_flag *pending;
static atomic_int ready, started, finished;
static int group_saw, leader_saw;

/* Both have both in their caches, and leave at nearly the same moment: as near as it can be to
 * doing it at once. */
static void leave(int round, uint64_t *chance) {
    start_together(&ready, 2 * round);
    CHECK(pl_safepoint_state(safepoint) == PL_PARKED && !pl_flag_load(pending, PL_SEQ_CST));
    start_together(&started, 2 * round);
    for (volatile unsigned spins = random_below(chance, 30); spins != 0; spins--) {
    }
}

static void *run_and_look(void *unused) {
    uint64_t chance = random_seed(0, 0);
    for (int round = 1; round <= ROUNDS; round++) {
        leave(round, &chance);
        if (round % 2) {
            pl_safepoint_run(safepoint);
        } else {
            pl_safepoint_restore(safepoint, PL_RUNNING);
        }
        group_saw = pl_flag_load(pending, PL_SEQ_CST);
        start_together(&finished, 2 * round);
        pl_safepoint_park(safepoint);
    }
    return unused;
}

static void test_group_that_runs_and_leader_do_not_both_miss(void) {
    set_up();
    pending = new_flag();
    pthread_t group = thread_start(run_and_look, NULL);
    uint64_t chance = random_seed(0, 1);
    for (int round = 1; round <= ROUNDS; round++) {
        leave(round, &chance);
        pl_flag_set(pending);
        leader_saw = pl_safepoint_state(safepoint) == PL_RUNNING;
        start_together(&finished, 2 * round);
        CHECK(group_saw || leader_saw);
        pl_flag_clear(pending);
    }
    thread_join(group);
    free_flag(pending);
    tear_down();
}

int main(void) {
    check_begin(0);
    RUN(test_run_and_park_answer_what_was_before);
    RUN(test_switches_nest_like_calls);
    RUN(test_dead_is_for_good);
    RUN(test_restoring_dead_changes_nothing);
    RUN(test_whoever_waits_for_the_state_is_woken_by_parking_and_by_death);
    RUN(test_death_from_outside_is_never_undone);
    RUN(test_group_that_runs_and_leader_do_not_both_miss);
    return 0;
}
