/* futex: wait queues of the threads of one program, by address of its memory, in FIFO order.
 *
 * A waiter passes a key (the guest's address), the cell with the value behind it, and the expected
 * value: if the cell has another value, it does not sleep. A waker changes the cell and wakes any
 * number of the waiters on the key. Keys are hashed into buckets. A bucket is a mutex and a queue
 * of waiters, and each waiter sleeps on its own condition variable, so a wake disturbs only the
 * waiters that it is for.
 *
 * States of a waiter: queued; then woken, by a waker that has removed it from the queue and counted
 * it; or removed by itself for another reason. All three change under the bucket's mutex only, and
 * a waiter checks whether it was woken before it returns any other reason. So a counted wake is
 * never lost to a timeout at the same moment.
 *
 * No wake-up is lost. The waker first changes the cell, then takes the mutex and wakes. The waiter
 * takes the mutex, compares the cell, enters the queue, and releases the mutex only in its sleep.
 * If the waiter had the mutex first, the waker finds it in the queue. If the waker had it first,
 * the comparison sees its write, and the waiter does not sleep.
 *
 * Cancelling the linker ends every wait at once. The cause takes the place of the cell in the
 * argument above: it is set first; then a hook (cancel.h) takes each mutex and makes the waiters
 * check it. If waiters slept on the linker's event instead, each of the frequent notifications
 * there would wake every sleeping guest; if they slept for a slice at a time, the end of a program
 * would take a slice, and a sleeping guest would keep a processor busy. A nudge works in the same
 * way, for one waiter; it is a flag, so a nudge just before the wait is not lost either. With
 * `deliver` a nudge does not end the wait: the waiter handles the signal and goes on sleeping.
 *
 * `check`, which may wait for the GIL, is called every PL_SLICE nanoseconds, without the mutex; so
 * is `deliver`, which may do anything, including a wait here. The waiter keeps its place in the
 * queue meanwhile. If it is woken during a call that ends its wait, the wake goes to the next
 * waiter in the queue.
 *
 * Protects: a bucket's mutex protects its queue and the waiters in it. It is a leaf: no other lock
 * is taken and no function is called back under it.
 * Requires: the caller parks its group around the two waits (safepoint.h).
 * Blocks: the two waits; all else at most for a walk through a queue.
 * Memory order: the cell is loaded SeqCst, as wasm's own atomic accesses are. The writes of a waker
 * are visible to the threads it woke, through the mutex.
 * Threads: any.
 *
 *     pl_wait_options options = {.timeout = -1};
 *     int before = pl_safepoint_park(safepoint);
 *     int result = pl_futex_wait32(futex, address, memory + address, expected, &options); */
#ifndef PL_FUTEX_H
#define PL_FUTEX_H

#include "cancel.h"
#include "event.h"
#include "flag.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* The result of a wait; the first three are the results of wasm's memory.atomic.wait32. */
enum pl_waited {
    PL_WAITED_WOKEN = 0, /* or nudged */
    PL_WAITED_NOT_EQUAL = 1,
    PL_WAITED_TIMED_OUT = 2,
    PL_WAITED_CANCELLED = -1,
    PL_WAITED_INTERRUPTED = -2 /* by `check` or `deliver` */
};

/* The options of a wait: what ends it besides a wake and a cancellation. */
typedef struct pl_wait_options {
    /* nanoseconds from the call on, negative: none. Never early; late by the latency of the
     * scheduler */
    int64_t timeout;
    pl_flag *nudge; /* if set, the wait ends, and clears it. May be NULL */
    /* called with `deliver_handle` for a nudge, which it clears; nonzero ends the wait. May be
     * NULL */
    pl_check deliver;
    uintptr_t deliver_handle;
    pl_check check; /* called with `handle`; nonzero ends the wait. May be NULL */
    uintptr_t handle;
} pl_wait_options;

enum { PL_FUTEX_BUCKETS = 64 };

struct pl_futex_waiter; /* on the stack of its thread, see futex.c */

typedef struct pl_futex {
    pl_cancel *cancel; /* read-only */
    struct pl_futex_bucket {
        pthread_mutex_t mutex; /* of the queue, and of the waiters in it */
        struct pl_futex_waiter *first, *last;
    } buckets[PL_FUTEX_BUCKETS];
} pl_futex;

/* Initializes one without waiters, whose waits end when `cancel` is set; adds a hook to it. Never
 * fails. */
void pl_futex_init(pl_futex *futex, pl_cancel *cancel);
/* Requires that no thread waits or cancels any more, and that `cancel` is still valid. */
void pl_futex_destroy(pl_futex *futex);

/* Waits on `key` if the cell, of 32 or 64 bits, has the expected value. (A misaligned cell is
 * compared byte by byte: no thread can access it atomically.) Waiters of both sizes on one key
 * share a queue. Returns an enum pl_waited. A guest's address is its own key; keys from 2^63 on are
 * for waits of the host (for the exit of a thread, or for time only), with their own cells. */
int pl_futex_wait32(pl_futex *futex, uint64_t key, const void *cell, uint32_t expected,
                    const pl_wait_options *options);
int pl_futex_wait64(pl_futex *futex, uint64_t key, const void *cell, uint64_t expected,
                    const pl_wait_options *options);
/* Wakes the `count` oldest waiters on `key` (UINT32_MAX: all). Returns how many were woken. */
uint32_t pl_futex_wake(pl_futex *futex, uint64_t key, uint32_t count);
/* Sets the flag and ends the wait, if there is one, that has it as its nudge; otherwise the next
 * wait. That wait returns PL_WAITED_WOKEN, as a spurious wake-up; no counted wake is consumed. */
void pl_futex_nudge(pl_futex *futex, pl_flag *nudge);
/* Returns the number of waiters on `key` now; for tests. */
size_t pl_futex_waiters(pl_futex *futex, uint64_t key);

#endif
