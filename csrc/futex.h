/* futex: where the threads of one program sleep on an address of its memory, and are woken in
 * the order in which they came.
 *
 * A waiter names a key (the guest's address), the cell with the value behind it, and the value
 * it expects: if the cell has another one, it does not sleep. A waker changes the cell and wakes
 * as many as it likes of those who wait on the key. Keys are hashed into buckets. A bucket is a
 * mutex and a queue of waiters, and each waiter sleeps on a condition variable of its own, so a
 * wake-up disturbs only those whom it is for.
 *
 * States of a waiter: queued; then woken, by a waker that has taken it out of the queue and
 * counted it; or gone, for another reason, by its own hand. All three change under the bucket's
 * mutex only, and a waiter looks whether it was woken before it gives any other reason. So a
 * wake-up that was counted is never lost to a time-out that comes at the same moment.
 *
 * No wake-up is lost. The waker first changes the cell, then takes the mutex and wakes. The
 * waiter takes the mutex, compares the cell, enters the queue, and gives the mutex up only in
 * its sleep. If the waiter had the mutex first, the waker finds it in the queue. If the waker
 * had it first, what it had written before is seen by the comparison, and the waiter does not
 * sleep.
 *
 * Cancelling the linker ends every wait at once. The cause takes the place of the cell in what
 * was just said: it is set first; then a hook (cancel.h) takes each mutex and has the waiters
 * look. A waiter could have slept on the linker's event instead, but then each of the frequent
 * notifications there would wake every sleeping guest; or for a slice at a time, but then the
 * end of a program would take a slice, and a sleeping guest would keep a processor busy. A nudge
 * works in the same way, for one waiter; it is a flag, so one that comes just before the wait is
 * not lost either. With `deliver` a nudge does not end the wait: the waiter hears what it is about
 * and sleeps on.
 *
 * `check`, which may wait for the GIL, is called every PL_SLICE nanoseconds, without the mutex;
 * so is `deliver`, which may do anything, wait here too. The waiter keeps its place meanwhile. If
 * it is woken during a call that ends its wait, the wake-up goes to the next in the queue.
 *
 * Memory order: the cell is loaded SeqCst, as wasm's own atomic accesses are. What a waker did
 * before is seen by whom it woke, through the mutex. Lock order: a bucket's mutex is a leaf;
 * nothing is taken and nobody called under it. Blocking: the two waits; the caller parks its
 * group around them (safepoint.h). Nothing else waits for more than a walk through a queue.
 * Threads: any.
 *
 *     pl_until until = {.timeout = -1};
 *     int before = pl_safepoint_park(safepoint);
 *     int result = pl_futex_wait32(futex, address, memory + address, expected, &until); */
#ifndef PL_FUTEX_H
#define PL_FUTEX_H

#include "cancel.h"
#include "event.h"
#include "flag.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* How a wait ended: the first three are the results of wasm's memory.atomic.wait32. */
enum pl_waited {
    PL_WAITED_WOKEN = 0, /* or nudged */
    PL_WAITED_NOT_EQUAL = 1,
    PL_WAITED_TIMED_OUT = 2,
    PL_WAITED_CANCELLED = -1,
    PL_WAITED_INTERRUPTED = -2 /* `check` or `deliver` said so */
};

/* What ends a wait besides a wake-up and a cancellation. */
typedef struct pl_until {
    /* nanoseconds from the call on, negative: none. Never early; late by what the system takes
     * to run the thread */
    int64_t timeout;
    pl_flag *nudge; /* set: do not wait. The wait that ends for it clears it. May be NULL */
    /* gets `deliver_handle` for a nudge, and clears it; not 0 ends the wait, else it goes on. May be
     * NULL */
    pl_check deliver;
    uintptr_t deliver_handle;
    pl_check check; /* gets `handle`; not 0 ends the wait. May be NULL */
    uintptr_t handle;
} pl_until;

enum { PL_FUTEX_BUCKETS = 64 };

struct pl_futex_waiter; /* on the stack of its thread, see futex.c */

typedef struct pl_futex {
    pl_cancel *cancel; /* read-only */
    struct pl_futex_bucket {
        pthread_mutex_t mutex; /* of the queue, and of the waiters in it */
        struct pl_futex_waiter *first, *last;
    } buckets[PL_FUTEX_BUCKETS];
} pl_futex;

/* Makes one with no waiters, whose waits end when `cancel` is set; takes one of its hooks. It
 * never fails. */
void pl_futex_init(pl_futex *futex, pl_cancel *cancel);
/* No thread may wait any more, nor cancel. `cancel` is still there. */
void pl_futex_destroy(pl_futex *futex);

/* Waits on `key` if the cell, of 32 or 64 bits, has the expected value. (One that is not aligned
 * is compared byte by byte: nobody can access it atomically.) Waiters of both sizes on one key
 * are in one queue. Answers an enum pl_waited. A guest's address is its own key; keys from 2^63
 * on are free for what the host waits for (the end of a thread, or nothing but time), with a
 * cell of its own. */
int pl_futex_wait32(pl_futex *futex, uint64_t key, const void *cell, uint32_t expected,
                    const pl_until *until);
int pl_futex_wait64(pl_futex *futex, uint64_t key, const void *cell, uint64_t expected,
                    const pl_until *until);
/* Wakes those who have waited longest on `key`, `count` of them at most (UINT32_MAX: all), and
 * answers how many. */
uint32_t pl_futex_wake(pl_futex *futex, uint64_t key, uint32_t count);
/* Sets the flag and ends the wait, if there is one, that has it as its nudge; else the next.
 * That wait answers PL_WAITED_WOKEN, as if woken for nothing; nobody's wake-up is used up. */
void pl_futex_nudge(pl_futex *futex, pl_flag *nudge);
/* How many wait on `key` now; for tests. */
size_t pl_futex_waiters(pl_futex *futex, uint64_t key);

#endif
