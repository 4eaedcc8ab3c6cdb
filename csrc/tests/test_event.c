/* event: no wake-up is lost, a deadline is kept, and a wait ends only for one of the two. */
#include "check.h"
#include "made.h"

#include "event.h"

enum { WAITERS = 8, ROUNDS = 20000, GENERATIONS = 2000, MILLISECOND = 1000000 };

static void test_clock_goes_forward_and_deadlines_lie_ahead(void) {
    int64_t before = pl_now();
    CHECK(before > 0 && pl_now() >= before);
    int64_t deadline = pl_deadline(MILLISECOND);
    CHECK(deadline >= before + MILLISECOND && deadline <= pl_now() + MILLISECOND);
    CHECK(pl_deadline(0) <= pl_now());
    CHECK(pl_deadline(-1) < 0 && pl_deadline(INT64_MIN) < 0);
    CHECK(pl_deadline(INT64_MAX) == INT64_MAX);
}

static void test_wait_is_over_when_the_count_moved_before(void) {
    pl_event *event = new_event();
    uint32_t key = pl_event_prepare(event);
    CHECK(pl_event_prepare(event) == key);
    pl_event_notify(event);
    CHECK(pl_event_prepare(event) != key);
    CHECK(pl_event_wait(event, key, -1) == 1);
    CHECK(pl_event_wait(event, key, 0) == 1); /* moved counts more than late */
    CHECK(pl_event_waiters(event) == 0);
    free_event(event);
}

static void test_wait_ends_at_its_deadline(void) {
    pl_event *event = new_event();
    uint32_t key = pl_event_prepare(event);
    CHECK(pl_event_wait(event, key, 0) == 0);
    CHECK(pl_event_wait(event, key, pl_now()) == 0);
    int64_t deadline = pl_deadline(2 * MILLISECOND);
    CHECK(pl_event_wait(event, key, deadline) == 0);
    CHECK(pl_now() >= deadline);
    CHECK(pl_event_waiters(event) == 0);
    free_event(event);
}

struct waiter {
    pl_event *event;
    int64_t deadline;
    int result;
};

static void *wait_once(void *argument) {
    struct waiter *waiter = argument;
    waiter->result =
        pl_event_wait(waiter->event, pl_event_prepare(waiter->event), waiter->deadline);
    return NULL;
}

static void test_notify_wakes_every_waiter(void) {
    pl_event *event = new_event();
    struct waiter waiters[WAITERS];
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        /* No deadline, and one that is further away than some systems can count. */
        waiters[i] =
            (struct waiter){.event = event, .deadline = i % 2 ? -1 : INT64_MAX, .result = -1};
        threads[i] = thread_start(wait_once, &waiters[i]);
    }
    AWAIT(pl_event_waiters(event) == WAITERS);
    pl_event_notify(event);
    for (int i = 0; i < WAITERS; i++) {
        thread_join(threads[i]);
        CHECK(waiters[i].result == 1);
    }
    CHECK(pl_event_waiters(event) == 0);
    free_event(event);
}

static pl_event *looked_at;

static void notify_the_sleepless(void) {
    CHECK(pl_event_waiters(looked_at) == 0);
    pl_event_notify(looked_at);
}

static void test_a_waiter_that_looks_does_not_sleep(void) {
    looked_at = new_event();
    pl_event_set_spin(looked_at, INT64_C(1000) * 1000000000, 0);
    uint32_t key = pl_event_prepare(looked_at);
    inject_between(100, notify_the_sleepless); /* as many looks later; a sleeper makes no steps */
    CHECK(pl_event_wait(looked_at, key, -1) == 1);
    CHECK(pl_event_waiters(looked_at) == 0);
    free_event(looked_at);
}

static void test_a_look_ends_with_the_deadline(void) {
    pl_event *event = new_event();
    pl_event_set_spin(event, INT64_C(1000) * 1000000000, 0);
    int64_t deadline = pl_deadline(2 * MILLISECOND);
    CHECK(pl_event_wait(event, pl_event_prepare(event), deadline) == 0);
    CHECK(pl_now() >= deadline);
    free_event(event);
}

static void test_who_has_looked_in_vain_sleeps(void) {
    pl_event *event = new_event();
    pl_event_set_spin(event, MILLISECOND, 0);
    struct waiter waiter = {.event = event, .deadline = -1, .result = -1};
    pthread_t thread = thread_start(wait_once, &waiter);
    AWAIT(pl_event_waiters(event) == 1);
    pl_event_notify(event);
    thread_join(thread);
    CHECK(waiter.result == 1);
    pl_event_set_spin(event, 0, 0);
    thread = thread_start(wait_once, &waiter);
    AWAIT(pl_event_waiters(event) == 1);
    pl_event_notify(event);
    thread_join(thread);
    free_event(event);
}

static void oversleep(void) {
    struct timespec time = {.tv_sec = 0, .tv_nsec = 3 * MILLISECOND};
    nanosleep(&time, NULL);
}

static void test_delayed_waiter_stops_spinning(void) {
    pl_event *event = new_event();
    pl_event_set_spin(event, INT64_C(1000) * 1000000000, 1);
    int64_t before = pl_now();
    inject_between(100, oversleep); /* as if another process had the processor */
    struct waiter waiter = {.event = event, .deadline = -1, .result = -1};
    CHECK(pl_event_last_delay(event) == 0);
    CHECK(pl_event_wait(event, pl_event_prepare(event), pl_deadline(20 * MILLISECOND)) == 0);
    CHECK(pl_event_last_delay(event) > before && pl_event_last_delay(event) < pl_now());
    pl_event_set_spin(event, MILLISECOND, 1);
    pthread_t thread = thread_start(wait_once, &waiter);
    AWAIT(pl_event_waiters(event) == 1);
    pl_event_notify(event);
    thread_join(thread);
    CHECK(waiter.result == 1);
    free_event(event);
}

static void test_there_is_a_processor(void) { CHECK(pl_processors() >= 1); }

/* Two threads that take turns. Nobody else notifies: a wake-up that is lost once is lost for
 * good. */

struct game {
    pl_event *event;
    atomic_int turn;
    uint64_t seed;
};

static void play(struct game *game, int mine) {
    for (int i = 0; i < ROUNDS; i++) {
        for (;;) {
            uint32_t key = pl_event_prepare(game->event);
            if (atomic_load(&game->turn) == mine) {
                break;
            }
            CHECK(pl_event_wait(game->event, key, -1) == 1);
        }
        atomic_store(&game->turn, 1 - mine);
        pl_event_notify(game->event);
    }
}

static void *play_second(void *argument) {
    struct game *game = argument;
    inject_delays(game->seed, 16);
    play(game, 1);
    return NULL;
}

static void test_no_wakeup_is_lost_between_two(void) {
    struct game game = {.event = new_event(), .seed = random_seed((uint64_t)pl_now(), 1)};
    pthread_t second = thread_start(play_second, &game);
    inject_delays(random_seed((uint64_t)pl_now(), 0), 16);
    play(&game, 0);
    inject_delays(0, 1);
    thread_join(second);
    free_event(game.event);
}

/* One thread moves a generation on only when every waiter has seen the last. */

struct crowd {
    pl_event *event;
    atomic_int generation;
    atomic_int seen;
};

static void *watch_generations(void *argument) {
    struct crowd *crowd = argument;
    for (int next = 1; next <= GENERATIONS; next++) {
        for (;;) {
            uint32_t key = pl_event_prepare(crowd->event);
            if (atomic_load(&crowd->generation) >= next) {
                break;
            }
            CHECK(pl_event_wait(crowd->event, key, -1) == 1);
        }
        atomic_fetch_add(&crowd->seen, 1);
        pl_event_notify(crowd->event);
    }
    return NULL;
}

static void test_no_wakeup_is_lost_in_a_crowd(void) {
    struct crowd crowd = {.event = new_event()};
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        threads[i] = thread_start(watch_generations, &crowd);
    }
    for (int next = 1; next <= GENERATIONS; next++) {
        atomic_store(&crowd.generation, next);
        pl_event_notify(crowd.event);
        for (;;) {
            uint32_t key = pl_event_prepare(crowd.event);
            if (atomic_load(&crowd.seen) == next * WAITERS) {
                break;
            }
            CHECK(pl_event_wait(crowd.event, key, -1) == 1);
        }
    }
    for (int i = 0; i < WAITERS; i++) {
        thread_join(threads[i]);
    }
    free_event(crowd.event);
}

/* What is not lost in a storm is the deadline. */

static atomic_int storm_is_over;

static void *notify_without_end(void *event) {
    while (!atomic_load(&storm_is_over)) {
        pl_event_notify(event);
    }
    return NULL;
}

static void test_deadline_is_reached_while_others_notify(void) {
    pl_event *event = new_event();
    pthread_t storm[2] = {thread_start(notify_without_end, event),
                          thread_start(notify_without_end, event)};
    int64_t deadline = pl_deadline(5 * MILLISECOND);
    while (pl_event_wait(event, pl_event_prepare(event), deadline)) {
    }
    CHECK(pl_now() >= deadline);
    atomic_store(&storm_is_over, 1);
    thread_join(storm[0]);
    thread_join(storm[1]);
    free_event(event);
}

int main(void) {
    check_begin(0);
    RUN(test_clock_goes_forward_and_deadlines_lie_ahead);
    RUN(test_wait_is_over_when_the_count_moved_before);
    RUN(test_wait_ends_at_its_deadline);
    RUN(test_notify_wakes_every_waiter);
    RUN(test_a_waiter_that_looks_does_not_sleep);
    RUN(test_a_look_ends_with_the_deadline);
    RUN(test_who_has_looked_in_vain_sleeps);
    RUN(test_delayed_waiter_stops_spinning);
    RUN(test_there_is_a_processor);
    RUN(test_no_wakeup_is_lost_between_two);
    RUN(test_no_wakeup_is_lost_in_a_crowd);
    RUN(test_deadline_is_reached_while_others_notify);
    return 0;
}
