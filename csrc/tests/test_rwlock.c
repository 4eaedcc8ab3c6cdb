/* rwlock: readers beside readers and writers, the downgrade, poison, and waiting. */
#include "check.h"
#include "made.h"

#include "rwlock.h"

enum { READERS = 3, WRITERS = 3, ROUNDS = 3000, MILLISECOND = 1000000 };

static pl_event *event;
static pl_cancel *cancel;
static pl_rwlock *lock;

static void set_up(void) {
    event = new_event();
    cancel = new_cancel(event);
    lock = new_rwlock(event);
    CHECK(pl_rwlock_readers(lock) == 0);
}

static void tear_down(void) {
    free_rwlock(lock);
    free_cancel(cancel);
    free_event(event);
}

static void test_attempts_end_after_a_few_steps(void) {
    int result;
    unsigned steps;
    set_up();
    for (int state = 0; state < 4; state++) {
        if (state == 1) {
            CHECK(pl_rwlock_try_read(lock) == PL_ACQUIRED);
        } else if (state == 2) {
            pl_rwlock_release_read(lock);
            CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
        } else if (state == 3) {
            pl_rwlock_poison(lock);
        }
        INJECT_STEPS(steps, result = pl_rwlock_try_read(lock));
        CHECK(steps <= 10 && result == (state < 2    ? PL_ACQUIRED
                                        : state == 2 ? PL_BUSY
                                                     : PL_POISONED));
        if (result == PL_ACQUIRED) {
            pl_rwlock_release_read(lock);
        }
        INJECT_STEPS(steps, result = pl_rwlock_try_write(lock));
        CHECK(steps <= 10 && result == (state == 0  ? PL_ACQUIRED
                                        : state < 3 ? PL_BUSY
                                                    : PL_POISONED));
        if (result == PL_ACQUIRED) {
            pl_rwlock_release_write(lock);
        }
    }
    tear_down();
}

static void test_many_readers_keep_a_writer_out(void) {
    set_up();
    for (int readers = 1; readers <= 5; readers++) {
        CHECK(pl_rwlock_try_read(lock) == PL_ACQUIRED);
        CHECK(pl_rwlock_readers(lock) == readers);
        CHECK(pl_rwlock_try_write(lock) == PL_BUSY);
    }
    for (int readers = 4; readers >= 0; readers--) {
        CHECK(pl_rwlock_try_write(lock) == PL_BUSY);
        uint32_t key = pl_event_prepare(event);
        pl_rwlock_release_read(lock);
        CHECK(pl_rwlock_readers(lock) == readers);
        CHECK(readers > 0 || pl_event_prepare(event) != key); /* the last one wakes a writer */
    }
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    tear_down();
}

static void test_writer_keeps_everybody_out(void) {
    set_up();
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    CHECK(pl_rwlock_readers(lock) == -1);
    CHECK(pl_rwlock_try_read(lock) == PL_BUSY);
    CHECK(pl_rwlock_try_write(lock) == PL_BUSY);
    pl_rwlock_release_write(lock);
    CHECK(pl_rwlock_readers(lock) == 0);
    CHECK(pl_rwlock_try_read(lock) == PL_ACQUIRED);
    pl_rwlock_release_read(lock);
    tear_down();
}

static void test_downgrade_leaves_one_reader(void) {
    set_up();
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    pl_rwlock_downgrade(lock);
    CHECK(pl_rwlock_readers(lock) == 1);
    CHECK(pl_rwlock_try_write(lock) == PL_BUSY);
    CHECK(pl_rwlock_try_read(lock) == PL_ACQUIRED);
    pl_rwlock_release_read(lock);
    CHECK(pl_rwlock_try_write(lock) == PL_BUSY);
    pl_rwlock_release_read(lock);
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    tear_down();
}

static void test_poison_is_for_good(void) {
    set_up();
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    pl_rwlock_poison(lock);
    for (int i = 0; i < 2; i++) {
        CHECK(pl_rwlock_try_read(lock) == PL_POISONED);
        CHECK(pl_rwlock_try_write(lock) == PL_POISONED);
        CHECK(pl_rwlock_write(lock, cancel, -1) == PL_POISONED);
        CHECK(pl_rwlock_readers(lock) == 0);
    }
    tear_down();
}

static void test_write_takes_what_is_free_and_gives_up_in_time(void) {
    set_up();
    CHECK(pl_rwlock_write(lock, cancel, 0) == PL_ACQUIRED);
    CHECK(pl_rwlock_write(lock, cancel, 0) == PL_TIMEOUT);
    int64_t deadline = pl_deadline(MILLISECOND);
    CHECK(pl_rwlock_write(lock, cancel, MILLISECOND) == PL_TIMEOUT);
    CHECK(pl_now() >= deadline);
    pl_rwlock_downgrade(lock);
    CHECK(pl_rwlock_write(lock, cancel, MILLISECOND) == PL_TIMEOUT);
    pl_rwlock_release_read(lock);
    CHECK(pl_rwlock_write(lock, cancel, MILLISECOND) == PL_ACQUIRED);
    pl_cancel_set(cancel, 1);
    CHECK(pl_rwlock_write(lock, cancel, -1) == PL_CANCELLED);
    tear_down();
}

/* A writer that waits, and what ends its wait. */

static atomic_int written;

static void *write_and_tell(void *unused) {
    int result = pl_rwlock_write(lock, cancel, -1);
    atomic_store(&written, 1 + result);
    return unused;
}

static pthread_t start_writer(void) {
    atomic_store(&written, 0);
    pthread_t writer = thread_start(write_and_tell, NULL);
    AWAIT(pl_event_waiters(event) == 1);
    return writer;
}

static void test_waiting_writer_is_woken_by_the_last_reader(void) {
    set_up();
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    pthread_t writer = start_writer();
    uint32_t key = pl_event_prepare(event);
    pl_rwlock_downgrade(lock); /* a reader could come in now, the writer cannot */
    CHECK(pl_event_prepare(event) != key);
    CHECK(pl_rwlock_try_read(lock) == PL_ACQUIRED);
    pl_rwlock_release_read(lock);
    CHECK(atomic_load(&written) == 0 && pl_rwlock_readers(lock) == 1);
    pl_rwlock_release_read(lock);
    thread_join(writer);
    CHECK(atomic_load(&written) == 1 + PL_ACQUIRED && pl_rwlock_readers(lock) == -1);
    tear_down();
}

static void test_waiting_writer_is_woken_by_the_writer_before(void) {
    set_up();
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    pthread_t writer = start_writer();
    pl_rwlock_release_write(lock);
    thread_join(writer);
    CHECK(atomic_load(&written) == 1 + PL_ACQUIRED);
    pl_rwlock_release_write(lock); /* taken by another thread: guards are handed over */
    CHECK(pl_rwlock_readers(lock) == 0);
    tear_down();
}

static void test_waiting_writer_is_woken_by_poison(void) {
    set_up();
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    pthread_t writer = start_writer();
    pl_rwlock_poison(lock);
    thread_join(writer);
    CHECK(atomic_load(&written) == 1 + PL_POISONED);
    tear_down();
}

static void test_waiting_writer_is_woken_by_cancellation(void) {
    set_up();
    CHECK(pl_rwlock_try_read(lock) == PL_ACQUIRED);
    pthread_t writer = start_writer();
    pl_cancel_set(cancel, 1);
    thread_join(writer);
    CHECK(atomic_load(&written) == 1 + PL_CANCELLED && pl_rwlock_readers(lock) == 1);
    tear_down();
}

/* Writers change two numbers that readers find equal, and look again at what they wrote when
 * they have become readers. */

static long one, other;
static atomic_int writers_left;

static void *write_often(void *seed) {
    inject_delays(random_seed((uintptr_t)seed, 0), 8);
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2) {
            CHECK(pl_rwlock_write(lock, cancel, -1) == PL_ACQUIRED);
        } else {
            AWAIT(pl_rwlock_try_write(lock) == PL_ACQUIRED);
        }
        CHECK(one == other);
        one++;
        long mine = one;
        other++;
        if (i % 3) {
            pl_rwlock_downgrade(lock);
            CHECK(one == mine && other == mine); /* no other writer came between */
            CHECK(pl_rwlock_readers(lock) >= 1);
            pl_rwlock_release_read(lock);
        } else {
            pl_rwlock_release_write(lock);
        }
    }
    atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

static void *read_often(void *seed) {
    inject_delays(random_seed((uintptr_t)seed, 1), 8);
    while (atomic_load(&writers_left) != 0) {
        if (pl_rwlock_try_read(lock) == PL_ACQUIRED) {
            CHECK(one == other);
            pl_rwlock_release_read(lock);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void test_readers_and_writers_exclude_each_other_and_downgrades_have_no_gap(void) {
    set_up();
    pthread_t threads[READERS + WRITERS];
    atomic_store(&writers_left, WRITERS);
    for (uintptr_t i = 0; i < READERS + WRITERS; i++) {
        threads[i] =
            thread_start(i < WRITERS ? write_often : read_often, (void *)((uintptr_t)pl_now() + i));
    }
    for (int i = 0; i < READERS + WRITERS; i++) {
        thread_join(threads[i]);
    }
    CHECK(one == (long)WRITERS * ROUNDS && other == one);
    CHECK(pl_rwlock_readers(lock) == 0);
    tear_down();
}

int main(void) {
    check_begin(0);
    RUN(test_attempts_end_after_a_few_steps);
    RUN(test_many_readers_keep_a_writer_out);
    RUN(test_writer_keeps_everybody_out);
    RUN(test_downgrade_leaves_one_reader);
    RUN(test_poison_is_for_good);
    RUN(test_write_takes_what_is_free_and_gives_up_in_time);
    RUN(test_waiting_writer_is_woken_by_the_last_reader);
    RUN(test_waiting_writer_is_woken_by_the_writer_before);
    RUN(test_waiting_writer_is_woken_by_poison);
    RUN(test_waiting_writer_is_woken_by_cancellation);
    RUN(test_readers_and_writers_exclude_each_other_and_downgrades_have_no_gap);
    return 0;
}
