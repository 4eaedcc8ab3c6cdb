/* check: the common parts of the tests of the core: checks, a deadline for the whole program,
 * threads, and the bodies of inject.h.
 *
 * A test waits for a condition with AWAIT, never for a time. If the condition does not become true,
 * the deadline ends the program and names the running test. So a test that hangs fails, and a test
 * that passes has not slept.
 *
 *     cc -std=c11 -pthread -Icsrc -include csrc/tests/inject.h \
 *         csrc/tests/test_topology.c csrc/[a-z]*.c -o test_topology
 *
 * Every program prints one line a test and exits with 0, or stops at the first check that fails. */
#ifndef PL_CHECK_H
#define PL_CHECK_H

#include "inject.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#ifndef PL_TEST_DEADLINE
/* seconds for a whole program: enough for the slowest under ThreadSanitizer beside a dozen
 * others */
#define PL_TEST_DEADLINE 150
#endif

static const char *_Atomic check_test = "the start"; /* the running test */
/* additional text of a failure, such as a seed; written before threads start */
static char check_note[80];

static inline _Noreturn void check_failed(int status, const char *file, int line,
                                          const char *what) {
    fflush(stdout);
    const char *test = atomic_load_explicit(&check_test, memory_order_relaxed);
    fprintf(stderr, "%s:%d: %s, in %s%s\n", file, line, what, test, check_note);
    _Exit(status); /* other threads are still running: nothing they use is freed */
}

#define CHECK(condition) ((condition) ? (void)0 : check_failed(1, __FILE__, __LINE__, #condition))

#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        while (!(condition))                                                                       \
            sched_yield();                                                                         \
    } while (0)

#define RUN(test)                                                                                  \
    do {                                                                                           \
        atomic_store(&check_test, #test);                                                          \
        test();                                                                                    \
        puts(#test);                                                                               \
    } while (0)

/* The deadline. A thread waits for the alarm, because a sanitizer may defer a handler. */

static inline void *check_watch(void *signals) {
    int number;
    sigwait(signals, &number);
    check_failed(124, "deadline", PL_TEST_DEADLINE, "some wait was never over");
}

/* The first call of a program: sets its deadline PL_TEST_DEADLINE seconds from now, and `more` for
 * a long run. */
static inline void check_begin(unsigned more) {
    static sigset_t signals;
    pthread_t watch;
    sigemptyset(&signals);
    sigaddset(&signals, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    CHECK(pthread_create(&watch, NULL, check_watch, &signals) == 0);
    pthread_detach(watch);
    alarm(PL_TEST_DEADLINE + more);
}

/* Threads. */

static inline pthread_t thread_start(void *(*body)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, argument) == 0);
    return thread;
}

static inline void thread_join(pthread_t thread) { CHECK(pthread_join(thread, NULL) == 0); }

/* Releases two threads at nearly the same moment; for steps that must not be reordered. */
static inline void start_together(atomic_int *count, int both) {
    atomic_fetch_add(count, 1);
    for (int spins = 0; atomic_load(count) < both; spins++) {
        if (spins > 1000) {
            sched_yield(); /* the other thread has no processor */
        }
    }
}

/* Random numbers: the same seed makes the same choices. */

static inline uint64_t random_next(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

static inline unsigned random_below(uint64_t *state, unsigned bound) {
    return (unsigned)((random_next(state) >> 32) % bound);
}

/* A seed for the thread, or the purpose, with this number. */
static inline uint64_t random_seed(uint64_t seed, uint64_t number) {
    uint64_t state =
        (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) + number * UINT64_C(0xD1B54A32D192ED03);
    state = state == 0 ? 1 : state;
    random_next(&state);
    return state;
}

/* The bodies of inject.h. */

static _Thread_local uint64_t inject_state; /* 0: this thread has no delays */
static _Thread_local unsigned inject_rate;
static _Thread_local void (*inject_act)(void); /* NULL: no action */
static _Thread_local unsigned inject_steps;
static _Thread_local unsigned inject_yields; /* the number of calls of sched_yield by the thread */
static _Thread_local unsigned inject_taken;  /* the number of its atomic steps and mutexes */
static atomic_long inject_memory =
    -1; /* the number of allocations that still succeed; negative: all */

/* From now on one in `rate` of the calling thread's atomic steps and mutexes is delayed. */
static inline void inject_delays(uint64_t seed, unsigned rate) {
    inject_state = seed;
    inject_rate = rate;
}

/* Calls `act` once, on this thread, after `steps` of its atomic steps. A loop with one more step
 * each time, until inject_is_over, covers every moment at which another thread could act. */
static inline void inject_between(unsigned steps, void (*act)(void)) {
    inject_steps = steps;
    inject_act = act;
}

/* Returns 1 if there were fewer steps; `act` is not called any more then. */
static inline int inject_is_over(void) {
    int is_over = inject_act != NULL;
    inject_act = NULL;
    return is_over;
}

static inline void inject_too_many(void) {
    check_failed(1, __FILE__, __LINE__, "a call that never blocks does not end");
}

/* Evaluates a call that must not block, and returns the number of its SeqCst steps and mutexes. It
 * fails after 1,000 of them. */
#define INJECT_STEPS(count, call)                                                                  \
    do {                                                                                           \
        unsigned inject_before = inject_taken;                                                     \
        inject_between(1000, inject_too_many);                                                     \
        call;                                                                                      \
        CHECK(inject_is_over());                                                                   \
        (count) = inject_taken - inject_before;                                                    \
    } while (0)

int inject_yield(void) {
    inject_yields++;
    return (sched_yield)();
}

void inject_delay(void) {
    inject_taken++;
    if (inject_act != NULL && inject_steps-- == 0) {
        void (*act)(void) = inject_act;
        inject_act = NULL;
        act();
    }
    if (inject_state == 0 || random_below(&inject_state, inject_rate) != 0) {
        return;
    }
    unsigned dice = random_below(&inject_state, 8);
    if (dice == 0) {
        struct timespec time = {.tv_sec = 0, .tv_nsec = random_below(&inject_state, 100000)};
        nanosleep(&time, NULL);
    } else if (dice < 4) {
        (sched_yield)();
    } else {
        for (volatile unsigned spins = random_below(&inject_state, 1000); spins != 0; spins--) {
        }
    }
}

static inline int inject_refuses(void) {
    long left = atomic_load_explicit(&inject_memory, memory_order_relaxed);
    if (left > 0) {
        atomic_store_explicit(&inject_memory, left - 1, memory_order_relaxed);
    }
    return left == 0;
}

void *inject_malloc(size_t size) { return inject_refuses() ? NULL : (malloc)(size); }

void *inject_calloc(size_t count, size_t size) {
    return inject_refuses() ? NULL : (calloc)(count, size);
}

void *inject_realloc(void *memory, size_t size) {
    return inject_refuses() ? NULL : (realloc)(memory, size);
}

#endif
