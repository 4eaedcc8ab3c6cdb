/* condition: a condition variable whose deadlines are on pl_now's clock. Internal to the core: cffi does not see it.
 *
 * Whoever includes it defines _POSIX_C_SOURCE first, except on macOS, where the clock of a condition variable cannot be chosen and a wait
 * is told how long instead of until when.
 */
#ifndef PL_CONDITION_H
#define PL_CONDITION_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* A day, in nanoseconds: a deadline may lie further ahead than a time_t of 32 bits can say; then it is slept for in parts. */
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

/* Sleeps until it is signalled, or until `deadline` (negative: none); `now` is what pl_now has just said. May return early, for nothing. */
static inline void pl_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t now, int64_t deadline) {
    struct timespec time;
    if (deadline < 0) {
        pthread_cond_wait(condition, mutex);
        return;
    }
    if (deadline - now > PL_LONGEST_SLEEP) {
        deadline = now + PL_LONGEST_SLEEP;
    }
#if defined(__APPLE__)
    time.tv_sec = (deadline - now) / 1000000000;
    time.tv_nsec = (deadline - now) % 1000000000;
    pthread_cond_timedwait_relative_np(condition, mutex, &time);
#else
    time.tv_sec = deadline / 1000000000;
    time.tv_nsec = deadline % 1000000000;
    pthread_cond_timedwait(condition, mutex, &time);
#endif
}

#endif
