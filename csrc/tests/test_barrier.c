/* barrier: a wait ends when every member has arrived or left, and reports the late member on a
 * timeout. */
#include "check.h"
#include "made.h"

#include "barrier.h"
#include "safepoint.h"

enum { MEMBERS = 5, ROUNDS = 1000, MILLISECOND = 1000000 };

struct member {
    _Atomic uint64_t arrived;
    pl_safepoint *safepoint;
};

static pl_event *event;
static pl_waiter *idle; /* the members are waited for on the event */
static pl_cancel *cancel;
static struct member members[MEMBERS];
static void *pointers[MEMBERS];
static uint64_t asked_for;

static int arrived_or_left(void *pointer, uint64_t number) {
    struct member *member = pointer;
    asked_for = number;
    return atomic_load(&member->arrived) >= number ||
           pl_safepoint_state(member->safepoint) != PL_RUNNING;
}

static void set_up(void) {
    event = new_event();
    idle = new_waiter();
    cancel = new_cancel(event);
    for (int i = 0; i < MEMBERS; i++) {
        atomic_store(&members[i].arrived, 0);
        members[i].safepoint = new_safepoint(idle);
        pl_safepoint_run(members[i].safepoint);
        pointers[i] = &members[i];
    }
}

static void tear_down(void) {
    for (int i = 0; i < MEMBERS; i++) {
        free_safepoint(members[i].safepoint);
    }
    free_cancel(cancel);
    free_waiter(idle);
    free_event(event);
}

static void arrive(int i, uint64_t number) {
    atomic_store(&members[i].arrived, number);
    pl_event_notify(event);
}

static int wait_at(uint64_t number, int64_t deadline, size_t *late) {
    return pl_barrier_wait(event, cancel, pointers, MEMBERS, arrived_or_left, number, deadline,
                           late);
}

static void test_nobody_is_waited_for_when_all_are_done(void) {
    set_up();
    size_t late = 99;
    CHECK(pl_barrier_wait(event, cancel, NULL, 0, arrived_or_left, 1, -1, &late) == PL_ACQUIRED);
    for (int i = 0; i < MEMBERS; i++) {
        arrive(i, 7);
    }
    CHECK(wait_at(7, -1, &late) == PL_ACQUIRED);
    CHECK(asked_for == 7);
    CHECK(wait_at(6, 0, &late) == PL_ACQUIRED); /* a deadline that is over is no reason to fail */
    tear_down();
}

static void test_late_one_is_named_at_the_deadline(void) {
    set_up();
    for (size_t missing = 0; missing < MEMBERS; missing++) {
        for (size_t i = 0; i < MEMBERS; i++) {
            arrive((int)i, i == missing ? 0 : 1);
        }
        size_t late = 99;
        int64_t deadline = pl_deadline(MILLISECOND);
        CHECK(wait_at(1, deadline, &late) == PL_TIMEOUT);
        CHECK(late == missing && pl_now() >= deadline);
        CHECK(wait_at(1, 0, &late) == PL_TIMEOUT);
    }
    tear_down();
}

static void test_cancelled_barrier_names_one_who_is_not_done(void) {
    set_up();
    arrive(0, 1);
    pl_cancel_set(cancel, 1);
    size_t late = 99;
    CHECK(wait_at(1, -1, &late) == PL_CANCELLED);
    CHECK(late == 1);
    tear_down();
}

struct waiter {
    uint64_t number;
    int result;
    size_t late;
    atomic_int is_over;
};

static void *wait_there(void *argument) {
    struct waiter *waiter = argument;
    waiter->result = wait_at(waiter->number, -1, &waiter->late);
    atomic_store(&waiter->is_over, 1);
    return NULL;
}

static void test_members_arrive_and_leave_in_any_order(void) {
    /* 2 dies, 1 and 3 park, 0 arrives, 4 is the last. */
    set_up();
    struct waiter waiter = {.number = 1, .late = 99};
    pthread_t thread = thread_start(wait_there, &waiter);
    AWAIT(pl_event_waiters(event) == 1);
    pl_safepoint_die(members[2].safepoint);
    pl_event_notify(event);
    pl_safepoint_park(members[1].safepoint);
    pl_event_notify(event);
    pl_safepoint_park(members[3].safepoint);
    pl_event_notify(event);
    arrive(0, 1);
    AWAIT(pl_event_waiters(event) == 1);
    CHECK(!atomic_load(&waiter.is_over));
    arrive(4, 1);
    thread_join(thread);
    CHECK(waiter.result == PL_ACQUIRED);
    tear_down();
}

static void test_each_way_of_leaving_ends_the_wait(void) {
    for (int way = 0; way < 3; way++) {
        set_up();
        for (int i = 0; i < MEMBERS - 1; i++) {
            arrive(i, 1);
        }
        struct waiter waiter = {.number = 1, .late = 99};
        pthread_t thread = thread_start(wait_there, &waiter);
        AWAIT(pl_event_waiters(event) == 1);
        CHECK(!atomic_load(&waiter.is_over));
        pl_safepoint *last = members[MEMBERS - 1].safepoint;
        if (way == 0) {
            arrive(MEMBERS - 1, 1);
        } else if (way == 1) {
            pl_safepoint_park(last);
            pl_event_notify(event);
        } else {
            pl_safepoint_die(last);
            pl_event_notify(event);
        }
        thread_join(thread);
        CHECK(waiter.result == PL_ACQUIRED);
        tear_down();
    }
}

static _Atomic uint64_t round_now;

/* Once a round: only the last member wakes the waiter. */
static void *arrive_often(void *index) {
    int i = (int)(uintptr_t)index;
    uint64_t state = random_seed((uint64_t)pl_now(), (uint64_t)i);
    inject_delays(random_next(&state), 8);
    for (uint64_t number = 1; number <= ROUNDS; number++) {
        AWAIT(atomic_load(&round_now) >= number);
        arrive(i, number);
    }
    return NULL;
}

static void test_arrivals_are_not_missed(void) {
    set_up();
    pthread_t threads[MEMBERS];
    for (uintptr_t i = 0; i < MEMBERS; i++) {
        threads[i] = thread_start(arrive_often, (void *)i);
    }
    inject_delays(random_seed((uint64_t)pl_now(), MEMBERS), 8);
    for (uint64_t number = 1; number <= ROUNDS; number++) {
        size_t late;
        atomic_store(&round_now, number);
        CHECK(wait_at(number, -1, &late) == PL_ACQUIRED);
    }
    inject_delays(0, 1);
    for (int i = 0; i < MEMBERS; i++) {
        thread_join(threads[i]);
        CHECK(atomic_load(&members[i].arrived) == ROUNDS);
    }
    tear_down();
}

int main(void) {
    check_begin(0);
    RUN(test_nobody_is_waited_for_when_all_are_done);
    RUN(test_late_one_is_named_at_the_deadline);
    RUN(test_cancelled_barrier_names_one_who_is_not_done);
    RUN(test_members_arrive_and_leave_in_any_order);
    RUN(test_each_way_of_leaving_ends_the_wait);
    RUN(test_arrivals_are_not_missed);
    return 0;
}
