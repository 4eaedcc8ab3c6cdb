/* Discipline: `count` and `sleepers` are atomic; `mutex` orders going to sleep against waking: a waiter compares the count under
 * it, a notifier broadcasts under it, after moving the count. */
#if !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L /* condition variables on the monotonic clock */
#endif

#include "event.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct pl_event {
    _Atomic uint32_t count;
    _Atomic uint32_t sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t moved; /* with mutex */
};

/* A day, in nanoseconds: a deadline may lie further ahead than a time_t of 32 bits can say; then it is slept for in parts. */
#define PL_LONGEST_SLEEP INT64_C(86400000000000)

#if defined(__APPLE__)
#define PL_RELATIVE_WAIT 1
#else
#define PL_RELATIVE_WAIT 0
#endif

pl_event *pl_event_new(void) {
    pl_event *event = malloc(sizeof *event);
    if (event == NULL) {
        return NULL;
    }
    atomic_init(&event->count, 0);
    atomic_init(&event->sleepers, 0);
    pthread_mutex_init(&event->mutex, NULL);
#if PL_RELATIVE_WAIT
    pthread_cond_init(&event->moved, NULL);
#else
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&event->moved, &attributes);
    pthread_condattr_destroy(&attributes);
#endif
    return event;
}

void pl_event_free(pl_event *event) {
    if (event != NULL) {
        pthread_cond_destroy(&event->moved);
        pthread_mutex_destroy(&event->mutex);
        free(event);
    }
}

uint32_t pl_event_prepare(pl_event *event) {
    return atomic_load(&event->count);
}

static void sleep_until(pl_event *event, int64_t now, int64_t deadline) {
    struct timespec time;
    if (deadline - now > PL_LONGEST_SLEEP) {
        deadline = now + PL_LONGEST_SLEEP;
    }
#if PL_RELATIVE_WAIT
    time.tv_sec = (deadline - now) / 1000000000;
    time.tv_nsec = (deadline - now) % 1000000000;
    pthread_cond_timedwait_relative_np(&event->moved, &event->mutex, &time);
#else
    time.tv_sec = deadline / 1000000000;
    time.tv_nsec = deadline % 1000000000;
    pthread_cond_timedwait(&event->moved, &event->mutex, &time);
#endif
}

int pl_event_wait(pl_event *event, uint32_t key, int64_t deadline) {
    int moved = 1;
    pthread_mutex_lock(&event->mutex);
    /* Announced before the count is compared: a notifier that misses us has moved the count before we compare it. */
    atomic_fetch_add(&event->sleepers, 1);
    while (atomic_load(&event->count) == key) {
        if (deadline < 0) {
            pthread_cond_wait(&event->moved, &event->mutex);
            continue;
        }
        int64_t now = pl_now();
        if (now >= deadline) {
            moved = 0;
            break;
        }
        sleep_until(event, now, deadline);
    }
    atomic_fetch_sub(&event->sleepers, 1);
    pthread_mutex_unlock(&event->mutex);
    return moved;
}

void pl_event_notify(pl_event *event) {
    atomic_fetch_add(&event->count, 1);
    if (atomic_load(&event->sleepers) != 0) {
        pthread_mutex_lock(&event->mutex);
        pthread_cond_broadcast(&event->moved);
        pthread_mutex_unlock(&event->mutex);
    }
}

uint32_t pl_event_waiters(pl_event *event) {
    return atomic_load(&event->sleepers);
}

int64_t pl_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t pl_deadline(int64_t timeout) {
    if (timeout < 0) {
        return -1;
    }
    int64_t now = pl_now();
    return timeout > INT64_MAX - now ? INT64_MAX : now + timeout;
}
