/* recursive: ownership, recursion, mutual exclusion, and wake-ups. */
#include "check.h"

#include "recursive.h"

enum { ROUNDS = 20000, THREADS = 4, TURNS = 3000, MILLISECOND = 1000000 };

static pl_recursive *mutex;

static void set_up(void) {
    mutex = pl_recursive_new();
    CHECK(mutex != NULL && !pl_recursive_is_mine(mutex));
}

static void tear_down(void) { pl_recursive_free(mutex); }

/* What another thread gets, and whether it takes itself for the holder. It gives back what it
 * gets. */
static void *try_once(void *result) {
    CHECK(!pl_recursive_is_mine(mutex) && pl_recursive_depth(mutex) == 0);
    *(int *)result = pl_recursive_try(mutex);
    CHECK(pl_recursive_is_mine(mutex) == *(int *)result);
    if (*(int *)result) {
        pl_recursive_release(mutex);
    }
    return NULL;
}

static int another_gets_it(void) {
    int result = -1;
    thread_join(thread_start(try_once, &result));
    return result;
}

static void test_holder_takes_it_again_and_gives_it_back_as_often(void) {
    set_up();
    for (int repeat = 0; repeat < 2; repeat++) {
        for (int depth = 0; depth < 5; depth++) {
            CHECK(depth % 2 ? pl_recursive_try(mutex) : pl_recursive_wait(mutex, 0));
            CHECK(pl_recursive_is_mine(mutex) && pl_recursive_depth(mutex) == (unsigned)depth + 1 &&
                  !another_gets_it());
        }
        for (int depth = 5; depth > 0; depth--) {
            CHECK(pl_recursive_is_mine(mutex) && !another_gets_it());
            pl_recursive_release(mutex);
        }
        CHECK(!pl_recursive_is_mine(mutex) && another_gets_it());
    }
    tear_down();
    pl_recursive_free(NULL);
}

static void test_turns_do_not_share(void) {
    pl_recursive *other = pl_recursive_new();
    set_up();
    CHECK(pl_recursive_try(mutex) && !pl_recursive_is_mine(other));
    CHECK(pl_recursive_try(other));
    pl_recursive_release(mutex);
    CHECK(pl_recursive_is_mine(other) && !pl_recursive_is_mine(mutex));
    pl_recursive_release(other);
    pl_recursive_free(other);
    tear_down();
}

/* A holder that does what it is told. */

static atomic_int has_it, may_leave;

static void *hold(void *unused) {
    CHECK(pl_recursive_try(mutex) && pl_recursive_try(mutex));
    pl_recursive_release(mutex);
    atomic_store(&has_it, 1);
    AWAIT(atomic_load(&may_leave));
    pl_recursive_release(mutex);
    atomic_store(&has_it, 0);
    return unused;
}

static pthread_t start_holder(void) {
    atomic_store(&may_leave, 0);
    pthread_t holder = thread_start(hold, NULL);
    AWAIT(atomic_load(&has_it));
    return holder;
}

static void test_wait_gives_up_in_time(void) {
    set_up();
    pthread_t holder = start_holder();
    CHECK(!pl_recursive_try(mutex) && !pl_recursive_wait(mutex, 0));
    int64_t deadline = pl_deadline(MILLISECOND);
    CHECK(!pl_recursive_wait(mutex, MILLISECOND));
    CHECK(pl_now() >= deadline && !pl_recursive_is_mine(mutex));
    atomic_store(&may_leave, 1);
    CHECK(pl_recursive_wait(mutex, -1) && pl_recursive_is_mine(mutex));
    pl_recursive_release(mutex);
    thread_join(holder);
    CHECK(another_gets_it()); /* a waiter that timed out has left no state */
    tear_down();
}

/* The holder leaves between two steps of a waiter: each such moment in mutex. Where the waiter
 * has the event's mutex, it cannot be done with it yet. */

static int64_t left_at;

static void let_go(void) {
    left_at = pl_now();
    atomic_store(&may_leave, 1);
    for (int i = 0; i < 1000 && atomic_load(&has_it); i++) {
        sched_yield();
    }
}

static void test_holder_may_leave_at_any_moment_of_a_wait(void) {
    int is_over = 0;
    unsigned steps = 0;
    for (; !is_over; steps++) {
        set_up();
        pthread_t holder = start_holder();
        inject_between(steps, let_go);
        /* for the last steps, which come when the time is up */
        int64_t deadline = pl_deadline(500 * MILLISECOND);
        int got = pl_recursive_wait(mutex, 500 * MILLISECOND);
        is_over = inject_is_over();
        CHECK(got ? !is_over : is_over || left_at >= deadline);
        atomic_store(&may_leave, 1);
        thread_join(holder);
        tear_down();
    }
    CHECK(steps > 3);
}

/* Each round the other one is to get it, and nothing else happens until it has: a wake-up that
 * is lost is never made up for. */

static atomic_int waiting, taken;

static void *wait_often(void *unused) {
    inject_delays(random_seed(1, 1), 4);
    for (int round = 1; round <= ROUNDS; round++) {
        AWAIT(atomic_load(&has_it) == round);
        atomic_store(&waiting, round);
        CHECK(pl_recursive_wait(mutex, -1)); /* for ever, if it is lost: the deadline says so */
        pl_recursive_release(mutex);
        atomic_store(&taken, round);
    }
    return unused;
}

static void test_no_wake_up_is_lost(void) {
    set_up();
    atomic_store(&has_it, 0);
    pthread_t waiter = thread_start(wait_often, NULL);
    inject_delays(random_seed(1, 2), 4);
    for (int round = 1; round <= ROUNDS; round++) {
        CHECK(pl_recursive_try(mutex));
        atomic_store(&has_it, round);
        AWAIT(atomic_load(&waiting) == round);
        pl_recursive_release(mutex);
        AWAIT(atomic_load(&taken) == round);
    }
    thread_join(waiter);
    inject_delays(0, 1);
    atomic_store(&has_it, 0);
    tear_down();
}

/* Many that take it again and again, deeper and deeper: one at a time has it. */

/* a plain one, and `entries` too: ThreadSanitizer sees it if two have it, or one does not see
 * what the other did */
static int inside;
static long entries;

static void dig(uint64_t *chance, int depth) {
    if (random_below(chance, 2) || !pl_recursive_try(mutex)) {
        int64_t timeout = random_below(chance, 4) ? (int64_t)random_below(chance, 100000) : -1;
        if (!pl_recursive_wait(mutex, timeout)) {
            CHECK(depth == 0); /* the holder gets it */
            return;
        }
    }
    CHECK(inside == depth && pl_recursive_is_mine(mutex));
    inside++;
    entries++;
    if (random_below(chance, 3) == 0) {
        dig(chance, depth + 1);
    }
    inside--;
    pl_recursive_release(mutex);
}

static void *work(void *number) {
    uint64_t chance = random_seed(2, (uintptr_t)number);
    inject_delays(random_seed(3, (uintptr_t)number), 16);
    for (int i = 0; i < TURNS; i++) {
        dig(&chance, 0);
    }
    return NULL;
}

static void test_one_at_a_time_has_it(void) {
    set_up();
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        threads[i] = thread_start(work, (void *)(i + 1));
    }
    for (int i = 0; i < THREADS; i++) {
        thread_join(threads[i]);
    }
    CHECK(inside == 0 && entries > TURNS && another_gets_it());
    tear_down();
}

static void test_lack_of_memory_is_told(void) {
    atomic_store(&inject_memory, 0);
    CHECK(pl_recursive_new() == NULL);
    atomic_store(&inject_memory, -1);
}

int main(void) {
    check_begin(0);
    RUN(test_holder_takes_it_again_and_gives_it_back_as_often);
    RUN(test_turns_do_not_share);
    RUN(test_wait_gives_up_in_time);
    RUN(test_holder_may_leave_at_any_moment_of_a_wait);
    RUN(test_no_wake_up_is_lost);
    RUN(test_one_at_a_time_has_it);
    RUN(test_lack_of_memory_is_told);
    return 0;
}
