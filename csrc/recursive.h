/* recursive: a mutex that its holder may take again.
 *
 * A program has two: the main lock, which serializes threads that use the main group, and the load
 * lock. Taking it uncontended is one compare-and-swap, releasing it one store and one load: it is
 * on the path of every call from Python.
 *
 * States: `owner` is 0 or the identity of the holder; the depth counts how often the holder took
 * it.
 * Protects: the main group, or the loads of a program.
 * Requires: it is taken before all other locks; a waiting thread is parked.
 * Blocks: pl_recursive_wait only, up to its deadline. Waiters are not ordered.
 * Memory order: SeqCst. A waiter announces itself and then checks `owner`; the holder clears
 * `owner` and then checks for waiters: one of the two sees the other, and a waiter that was not
 * seen has not slept yet (event.h).
 * Threads: any.
 *
 *     if (!pl_recursive_try(mutex)) while (!pl_recursive_wait(mutex, 50000000)) check_signals();
 *     ...
 *     pl_recursive_release(mutex); */
#ifndef PL_RECURSIVE_H
#define PL_RECURSIVE_H

#include "event.h"

typedef struct pl_recursive pl_recursive;

/* Returns NULL if out of memory. */
pl_recursive *pl_recursive_new(void);
void pl_recursive_free(pl_recursive *mutex);

/* Takes it unless another thread holds it. Returns 1, or 0. */
int pl_recursive_try(pl_recursive *mutex);
/* Takes it, waiting up to `timeout` nanoseconds. Returns 1, or 0 at the deadline. */
int pl_recursive_wait(pl_recursive *mutex, int64_t timeout);
/* Releases it once; for the holder only. */
void pl_recursive_release(pl_recursive *mutex);
/* Releases it until the calling thread holds it `depth` times; does nothing if it holds it less
 * often. */
void pl_recursive_restore(pl_recursive *mutex, unsigned depth);
/* Returns whether the calling thread holds it. */
int pl_recursive_is_mine(const pl_recursive *mutex);
/* Return the identity of the calling thread, and that of the holder, 0 if there is none; the holder
 * may have changed when the caller uses the result. */
uintptr_t pl_recursive_self(void);
uintptr_t pl_recursive_holder(const pl_recursive *mutex);
/* Returns how often the calling thread holds it: the argument of pl_recursive_restore for a thread
 * that may be interrupted while it takes the mutex. */
unsigned pl_recursive_depth(const pl_recursive *mutex);

#endif
