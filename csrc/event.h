/* event: sleeps and wakes the waiters of one linker.
 *
 * An eventcount: a waiter reads the count, checks its condition, and sleeps only while the count
 * has not changed. A notifier makes the condition true and increments the count. So the condition
 * needs no common lock, and no wake-up is lost.
 *
 * States: a count, the number of sleepers, and the time for which a waiter spins before it sleeps.
 * Protects: nothing.
 * Blocks: pl_event_wait only.
 * Memory order: SeqCst, so that one of "announce, then compare the count" (a wait) and "increment
 * the count, then check for sleepers" (a notification) sees the other.
 * Threads: any, at once.
 *
 *     for (;;) {
 *         uint32_t key = pl_event_prepare(event);
 *         if (condition()) break;
 *         if (!pl_event_wait(event, key, pl_deadline(timeout))) return TIMEOUT;
 *     } */
#ifndef PL_EVENT_H
#define PL_EVENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* nanoseconds between two calls of a `check`: well below the 0.2 s in which Ctrl-C must act */
    PL_SLICE = 50000000
};

/* An interrupt check, on the waiting thread; returns 0 to go on waiting. */
typedef int (*pl_check)(uintptr_t handle);

/* Sleeps in the kernel on the count itself: see event.c. PL_EVENT_CONDITION asks for a condition
 * variable there, too, for its tests. */
#if defined(__linux__) && defined(__LP64__) &&                                                     \
    !defined(PL_EVENT_CONDITION) /* a timespec of 32 bits has a call of its own */
#define PL_EVENT_FUTEX 1
#else
#define PL_EVENT_FUTEX 0
#endif

/* All fields are atomic; the hints are relaxed. */
typedef struct pl_event {
    _Atomic uint32_t count;
    _Atomic uint32_t sleepers;
    _Atomic int64_t spin_ns, last_delay; /* hints, like the next */
    atomic_int yields;
#if !PL_EVENT_FUTEX
    pthread_mutex_t mutex;
    pthread_cond_t moved; /* with mutex */
#endif
} pl_event;

/* Initializes an event without waiters. Never fails. */
void pl_event_init(pl_event *event);
/* Requires that no thread waits any more. */
void pl_event_destroy(pl_event *event);

/* Returns the count, the `key` of pl_event_wait; the caller checks its condition after this
 * call. */
uint32_t pl_event_prepare(pl_event *event);
/* Sleeps until the count differs from `key` or the deadline (pl_now's clock; negative: none) is
 * reached. Returns 1, or 0 at the deadline. May return early; the caller checks its condition
 * again. */
int pl_event_wait(pl_event *event, uint32_t key, int64_t deadline);
/* Wakes every waiter. Without waiters it costs one atomic addition and one load. */
void pl_event_notify(pl_event *event);
/* Sets the time for which a waiter spins before it sleeps, for waits that are shorter than a
 * wake-up takes. With `yields` a waiter yields its processor between two checks, to a thread that
 * may be the awaited one. 0 at first. Relaxed: a waiter that does not see it yet sleeps at once, or
 * spins in vain. */
void pl_event_set_spin(pl_event *event, int64_t nanoseconds, int yields);
/* Returns when the last yield of a waiter took over a millisecond, 0 if never. A thread that is
 * about to increment the count does not take that long, so the waiter stopped spinning then. */
int64_t pl_event_last_delay(pl_event *event);
/* Returns the number of threads that sleep here now; for tests. */
uint32_t pl_event_waiters(pl_event *event);

/* Returns the number of processors that this process may use. */
size_t pl_processors(void);
/* Returns nanoseconds on a monotonic clock. */
int64_t pl_now(void);
/* Returns the deadline `timeout` nanoseconds ahead; negative stays negative (none). */
int64_t pl_deadline(int64_t timeout);

#endif
