/* condition: a condition variable whose deadlines are on pl_now's clock. Internal to the core: cffi
 * does not see it.
 *
 * Protects: nothing.
 * Requires: the including file defines _POSIX_C_SOURCE first, except on macOS, where the clock of a
 * condition variable cannot be chosen and a wait takes a duration in place of a deadline.
 * Blocks: pl_condition_wait, up to its deadline.
 * Threads: any. */
#ifndef PL_CONDITION_H
#define PL_CONDITION_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* A day, in nanoseconds. A deadline may be further ahead than a time_t of 32 bits can hold; such a
 * sleep is split. */
#define PL_LONGEST_SLEEP INT64_C(86400000000000)

static inline void pl_condition_init(pthread_cond_t *condition) {
#if defined(__APPLE__)
    pthread_cond_init(condition, NULL);
#else
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
#endif
}

/* Returns the end of a sleep that may last until `deadline`; `now` is a recent result of pl_now. */
static inline struct timespec pl_condition_time(int64_t now, int64_t deadline) {
    if (deadline - now > PL_LONGEST_SLEEP) {
        deadline = now + PL_LONGEST_SLEEP;
    }
    return (struct timespec){.tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000};
}

/* Sleeps until a signal, or until `deadline` (negative: none); `now` is a recent result of pl_now.
 * May return early. */
static inline void pl_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t now,
                                     int64_t deadline) {
    if (deadline < 0) {
        pthread_cond_wait(condition, mutex);
        return;
    }
#if defined(__APPLE__)
    struct timespec time = pl_condition_time(0, deadline - now);
    pthread_cond_timedwait_relative_np(condition, mutex, &time);
#else
    struct timespec time = pl_condition_time(now, deadline);
    pthread_cond_timedwait(condition, mutex, &time);
#endif
}

#endif
