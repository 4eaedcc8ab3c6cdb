/* event: how every waiter of one linker sleeps and is woken.
 *
 * An eventcount: a waiter reads the count, looks at its condition, and sleeps only while the
 * count has not moved. A notifier makes the condition true and moves the count. So no lock is
 * shared with what the condition is made of, and no wake-up is lost.
 *
 * States: a count, how many sleep, and how long a waiter looks at the count before it sleeps.
 * Memory order: SeqCst, which makes "announce, then compare the count" (a wait) and "move the
 * count, then look for sleepers" (a notification) see each other. Blocking: only pl_event_wait.
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
    /* nanoseconds between two looks at a `check`: well below the 0.2 s in which Ctrl-C must act */
    PL_SLICE = 50000000
};

/* Looks for a reason to stop waiting, on the waiting thread; answers 0 to go on. */
typedef int (*pl_check)(uintptr_t handle);

/* Sleeps in the kernel on the count itself: see event.c. PL_EVENT_CONDITION asks for a condition
 * variable there, too, for its tests. */
#if defined(__linux__) && defined(__LP64__) &&                                                     \
    !defined(PL_EVENT_CONDITION) /* a timespec of 32 bits has a call of its own */
#define PL_EVENT_FUTEX 1
#else
#define PL_EVENT_FUTEX 0
#endif

/* Discipline: all atomic, the hints relaxed. */
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

/* Makes an event on which no thread waits. It never fails. */
void pl_event_init(pl_event *event);
/* No thread may wait on it any more. */
void pl_event_destroy(pl_event *event);

/* The count to give to pl_event_wait; look at the condition after this call. */
uint32_t pl_event_prepare(pl_event *event);
/* Sleeps until the count has moved past `key` or the deadline (pl_now's clock; negative: none)
 * is reached. Answers 1, or 0 at the deadline. May return early; the caller looks at its
 * condition again. */
int pl_event_wait(pl_event *event, uint32_t key, int64_t deadline);
/* Wakes every waiter. Cheap when there is none: one atomic addition and one load. */
void pl_event_notify(pl_event *event);
/* From now on a waiter looks at the count for so many nanoseconds before it sleeps: for waits
 * that are shorter than being woken takes. If not everybody who is waited for has a processor,
 * it `yields` its own between two looks. 0 at first. Relaxed: a waiter that does not see it yet
 * sleeps at once, or looks in vain. */
void pl_event_set_spin(pl_event *event, int64_t nanoseconds, int yields);
/* When a waiter last yielded to somebody who kept the processor for more than a millisecond,
 * which nobody does who is about to move the count; it stopped looking then. 0: never. */
int64_t pl_event_last_delay(pl_event *event);
/* How many threads sleep here now; for tests. */
uint32_t pl_event_waiters(pl_event *event);

/* How many processors this process may use. */
size_t pl_processors(void);
/* Nanoseconds on a clock that only goes forward. */
int64_t pl_now(void);
/* The deadline that lies `timeout` nanoseconds ahead; negative stays negative (none). */
int64_t pl_deadline(int64_t timeout);

#endif
