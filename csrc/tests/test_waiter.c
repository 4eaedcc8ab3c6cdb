/* waiter: only its target wakes the waiter. */
#include "check.h"
#include "made.h"

#include "waiter.h"

enum { ROUNDS = 20000, OTHERS = 3 };

static pl_waiter *waiter;
static atomic_int done; /* the round whose work is done */
static char me, others[OTHERS];

static void set_up(void) {
    waiter = new_waiter();
    atomic_store(&done, 0);
}

static void tear_down(void) { free_waiter(waiter); }

static void test_only_the_awaited_one_wakes(void) {
    set_up();
    uint32_t key = pl_event_prepare(pl_waiter_event(waiter));
    pl_waiter_notify(waiter, &me); /* no thread waits */
    CHECK(pl_event_prepare(pl_waiter_event(waiter)) == key);
    pl_waiter_begin(waiter, &me);
    pl_waiter_notify(waiter, &others[0]);
    CHECK(pl_event_prepare(pl_waiter_event(waiter)) == key);
    pl_waiter_notify(waiter, &me);
    CHECK(pl_event_prepare(pl_waiter_event(waiter)) != key);
    key = pl_event_prepare(pl_waiter_event(waiter));
    pl_waiter_end(waiter);
    pl_waiter_notify(waiter, &me);
    CHECK(pl_event_prepare(pl_waiter_event(waiter)) == key);
    tear_down();
}

static void *work(void *seed) {
    inject_delays(random_seed((uintptr_t)seed, 1), 4);
    for (int round = 1; round <= ROUNDS; round++) {
        /* the waiter has seen the round before */
        AWAIT(atomic_load(&done) == -(round - 1) || round == 1);
        atomic_store(&done, round);
        pl_waiter_notify(waiter, &me);
    }
    return NULL;
}

/* No wake-up is lost, whatever the order of "done, then tell" and "wait for, then look". */
static void test_no_wake_up_is_lost(void) {
    set_up();
    pthread_t worker = thread_start(work, NULL);
    inject_delays(random_seed(0, 2), 4);
    for (int round = 1; round <= ROUNDS; round++) {
        pl_waiter_begin(waiter, &me);
        for (;;) {
            uint32_t key = pl_event_prepare(pl_waiter_event(waiter));
            if (atomic_load(&done) == round) {
                break;
            }
            /* for ever, if it is lost: the deadline says so */
            CHECK(pl_event_wait(pl_waiter_event(waiter), key, -1) == 1);
        }
        pl_waiter_end(waiter);
        atomic_store(&done, -round);
    }
    thread_join(worker);
    inject_delays(0, 1);
    tear_down();
}

int main(void) {
    check_begin(0);
    RUN(test_only_the_awaited_one_wakes);
    RUN(test_no_wake_up_is_lost);
    return 0;
}
