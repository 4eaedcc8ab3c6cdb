/* mutex: threads that are none of the guest's take turns with the main group.
 *
 * The load lock of a program is one, too.
 *
 * A lock that its holder may take again, as often as it gives it back. Taking it uncontended is
 * one compare-and-swap, giving it back one store and one load: it is on the path of every call
 * from Python.
 *
 * Protocol: `owner` is 0 or the holder's identity. Memory order: SeqCst. A waiter announces
 * itself and then looks at `owner`; who gives back clears `owner` and then looks for waiters:
 * one of the two sees the other, and a waiter that was missed has not slept yet (event.h).
 *
 * Blocking: pl_recursive_wait only, up to its deadline. No order among waiters. Lock order: before
 * all others; who waits for it is parked.
 *
 *     if (!pl_recursive_try(mutex)) while (!pl_recursive_wait(mutex, 50000000)) look_for_signals();
 *     ...
 *     pl_recursive_release(mutex); */
#ifndef PL_RECURSIVE_H
#define PL_RECURSIVE_H

#include "event.h"

typedef struct pl_recursive pl_recursive;

/* NULL if there is no memory. */
pl_recursive *pl_recursive_new(void);
void pl_recursive_free(pl_recursive *mutex);

/* Takes it if nobody else has it: 1, else 0. */
int pl_recursive_try(pl_recursive *mutex);
/* Takes it, waiting up to `timeout` nanoseconds: 1, or 0 if it was not to be had. */
int pl_recursive_wait(pl_recursive *mutex, int64_t timeout);
/* Gives it back once; for the holder only. */
void pl_recursive_release(pl_recursive *mutex);
/* Gives it back until the calling thread has it `depth` times: nothing to do if it has it less
 * often. */
void pl_recursive_restore(pl_recursive *mutex, unsigned depth);
/* Whether the calling thread has it. */
int pl_recursive_is_mine(const pl_recursive *mutex);
/* The identity of the calling thread, and that of the holder, 0 if there is none; by the time it
 * is looked at, the holder may be another. */
uintptr_t pl_recursive_self(void);
uintptr_t pl_recursive_holder(const pl_recursive *mutex);
/* How often it has it, to be given back as often: what who was interrupted while it took it goes
 * by. */
unsigned pl_recursive_depth(const pl_recursive *mutex);

#endif
