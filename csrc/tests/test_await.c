/* await: the waiter is woken by the one it waits for, and by nobody else. */
#include "check.h"
#include "made.h"

#include "await.h"

enum { ROUNDS = 20000, OTHERS = 3 };

static pl_await *await;
static atomic_int done; /* the round whose work is done */
static char me, others[OTHERS];

static void set_up(void) {
    await = new_await();
    atomic_store(&done, 0);
}

static void tear_down(void) { free_await(await); }

static void test_only_the_awaited_one_wakes(void) {
    set_up();
    uint32_t key = pl_event_prepare(pl_await_event(await));
    pl_await_tell(await, &me); /* nobody waits */
    CHECK(pl_event_prepare(pl_await_event(await)) == key);
    pl_await_begin(await, &me);
    pl_await_tell(await, &others[0]);
    CHECK(pl_event_prepare(pl_await_event(await)) == key);
    pl_await_tell(await, &me);
    CHECK(pl_event_prepare(pl_await_event(await)) != key);
    key = pl_event_prepare(pl_await_event(await));
    pl_await_end(await);
    pl_await_tell(await, &me);
    CHECK(pl_event_prepare(pl_await_event(await)) == key);
    tear_down();
}

static void *work(void *seed) {
    inject_delays(random_seed((uintptr_t)seed, 1), 4);
    for (int round = 1; round <= ROUNDS; round++) {
        /* the waiter has seen the round before */
        AWAIT(atomic_load(&done) == -(round - 1) || round == 1);
        atomic_store(&done, round);
        pl_await_tell(await, &me);
    }
    return NULL;
}

/* No wake-up is lost, whatever the order of "done, then tell" and "wait for, then look". */
static void test_no_wake_up_is_lost(void) {
    set_up();
    pthread_t worker = thread_start(work, NULL);
    inject_delays(random_seed(0, 2), 4);
    for (int round = 1; round <= ROUNDS; round++) {
        pl_await_begin(await, &me);
        for (;;) {
            uint32_t key = pl_event_prepare(pl_await_event(await));
            if (atomic_load(&done) == round) {
                break;
            }
            /* for ever, if it is lost: the deadline says so */
            CHECK(pl_event_wait(pl_await_event(await), key, -1) == 1);
        }
        pl_await_end(await);
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
