/* futex, by many threads at once: turns, a lock, and a count of wake-ups.
 *
 *     ./test_futex_stress          a short one, with a seed of its own that it prints
 *     ./test_futex_stress SEED     the same seed makes the same choices
 */
#include "check.h"
#include "made.h"

#include "futex.h"

enum {
    PAIRS = 3,
    TURNS = 1500,
    LOCKERS = 4,
    LOCKINGS = 1500,
    SLEEPERS = 4,
    SLEEPS = 1500,
    DELAYED = 16
};

static uint64_t seed;
static pl_event *event;
static pl_cancel *cancel;
static pl_futex *futex;

static void set_up(void) {
    event = new_event();
    cancel = new_cancel(event);
    futex = new_futex(cancel);
}

static void tear_down(void) {
    free_futex(futex);
    free_cancel(cancel);
    free_event(event);
}

/* What a thread begins with; each has a number of its own. */
static uint64_t begin(uintptr_t number) {
    inject_delays(random_seed(seed, 2 * number), DELAYED);
    return random_seed(seed, 2 * number + 1);
}

static uint64_t key_of(const void *cell) { return (uintptr_t)cell; }

/* Two take turns at a cell. Nobody else wakes them: what is lost once is lost for good. */

static _Atomic uint32_t turns[PAIRS];

static void *take_turns(void *number) {
    uint32_t mine = (uintptr_t)number % 2;
    _Atomic uint32_t *turn = &turns[(uintptr_t)number / 2];
    begin((uintptr_t)number);
    for (int i = 0; i < TURNS; i++) {
        while (atomic_load(turn) != mine) {
            pl_wait_options until = {.timeout = -1};
            int result = pl_futex_wait32(futex, key_of(turn), turn, 1 - mine, &until);
            CHECK(result == PL_WAITED_WOKEN || result == PL_WAITED_NOT_EQUAL);
        }
        atomic_store(turn, 1 - mine);
        CHECK(pl_futex_wake(futex, key_of(turn), UINT32_MAX) <= 1);
    }
    return NULL;
}

static void test_turns_are_taken_without_end(void) {
    pthread_t threads[2 * PAIRS];
    set_up();
    for (uintptr_t i = 0; i < 2 * PAIRS; i++) {
        threads[i] = thread_start(take_turns, (void *)i);
    }
    for (int i = 0; i < 2 * PAIRS; i++) {
        thread_join(threads[i]);
    }
    tear_down();
}

/* A lock as guests make it of a word: free, held, or held and waited for. */

enum { FREE, HELD, WAITED_FOR };

static _Atomic uint64_t word;
static long guarded;

static void lock(uint64_t *chance) {
    uint64_t seen = FREE;
    if (atomic_compare_exchange_strong(&word, &seen, HELD)) {
        return;
    }
    for (;;) {
        seen = FREE;
        if (atomic_compare_exchange_strong(&word, &seen, WAITED_FOR)) {
            return;
        }
        if (seen == WAITED_FOR || atomic_compare_exchange_strong(&word, &seen, WAITED_FOR)) {
            pl_wait_options until = {.timeout = random_below(chance, 4) == 0
                                                    ? (int64_t)random_below(chance, 100000)
                                                    : -1};
            CHECK(pl_futex_wait64(futex, key_of(&word), &word, WAITED_FOR, &until) >= 0);
        }
    }
}

static void unlock(void) {
    if (atomic_fetch_sub(&word, 1) != HELD) {
        atomic_store(&word, FREE);
        CHECK(pl_futex_wake(futex, key_of(&word), 1) <= 1);
    }
}

static void *count_under_lock(void *number) {
    uint64_t chance = begin((uintptr_t)number);
    for (int i = 0; i < LOCKINGS; i++) {
        lock(&chance);
        guarded++;
        unlock();
    }
    return NULL;
}

static void test_lock_of_a_word_excludes_and_lets_everybody_in(void) {
    pthread_t threads[LOCKERS];
    set_up();
    for (uintptr_t i = 0; i < LOCKERS; i++) {
        threads[i] = thread_start(count_under_lock, (void *)i);
    }
    for (int i = 0; i < LOCKERS; i++) {
        thread_join(threads[i]);
    }
    CHECK(guarded == (long)LOCKERS * LOCKINGS && atomic_load(&word) == FREE);
    tear_down();
}

/* Wakes meet timeouts: each counted waiter was woken, and the reverse. */

static uint32_t constant;
static atomic_int sleepers_left;
static atomic_long woken;

static void *sleep_briefly(void *number) {
    uint64_t chance = begin((uintptr_t)number);
    for (int i = 0; i < SLEEPS; i++) {
        pl_wait_options until = {.timeout = random_below(&chance, 50000)};
        int64_t before = pl_now();
        int result = pl_futex_wait32(futex, key_of(&constant), &constant, 0, &until);
        CHECK(result == PL_WAITED_WOKEN ||
              (result == PL_WAITED_TIMED_OUT && pl_now() - before >= until.timeout));
        if (result == PL_WAITED_WOKEN) {
            atomic_fetch_add(&woken, 1);
        }
    }
    atomic_fetch_sub(&sleepers_left, 1);
    return NULL;
}

static void test_time_outs_and_wake_ups_add_up(void) {
    pthread_t threads[SLEEPERS];
    uint64_t chance = random_seed(seed, 100);
    long counted = 0;
    set_up();
    atomic_store(&sleepers_left, SLEEPERS);
    for (uintptr_t i = 0; i < SLEEPERS; i++) {
        threads[i] = thread_start(sleep_briefly, (void *)i);
    }
    while (atomic_load(&sleepers_left) != 0) {
        uint32_t count = random_below(&chance, SLEEPERS);
        uint32_t answer = pl_futex_wake(futex, key_of(&constant), count);
        CHECK(answer <= count);
        counted += answer;
        if (random_below(&chance, 4) != 0) {
            sched_yield();
        }
    }
    for (int i = 0; i < SLEEPERS; i++) {
        thread_join(threads[i]);
    }
    CHECK(counted == atomic_load(&woken) && counted != 0);
    CHECK(pl_futex_waiters(futex, key_of(&constant)) == 0);
    tear_down();
}

int main(int count, char **arguments) {
    check_begin(0);
    seed = count > 1 ? strtoull(arguments[1], NULL, 10) : (uint64_t)time(NULL);
    snprintf(check_note, sizeof check_note, ", to repeat: test_futex_stress %llu",
             (unsigned long long)seed);
    puts(check_note + 2);
    RUN(test_turns_are_taken_without_end);
    RUN(test_lock_of_a_word_excludes_and_lets_everybody_in);
    RUN(test_time_outs_and_wake_ups_add_up);
    return 0;
}
