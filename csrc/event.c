/* Discipline: everything is atomic.
 *
 * On Linux a waiter sleeps in the kernel on the count itself, which the kernel compares with the
 * key first. So a woken waiter goes on at once: behind a condition variable the waiters would pass
 * its mutex one after the other, which the notifier still holds while it wakes them. On other
 * systems there is only a condition variable: `mutex` orders going to sleep against waking: a
 * waiter compares the count under it, a notifier broadcasts under it, after it has incremented the
 * count. */
#if defined(__linux__)
#define _GNU_SOURCE /* syscall, CPU_COUNT */
#elif !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L /* condition variables on the monotonic clock */
#endif

#include "event.h"

#include "condition.h"
#include "pause.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

#include <sched.h>
#include <time.h>
#include <unistd.h>

#if PL_EVENT_FUTEX
#include <limits.h>
#endif

/* nanoseconds */
enum { DELAY = 1000000 };

#if PL_EVENT_FUTEX

static void init(pl_event *event) { (void)event; }

static void destroy(pl_event *event) { (void)event; }

static void sleep_at(pl_event *event, uint32_t key, int64_t now, int64_t deadline) {
    struct timespec time;
    if (deadline >= 0) {
        time = pl_condition_time(now, deadline);
    }
    /* FUTEX_WAIT_BITSET takes a deadline, FUTEX_WAIT a duration. For each result (woken,
     * interrupted, timed out) the caller checks the count again. */
    syscall(SYS_futex, &event->count, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, key,
            deadline >= 0 ? &time : NULL, NULL, FUTEX_BITSET_MATCH_ANY);
}

static void wake(pl_event *event) {
    syscall(SYS_futex, &event->count, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
}

static void lock(pl_event *event) { (void)event; }

static void unlock(pl_event *event) { (void)event; }

#else

static void init(pl_event *event) {
    pthread_mutex_init(&event->mutex, NULL);
    pl_condition_init(&event->moved);
}

static void destroy(pl_event *event) {
    pthread_cond_destroy(&event->moved);
    pthread_mutex_destroy(&event->mutex);
}

static void sleep_at(pl_event *event, uint32_t key, int64_t now, int64_t deadline) {
    (void)key; /* compared under the mutex, which the wait releases */
    pl_condition_wait(&event->moved, &event->mutex, now, deadline);
}

static void wake(pl_event *event) {
    pthread_mutex_lock(&event->mutex);
    pthread_cond_broadcast(&event->moved);
    pthread_mutex_unlock(&event->mutex);
}

static void lock(pl_event *event) { pthread_mutex_lock(&event->mutex); }

static void unlock(pl_event *event) { pthread_mutex_unlock(&event->mutex); }

#endif

void pl_event_init(pl_event *event) {
    atomic_init(&event->count, 0);
    atomic_init(&event->sleepers, 0);
    atomic_init(&event->spin_ns, 0);
    atomic_init(&event->last_delay, 0);
    atomic_init(&event->yields, 0);
    init(event);
}

void pl_event_destroy(pl_event *event) { destroy(event); }

uint32_t pl_event_prepare(pl_event *event) { return atomic_load(&event->count); }

void pl_event_set_spin(pl_event *event, int64_t nanoseconds, int yields) {
    atomic_store_explicit(&event->spin_ns, nanoseconds, memory_order_relaxed);
    atomic_store_explicit(&event->yields, yields, memory_order_relaxed);
}

int64_t pl_event_last_delay(pl_event *event) {
    return atomic_load_explicit(&event->last_delay, memory_order_relaxed);
}

/* Spins on the count. Returns whether it has changed. */
static int spin(pl_event *event, uint32_t key, int64_t deadline) {
    int64_t nanoseconds = atomic_load_explicit(&event->spin_ns, memory_order_relaxed);
    if (nanoseconds <= 0) {
        return 0;
    }
    int yields = atomic_load_explicit(&event->yields, memory_order_relaxed);
    int64_t now = pl_now(), until = now + nanoseconds;
    if (deadline >= 0 && deadline < until) {
        until = deadline;
    }
    int delayed = 0;
    while (now < until && !delayed) {
        for (int i = 0; i < 16; i++) { /* reading the clock would dominate */
            if (atomic_load(&event->count) != key) {
                return 1;
            }
            pl_pause();
        }
        if (yields) {
            sched_yield();
        }
        int64_t before = now;
        now = pl_now();
        delayed = yields && now - before >= DELAY;
    }
    if (delayed) {
        atomic_store_explicit(&event->last_delay, now, memory_order_relaxed);
    }
    return atomic_load(&event->count) != key;
}

int pl_event_wait(pl_event *event, uint32_t key, int64_t deadline) {
    int moved = 1;
    if (spin(event, key, deadline)) {
        return moved;
    }
    lock(event);
    /* Announced before the count is compared: a notifier that does not see this sleeper has
     * incremented the count before the comparison. */
    atomic_fetch_add(&event->sleepers, 1);
    while (atomic_load(&event->count) == key) {
        int64_t now = pl_now();
        if (deadline >= 0 && now >= deadline) {
            moved = 0;
            break;
        }
        sleep_at(event, key, now, deadline);
    }
    atomic_fetch_sub(&event->sleepers, 1);
    unlock(event);
    return moved;
}

void pl_event_notify(pl_event *event) {
    atomic_fetch_add(&event->count, 1);
    if (atomic_load(&event->sleepers) != 0) {
        wake(event);
    }
}

uint32_t pl_event_waiters(pl_event *event) { return atomic_load(&event->sleepers); }

size_t pl_processors(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (size_t)CPU_COUNT(&set);
    }
#endif
    /* more processors than a cpu_set_t can hold, or another system */
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (size_t)count : 1;
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
