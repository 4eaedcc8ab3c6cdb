/* futex: sleeps and wakes, their order, and the other ends of a sleep. */
#include "check.h"
#include "made.h"

#include "futex.h"

#include <string.h>

enum {
    WAITERS = 6,
    KEYS = 65 /* more than there are buckets, so some share one */,
    MILLISECOND = 1000000,
    KEY = 4096
};

static pl_event *event;
static pl_cancel *cancel;
static pl_futex *futex;
static uint32_t cell; /* what they all wait on, but for the tests that say otherwise */

static void set_up(void) {
    event = new_event();
    cancel = new_cancel(event);
    futex = new_futex(cancel);
    CHECK(futex != NULL);
    cell = 0;
}

static void tear_down(void) {
    free_futex(futex);
    free_cancel(cancel);
    free_event(event);
}

struct waiter {
    uint64_t key;
    pl_wait_options until;
    int wide;
    atomic_int result;
    pthread_t thread;
};

enum { ASLEEP = 99 };

static void *wait_once(void *argument) {
    static const uint64_t zero = 0;
    struct waiter *self = argument;
    int result = self->wide ? pl_futex_wait64(futex, self->key, &zero, 0, &self->until)
                            : pl_futex_wait32(futex, self->key, &cell, 0, &self->until);
    atomic_store(&self->result, result);
    return NULL;
}

/* Starts a waiter and returns when it sleeps. */
static void start(struct waiter *waiter, uint64_t key, pl_wait_options until) {
    size_t before = pl_futex_waiters(futex, key);
    waiter->key = key;
    waiter->until = until;
    atomic_store(&waiter->result, ASLEEP);
    waiter->thread = thread_start(wait_once, waiter);
    AWAIT(pl_futex_waiters(futex, key) == before + 1);
}

static const pl_wait_options without_end = {.timeout = -1};

static void start_all(struct waiter *waiters, size_t count) {
    memset(waiters, 0, count * sizeof *waiters);
    for (size_t i = 0; i < count; i++) {
        start(&waiters[i], KEY, without_end);
    }
}

static void expect(struct waiter *waiter, int result) {
    thread_join(waiter->thread);
    CHECK(atomic_load(&waiter->result) == result);
}

static void test_another_value_is_not_waited_for(void) {
    set_up();
    cell = 5;
    uint64_t wide = UINT64_C(0x100000005);
    CHECK(pl_futex_wait32(futex, KEY, &cell, 6, &without_end) == PL_WAITED_NOT_EQUAL);
    /* the upper half counts */
    CHECK(pl_futex_wait64(futex, KEY, &wide, 5, &without_end) == PL_WAITED_NOT_EQUAL);
    pl_wait_options now = {.timeout = 0};
    /* and more than the time */
    CHECK(pl_futex_wait32(futex, KEY, &cell, 6, &now) == PL_WAITED_NOT_EQUAL);
    CHECK(pl_futex_wait64(futex, KEY, &wide, wide, &now) == PL_WAITED_TIMED_OUT);
    CHECK(pl_futex_waiters(futex, KEY) == 0 && pl_futex_wake(futex, KEY, 1) == 0);
    tear_down();
}

static void test_who_came_first_is_woken_first(void) {
    struct waiter waiters[WAITERS];
    set_up();
    start_all(waiters, WAITERS);
    for (int i = 0; i < WAITERS; i++) {
        CHECK(pl_futex_wake(futex, KEY, 1) == 1);
        expect(&waiters[i], PL_WAITED_WOKEN);
        CHECK(pl_futex_waiters(futex, KEY) == (size_t)(WAITERS - i - 1));
    }
    CHECK(pl_futex_wake(futex, KEY, 1) == 0);
    tear_down();
}

static void test_as_many_are_woken_as_is_said(void) {
    struct waiter waiters[WAITERS];
    set_up();
    start_all(waiters, WAITERS);
    CHECK(pl_futex_wake(futex, KEY, 0) == 0);
    CHECK(pl_futex_wake(futex, KEY, 2) == 2);
    expect(&waiters[0], PL_WAITED_WOKEN);
    expect(&waiters[1], PL_WAITED_WOKEN);
    CHECK(pl_futex_waiters(futex, KEY) == WAITERS - 2);
    for (int i = 2; i < WAITERS; i++) {
        CHECK(atomic_load(&waiters[i].result) == ASLEEP);
    }
    CHECK(pl_futex_wake(futex, KEY, UINT32_MAX) == WAITERS - 2);
    for (int i = 2; i < WAITERS; i++) {
        expect(&waiters[i], PL_WAITED_WOKEN);
    }
    tear_down();
}

static void test_waiters_of_both_sizes_are_in_one_queue(void) {
    struct waiter narrow = {.wide = 0}, wide = {.wide = 1}, last = {.wide = 0};
    set_up();
    start(&narrow, KEY, without_end);
    start(&wide, KEY, without_end);
    start(&last, KEY, without_end);
    CHECK(pl_futex_wake(futex, KEY, 2) == 2);
    expect(&narrow, PL_WAITED_WOKEN);
    expect(&wide, PL_WAITED_WOKEN);
    CHECK(pl_futex_wake(futex, KEY, 2) == 1);
    expect(&last, PL_WAITED_WOKEN);
    tear_down();
}

static void test_other_keys_are_left_alone(void) {
    static struct waiter waiters[KEYS];
    int order[KEYS];
    uint64_t chance = random_seed((uint64_t)pl_now(), 0);
    set_up();
    memset(waiters, 0, sizeof waiters);
    for (int i = 0; i < KEYS; i++) {
        start(&waiters[i], (uint64_t)i * 4, without_end);
        order[i] = i;
    }
    for (int left = KEYS; left > 0; left--) {
        unsigned pick = random_below(&chance, (unsigned)left);
        int i = order[pick];
        order[pick] = order[left - 1];
        CHECK(pl_futex_wake(futex, (uint64_t)i * 4, UINT32_MAX) == 1);
        expect(&waiters[i], PL_WAITED_WOKEN);
        for (int other = 0; other < left - 1; other++) {
            CHECK(pl_futex_waiters(futex, waiters[order[other]].key) == 1 &&
                  atomic_load(&waiters[order[other]].result) == ASLEEP);
        }
    }
    tear_down();
}

static void test_time_is_up_when_it_is_and_not_before(void) {
    static const int64_t timeouts[] = {0, 1, 1000, MILLISECOND, 3 * MILLISECOND};
    struct waiter waiters[2] = {{.key = 0}};
    set_up();
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        pl_wait_options until = {.timeout = timeouts[i]};
        int64_t before = pl_now();
        CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_TIMED_OUT);
        CHECK(pl_now() - before >= timeouts[i]);
        CHECK(pl_futex_waiters(futex, KEY) == 0);
    }
    /* Who leaves takes only itself out of the queue, from wherever it is. */
    start(&waiters[0], KEY, (pl_wait_options){.timeout = INT64_MAX});
    pl_wait_options until = {.timeout = MILLISECOND};
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_TIMED_OUT);
    start(&waiters[1], KEY, without_end);
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_TIMED_OUT);
    CHECK(pl_futex_wake(futex, KEY, UINT32_MAX) == 2);
    expect(&waiters[0], PL_WAITED_WOKEN);
    expect(&waiters[1], PL_WAITED_WOKEN);
    tear_down();
}

static void test_cancellation_ends_every_wait_and_the_next_ones(void) {
    static struct waiter waiters[KEYS];
    set_up();
    memset(waiters, 0, sizeof waiters);
    for (int i = 0; i < KEYS; i++) {
        start(&waiters[i], i < 3 ? KEY : (uint64_t)i * 8, without_end);
    }
    CHECK(pl_cancel_set(cancel, 7) == 1);
    for (int i = 0; i < KEYS; i++) {
        expect(&waiters[i], PL_WAITED_CANCELLED);
    }
    for (int i = 0; i < KEYS; i++) { /* some share a key, so only now */
        CHECK(pl_futex_waiters(futex, waiters[i].key) == 0);
    }
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &without_end) == PL_WAITED_CANCELLED);
    CHECK(pl_cancel_set(cancel, 8) == 0);
    tear_down();
}

/* The nudge. */

static void test_nudge_ends_the_wait_it_is_for(void) {
    struct waiter waiters[3] = {{.key = 0}};
    pl_flag *nudges[] = {new_flag(), new_flag()};
    set_up();
    start(&waiters[0], KEY, (pl_wait_options){.timeout = -1, .nudge = nudges[0]});
    start(&waiters[1], KEY, (pl_wait_options){.timeout = -1, .nudge = nudges[1]});
    start(&waiters[2], KEY, without_end);
    pl_futex_nudge(futex, nudges[1]);
    expect(&waiters[1], PL_WAITED_WOKEN);
    CHECK(pl_flag_load(nudges[1], PL_SEQ_CST) == 0 && pl_futex_waiters(futex, KEY) == 2);
    CHECK(atomic_load(&waiters[0].result) == ASLEEP && atomic_load(&waiters[2].result) == ASLEEP);
    CHECK(pl_futex_wake(futex, KEY, UINT32_MAX) == 2);
    expect(&waiters[0], PL_WAITED_WOKEN);
    expect(&waiters[2], PL_WAITED_WOKEN);
    tear_down();
    free_flag(nudges[0]);
    free_flag(nudges[1]);
}

static void test_nudge_before_the_wait_is_kept_for_one(void) {
    pl_wait_options until = {.timeout = -1, .nudge = new_flag()};
    set_up();
    pl_futex_nudge(futex, until.nudge);
    cell = 1;
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_NOT_EQUAL);
    CHECK(pl_futex_wait32(futex, KEY, &cell, 1, &until) == PL_WAITED_WOKEN);
    until.timeout = 0;
    CHECK(pl_futex_wait32(futex, KEY, &cell, 1, &until) == PL_WAITED_TIMED_OUT);
    tear_down();
    free_flag(until.nudge);
}

/* The check, which is called on the waiting thread and without the mutex: it may use the futex. */

static int checks;
static struct waiter behind;

static int go_on(uintptr_t handle) {
    CHECK(handle == 6 && pl_futex_waiters(futex, KEY) == 1);
    return ++checks == 2;
}

static void test_check_is_called_each_slice_and_may_end_the_wait(void) {
    pl_wait_options until = {.timeout = MILLISECOND, .check = go_on, .handle = 6};
    set_up();
    checks = 0;
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_TIMED_OUT && checks == 0);
    int64_t before = pl_now();
    until.timeout = -1;
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_INTERRUPTED && checks == 2);
    CHECK(pl_now() - before >= 2 * (int64_t)PL_SLICE && pl_futex_waiters(futex, KEY) == 0);
    before = pl_now();
    checks = 2; /* none will be the last */
    until.timeout = PL_SLICE + MILLISECOND;
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_TIMED_OUT);
    CHECK(pl_now() - before >= until.timeout &&
          pl_now() - before >= (checks - 2) * (int64_t)PL_SLICE);
    tear_down();
}

static int be_woken(uintptr_t stop) {
    start(&behind, KEY, without_end);
    CHECK(pl_futex_wake(futex, KEY, 1) == 1 && pl_futex_waiters(futex, KEY) == 1);
    return (int)stop;
}

static int stop_at_once(uintptr_t unused) {
    (void)unused;
    return 1;
}

static int be_cancelled(uintptr_t unused) {
    (void)unused;
    pl_cancel_set(cancel, 7);
    return 0;
}

static void test_wake_up_during_a_check_is_taken_or_passed_on(void) {
    pl_wait_options until = {.timeout = -1, .check = be_woken, .handle = 0};
    set_up();
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_WOKEN);
    CHECK(pl_futex_wake(futex, KEY, 1) == 1);
    expect(&behind, PL_WAITED_WOKEN);
    until.handle = 1; /* it stops, though it was woken: the one behind it is woken instead */
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_INTERRUPTED);
    expect(&behind, PL_WAITED_WOKEN);
    until.check = stop_at_once; /* it was not woken: nor is anybody else */
    start(&behind, KEY, without_end);
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_INTERRUPTED);
    CHECK(pl_futex_wake(futex, KEY, UINT32_MAX) == 1);
    expect(&behind, PL_WAITED_WOKEN);
    until.check = be_cancelled;
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_CANCELLED);
    tear_down();
}

static int wait_too(uintptr_t unused) {
    (void)unused;
    pl_wait_options until = {.timeout = MILLISECOND};
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_TIMED_OUT);
    return 1;
}

static void test_check_may_wait_itself(void) { /* Python's handler of a signal calls the guest */
    pl_wait_options until = {.timeout = -1, .check = wait_too};
    set_up();
    CHECK(pl_futex_wait32(futex, KEY, &cell, 0, &until) == PL_WAITED_INTERRUPTED);
    tear_down();
}

/* Another thread begins at each step of a wait, which holds the mutex at all of them but the
 * first. */

static pthread_t other;
static atomic_int begun;
static pl_flag *nudge;

static void *change_and_wake(void *unused) {
    atomic_store((_Atomic uint32_t *)&cell, 1);
    atomic_store(&begun, 1);
    pl_futex_wake(futex, KEY, 1);
    return unused;
}

static void *cancel_it(void *unused) {
    pl_cancel_set(cancel, 7);
    return unused;
}

static void *nudge_it(void *unused) {
    pl_futex_nudge(futex, nudge);
    return unused;
}

static void begin_wake(void) {
    other = thread_start(change_and_wake, NULL);
    AWAIT(atomic_load(&begun));
}

static void begin_cancel(void) {
    other = thread_start(cancel_it, NULL);
    AWAIT(pl_cancel_cause(cancel) != 0);
}

static void begin_nudge(void) {
    other = thread_start(nudge_it, NULL);
    AWAIT(pl_flag_load(nudge, PL_SEQ_CST));
}

static void test_nothing_is_lost_whenever_the_other_begins(void) {
    static const struct {
        void (*begin)(void);
        int at_first, later;
    } others[] = {
        {begin_wake, PL_WAITED_NOT_EQUAL, PL_WAITED_WOKEN},
        {begin_cancel, PL_WAITED_CANCELLED, PL_WAITED_CANCELLED},
        {begin_nudge, PL_WAITED_WOKEN, PL_WAITED_WOKEN},
    };
    nudge = new_flag();
    for (int i = 0; i < 3; i++) {
        /* before it takes the mutex, looks at the cell, at the cause, at the nudge */
        for (unsigned step = 0; step < 4; step++) {
            pl_wait_options until = {.timeout = -1, .nudge = nudge};
            set_up();
            atomic_store(&begun, 0);
            inject_between(step, others[i].begin);
            int result = pl_futex_wait32(futex, KEY, &cell, 0, &until);
            CHECK(!inject_is_over());
            CHECK(result == (step < 2 ? others[i].at_first : others[i].later));
            thread_join(other);
            pl_flag_clear(nudge);
            tear_down();
        }
    }
    free_flag(nudge);
}

static void test_freed_futex_is_forgotten_by_the_cancellation(void) {
    set_up();
    free_futex(futex);
    CHECK(pl_cancel_set(cancel, 7) == 1);
    free_cancel(cancel);
    free_event(event);
}

int main(void) {
    check_begin(0);
    RUN(test_another_value_is_not_waited_for);
    RUN(test_who_came_first_is_woken_first);
    RUN(test_as_many_are_woken_as_is_said);
    RUN(test_waiters_of_both_sizes_are_in_one_queue);
    RUN(test_other_keys_are_left_alone);
    RUN(test_time_is_up_when_it_is_and_not_before);
    RUN(test_cancellation_ends_every_wait_and_the_next_ones);
    RUN(test_nudge_ends_the_wait_it_is_for);
    RUN(test_nudge_before_the_wait_is_kept_for_one);
    RUN(test_check_is_called_each_slice_and_may_end_the_wait);
    RUN(test_wake_up_during_a_check_is_taken_or_passed_on);
    RUN(test_check_may_wait_itself);
    RUN(test_nothing_is_lost_whenever_the_other_begins);
    RUN(test_freed_futex_is_forgotten_by_the_cancellation);
    return 0;
}
