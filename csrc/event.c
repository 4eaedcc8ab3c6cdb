/* Discipline: `count` and `sleepers` are atomic; `mutex` orders going to sleep against waking: a waiter compares the count under
 * it, a notifier broadcasts under it, after moving the count. */
#if !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L /* condition variables on the monotonic clock */
#endif

#include "event.h"

#include "condition.h"

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

pl_event *pl_event_new(void) {
    pl_event *event = malloc(sizeof *event);
    if (event == NULL) {
        return NULL;
    }
    atomic_init(&event->count, 0);
    atomic_init(&event->sleepers, 0);
    pthread_mutex_init(&event->mutex, NULL);
    pl_condition_init(&event->moved);
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

int pl_event_wait(pl_event *event, uint32_t key, int64_t deadline) {
    int moved = 1;
    pthread_mutex_lock(&event->mutex);
    /* Announced before the count is compared: a notifier that misses us has moved the count before we compare it. */
    atomic_fetch_add(&event->sleepers, 1);
    while (atomic_load(&event->count) == key) {
        int64_t now = pl_now();
        if (deadline >= 0 && now >= deadline) {
            moved = 0;
            break;
        }
        pl_condition_wait(&event->moved, &event->mutex, now, deadline);
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
