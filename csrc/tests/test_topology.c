/* topology: one token at a time, increasing numbers, one release by any thread. */
#include "check.h"
#include "made.h"

#include "topology.h"

enum { THREADS = 4, ROUNDS = 5000 };

static pl_event *event;
static pl_topology *topology;

static void set_up(void) {
    event = new_event();
    topology = new_topology(event);
    CHECK(pl_topology_holder(topology) == 0);
}

static void tear_down(void) {
    free_topology(topology);
    free_event(event);
}

static void test_one_token_is_out_at_a_time_and_numbers_go_up(void) {
    set_up();
    uint64_t before = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t token = pl_topology_try_acquire(topology);
        CHECK(token > before && pl_topology_holder(topology) == token);
        CHECK(pl_topology_try_acquire(topology) == 0 && pl_topology_try_acquire(topology) == 0);
        CHECK(pl_topology_holder(topology) == token);
        CHECK(pl_topology_release(topology, token) == 0);
        CHECK(pl_topology_holder(topology) == 0);
        before = token;
    }
    tear_down();
}

static void test_token_that_is_not_out_is_recognised(void) {
    set_up();
    CHECK(pl_topology_release(topology, 0) == -1 && pl_topology_release(topology, 1) == -1 &&
          pl_topology_release(topology, UINT64_MAX) == -1);
    uint64_t first = pl_topology_try_acquire(topology);
    CHECK(pl_topology_release(topology, 0) == -1 && pl_topology_release(topology, first + 1) == -1);
    CHECK(pl_topology_release(topology, UINT64_MAX) == -1);
    CHECK(pl_topology_holder(topology) == first);
    CHECK(pl_topology_release(topology, first) == 0);
    CHECK(pl_topology_release(topology, first) == -1);
    uint64_t second = pl_topology_try_acquire(topology);
    CHECK(pl_topology_release(topology, first) == -1); /* released before, while another is out */
    CHECK(pl_topology_holder(topology) == second && pl_topology_try_acquire(topology) == 0);
    CHECK(pl_topology_release(topology, second) == 0);
    tear_down();
}

static void *release_what_was_handed_over(void *token) {
    CHECK(pl_topology_release(topology, *(uint64_t *)token) == 0);
    return NULL;
}

static void test_token_changes_threads(void) {
    set_up();
    uint64_t token = pl_topology_try_acquire(topology);
    thread_join(thread_start(release_what_was_handed_over, &token));
    CHECK(pl_topology_holder(topology) == 0);
    CHECK(pl_topology_release(topology, token) == -1);
    tear_down();
}

static atomic_int started, released;

static void *release_too(void *token) {
    start_together(&started, THREADS);
    if (pl_topology_release(topology, *(uint64_t *)token) == 0) {
        atomic_fetch_add(&released, 1);
    }
    return NULL;
}

static void test_only_one_of_many_releases_a_token(void) {
    set_up();
    for (int round = 0; round < 200; round++) {
        pthread_t threads[THREADS];
        uint64_t token = pl_topology_try_acquire(topology);
        atomic_store(&started, 0);
        atomic_store(&released, 0);
        for (int i = 0; i < THREADS; i++) {
            threads[i] = thread_start(release_too, &token);
        }
        for (int i = 0; i < THREADS; i++) {
            thread_join(threads[i]);
        }
        CHECK(atomic_load(&released) == 1);
    }
    tear_down();
}

static void *wait_for_the_token(void *token) {
    for (;;) {
        uint32_t key = pl_event_prepare(event);
        if ((*(uint64_t *)token = pl_topology_try_acquire(topology)) != 0) {
            return NULL;
        }
        CHECK(pl_event_wait(event, key, -1) == 1);
    }
}

static void test_release_wakes_whoever_waits_and_a_wrong_one_lets_nobody_in(void) {
    set_up();
    uint64_t token = pl_topology_try_acquire(topology), next = 0;
    pthread_t waiter = thread_start(wait_for_the_token, &next);
    AWAIT(pl_event_waiters(event) == 1);
    CHECK(pl_topology_release(topology, token + 1) == -1);
    CHECK(pl_topology_holder(topology) == token);
    CHECK(pl_topology_release(topology, token) == 0);
    thread_join(waiter);
    CHECK(next > token && pl_topology_holder(topology) == next);
    tear_down();
}

/* What is under the token is plain: ThreadSanitizer sees it if acquiring does not see all that
 * was done before. */

static uint64_t last_token;
static long entries;

static void *go_through(void *seed) {
    inject_delays(random_seed((uintptr_t)seed, 0), 8);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t token;
        while ((token = pl_topology_try_acquire(topology)) == 0) {
            /* A holder that is seen meanwhile is a token, or none: never one whose number is not
             * given yet. */
            CHECK(pl_topology_holder(topology) <= (uint64_t)THREADS * ROUNDS);
            CHECK(pl_topology_release(topology, UINT64_MAX) == -1);
        }
        CHECK(token > last_token);
        last_token = token;
        entries++;
        CHECK(pl_topology_release(topology, token) == 0);
    }
    return NULL;
}

static void test_many_threads_go_through_one_at_a_time(void) {
    set_up();
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        threads[i] = thread_start(go_through, (void *)(uintptr_t)(i + 1));
    }
    for (int i = 0; i < THREADS; i++) {
        thread_join(threads[i]);
    }
    CHECK(entries == (long)THREADS * ROUNDS);
    tear_down();
}

int main(void) {
    check_begin(0);
    RUN(test_one_token_is_out_at_a_time_and_numbers_go_up);
    RUN(test_token_that_is_not_out_is_recognised);
    RUN(test_token_changes_threads);
    RUN(test_only_one_of_many_releases_a_token);
    RUN(test_release_wakes_whoever_waits_and_a_wrong_one_lets_nobody_in);
    RUN(test_many_threads_go_through_one_at_a_time);
    return 0;
}
