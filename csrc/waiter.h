/* waiter: one thread waits for one of many others at a time; the rest do not wake it.
 *
 * Protocol: the waiter publishes its target, then checks whether the target is done, then sleeps on
 * the event. A target changes its state, then checks whether it is waited for, and only then wakes
 * the waiter. Both orders are SeqCst, so one of the two sees the other. pl_waiter_notify costs one
 * load if the caller is not waited for: it is on the path of every host call.
 *
 * Protects: nothing.
 * Requires: one waiter at a time: the leader, which holds the topology token.
 * Blocks: never; the waiter sleeps on pl_waiter_event (event.h).
 * Memory order: SeqCst.
 * Threads: one waiter, any notifiers.
 *
 *     pl_waiter_begin(waiter, member);
 *     key = pl_event_prepare(pl_waiter_event(waiter));
 *     if (!is_done(member)) pl_event_wait(pl_waiter_event(waiter), key, deadline);
 *     pl_waiter_end(waiter); */
#ifndef PL_WAITER_H
#define PL_WAITER_H

#include "event.h"

typedef struct pl_waiter {
    _Atomic uintptr_t target; /* written by the waiter only; 0: none */
    pl_event event;
} pl_waiter;

/* Initializes `waiter` without a target. Never fails. */
void pl_waiter_init(pl_waiter *waiter);
/* Requires that no thread waits any more. */
void pl_waiter_destroy(pl_waiter *waiter);
/* Returns the event on which the waiter sleeps. */
pl_event *pl_waiter_event(pl_waiter *waiter);

/* Sets the target that the caller waits for from now on, or clears it. */
void pl_waiter_begin(pl_waiter *waiter, const void *target);
void pl_waiter_end(pl_waiter *waiter);
/* Wakes the waiter if it waits for `target`, whose state has changed. */
void pl_waiter_notify(pl_waiter *waiter, const void *target);

#endif
