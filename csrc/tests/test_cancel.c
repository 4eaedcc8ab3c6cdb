/* cancel: the first cause stays, and waiters are woken. A stop ends a single call. */
#include "check.h"
#include "made.h"

#include "barrier.h"
#include "cancel.h"
#include "futex.h"
#include "rwlock.h"

enum { THREADS = 8, ROUNDS = 200 };

static void test_first_cause_wins_and_stays(void) {
    pl_event *event = new_event();
    pl_cancel *cancel = new_cancel(event);
    CHECK(pl_cancel_cause(cancel) == 0);
    CHECK(pl_cancel_set(cancel, UINT64_MAX) == 1);
    CHECK(pl_cancel_cause(cancel) == UINT64_MAX);
    CHECK(pl_cancel_set(cancel, 7) == 0);
    CHECK(pl_cancel_set(cancel, UINT64_MAX) == 0);
    CHECK(pl_cancel_cause(cancel) == UINT64_MAX);
    free_cancel(cancel);
    free_event(event);
}

static pl_event *event;
static pl_cancel *cancel;
static atomic_int started, firsts, hooked;
static _Atomic uint64_t first_cause;

static void hook(void *argument) {
    CHECK(argument == &hooked && pl_cancel_cause(cancel) != 0);
    atomic_fetch_add(&hooked, 1);
}

static void test_hook_is_called_by_the_first_alone(void) {
    event = new_event();
    for (int with = 0; with < 3; with++) {
        cancel = new_cancel(event);
        atomic_store(&hooked, 0);
        if (with > 0) {
            pl_cancel_on_set(cancel, hook, &hooked);
        }
        if (with > 1) {
            pl_cancel_on_set(cancel, NULL, &hooked);
        }
        CHECK(atomic_load(&hooked) == 0);
        CHECK(pl_cancel_set(cancel, 5) == 1 && atomic_load(&hooked) == (with == 1));
        CHECK(pl_cancel_set(cancel, 6) == 0 && atomic_load(&hooked) == (with == 1));
        free_cancel(cancel);
    }
    free_event(event);
}

static void *cancel_too(void *cause) {
    start_together(&started, THREADS);
    if (pl_cancel_set(cancel, (uintptr_t)cause)) {
        atomic_fetch_add(&firsts, 1);
        atomic_store(&first_cause, (uintptr_t)cause);
    }
    CHECK(pl_cancel_cause(cancel) != 0);
    return NULL;
}

static void test_one_of_many_is_the_first(void) {
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        event = new_event();
        cancel = new_cancel(event);
        atomic_store(&started, 0);
        atomic_store(&firsts, 0);
        atomic_store(&hooked, 0);
        pl_cancel_on_set(cancel, hook, &hooked);
        for (uintptr_t i = 0; i < THREADS; i++) {
            threads[i] = thread_start(cancel_too, (void *)(i + 1));
        }
        for (int i = 0; i < THREADS; i++) {
            thread_join(threads[i]);
        }
        CHECK(atomic_load(&firsts) == 1 && atomic_load(&hooked) == 1);
        CHECK(pl_cancel_cause(cancel) == atomic_load(&first_cause));
        free_cancel(cancel);
        free_event(event);
    }
}

/* Every kind of waiter that there is below rendezvous.h; its own test has the leaders and the
 * followers. */

static pl_rwlock *lock;
/* ThreadSanitizer sees it if a waiter learns of the cancellation without what was done before */
static int plain_cause;

static void *wait_for_the_event(void *unused) {
    for (;;) {
        uint32_t key = pl_event_prepare(event);
        if (pl_cancel_cause(cancel) != 0) {
            CHECK(plain_cause == 9);
            return unused;
        }
        CHECK(pl_event_wait(event, key, -1) == 1);
    }
}

static void *wait_for_the_lock(void *unused) {
    CHECK(pl_rwlock_write(lock, cancel, -1) == PL_CANCELLED);
    CHECK(plain_cause == 9);
    return unused;
}

static pl_futex *futex;

static void *wait_on_an_address(void *unused) {
    uint32_t cell = 0;
    pl_wait_options until = {.timeout = -1};
    CHECK(pl_futex_wait32(futex, 8, &cell, 0, &until) == PL_WAITED_CANCELLED);
    CHECK(plain_cause == 9);
    return unused;
}

static int never(void *member, uint64_t number) {
    (void)member;
    (void)number;
    return 0;
}

static void *wait_at_the_barrier(void *unused) {
    void *member = NULL;
    size_t late = 5;
    CHECK(pl_barrier_wait(event, cancel, &member, 1, never, 1, -1, &late) == PL_CANCELLED);
    CHECK(late == 0 && plain_cause == 9);
    return unused;
}

static void test_every_kind_of_waiter_wakes(void) {
    event = new_event();
    cancel = new_cancel(event);
    lock = new_rwlock(event);
    futex = new_futex(cancel);
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    pthread_t threads[] = {
        thread_start(wait_for_the_event, NULL), thread_start(wait_for_the_lock, NULL),
        thread_start(wait_at_the_barrier, NULL), thread_start(wait_on_an_address, NULL)};
    AWAIT(pl_event_waiters(event) == 3 && pl_futex_waiters(futex, 8) == 1);
    plain_cause = 9;
    CHECK(pl_cancel_set(cancel, 9) == 1);
    for (int i = 0; i < 4; i++) {
        thread_join(threads[i]);
    }
    CHECK(pl_rwlock_readers(lock) == -1); /* the holder still holds it */
    free_futex(futex);
    free_rwlock(lock);
    free_cancel(cancel);
    free_event(event);
}

static void test_stop_is_for_one_call(void) {
    event = new_event();
    cancel = new_cancel(event);
    atomic_store(&hooked, 0);
    CHECK(pl_cancel_call(cancel) == 0);
    pl_call_begins(cancel);
    uint64_t first = pl_cancel_call(cancel);
    CHECK(first != 0 && pl_cancel_cause(cancel) == 0);
    pl_cancel_on_set(cancel, hook, &hooked);
    pl_cancel_stop(cancel, first);
    CHECK(pl_cancel_cause(cancel) == PL_CAUSE_STOPPED && atomic_load(&hooked) == 1);
    CHECK(pl_call_ends(cancel) == first);
    pl_cancel_on_set(cancel, NULL, &hooked);
    CHECK(pl_cancel_cause(cancel) == 0 && pl_cancel_call(cancel) == 0 &&
          atomic_load(&cancel->cause) == 0);
    pl_cancel_stop(cancel, first); /* too late */
    CHECK(pl_cancel_cause(cancel) == 0);
    pl_call_begins(cancel);
    uint64_t second = pl_cancel_call(cancel);
    CHECK(second > first && pl_cancel_cause(cancel) == 0);
    pl_cancel_stop(cancel, second);
    pl_cancel_stop(cancel, first); /* does not take the place of the newer one */
    CHECK(pl_cancel_cause(cancel) == PL_CAUSE_STOPPED);
    CHECK(pl_call_ends(cancel) == second);
    pl_cancel_stop(cancel, second);
    pl_call_begins(cancel);
    CHECK(pl_cancel_cause(cancel) == 0 && pl_call_ends(cancel) == 0);
    CHECK(atomic_load(&cancel->cause) == 0); /* what was late is out of the way */
    pl_call_begins(cancel);
    pl_cancel_stop(cancel, pl_cancel_call(cancel));
    CHECK(pl_cancel_set(cancel, 7) == 1); /* the end takes the place of a stop, */
    CHECK(pl_cancel_cause(cancel) == 7);
    pl_cancel_stop(cancel, pl_cancel_call(cancel)); /* and stays */
    CHECK(pl_cancel_cause(cancel) == 7 && pl_call_ends(cancel) == 0 &&
          pl_cancel_cause(cancel) == 7);
    free_cancel(cancel);
    free_event(event);
}

enum { CALLS = 20000, STOPPERS = 3 };
static _Atomic uint64_t stopped[2 * CALLS + 2]; /* by the number of the call */
static atomic_int is_done;

static void *stop_what_runs(void *unused) {
    start_together(&started, STOPPERS + 1);
    while (!atomic_load(&is_done)) {
        uint64_t call = pl_cancel_call(cancel);
        if (call != 0) {
            atomic_store(&stopped[call], 1);
            pl_cancel_stop(cancel, call);
        }
    }
    return unused;
}

/* Calls that look a few times, and calls that look until they are stopped: an endless one is
 * never missed, and no call that was not named is stopped. */
static void test_no_other_call_is_stopped_and_no_stop_is_lost(void) {
    pthread_t threads[STOPPERS];
    event = new_event();
    cancel = new_cancel(event);
    atomic_store(&started, 0);
    atomic_store(&is_done, 0);
    for (int i = 0; i < STOPPERS; i++) {
        threads[i] = thread_start(stop_what_runs, NULL);
    }
    start_together(&started, STOPPERS + 1);
    for (uint64_t i = 0; i < CALLS; i++) {
        int endless = i % 8 == 0, seen = 0;
        pl_call_begins(cancel);
        uint64_t call = pl_cancel_call(cancel);
        for (int look = 0; (endless || look < 3) && !seen; look++) {
            seen = pl_cancel_cause(cancel) != 0;
            if (endless && !seen) {
                sched_yield();
            }
        }
        CHECK(!seen || atomic_load(&stopped[call]));
        uint64_t told = pl_call_ends(cancel);
        CHECK(told == 0 || (told == call && atomic_load(&stopped[call])));
        CHECK(!seen || told == call);
    }
    atomic_store(&is_done, 1);
    for (int i = 0; i < STOPPERS; i++) {
        thread_join(threads[i]);
    }
    CHECK(pl_cancel_cause(cancel) == 0);
    free_cancel(cancel);
    free_event(event);
}

static void abandoned_hook(void *argument) { CHECK(argument == NULL); /* must not be called */ }

static void test_abandoned_one_takes_no_lock(void) {
    pl_event *event = new_event();
    pl_cancel *cancel = new_cancel(event);
    CHECK(pl_cancel_on_set(cancel, abandoned_hook, cancel) == 0);
    pl_cancel_abandon(cancel, 6);
    CHECK(pl_cancel_cause(cancel) == 6 && pl_cancel_set(cancel, 1) == 0);
    free_cancel(cancel);
    free_event(event);
}

int main(void) {
    check_begin(0);
    RUN(test_first_cause_wins_and_stays);
    RUN(test_hook_is_called_by_the_first_alone);
    RUN(test_one_of_many_is_the_first);
    RUN(test_every_kind_of_waiter_wakes);
    RUN(test_stop_is_for_one_call);
    RUN(test_no_other_call_is_stopped_and_no_stop_is_lost);
    RUN(test_abandoned_one_takes_no_lock);
    return 0;
}
