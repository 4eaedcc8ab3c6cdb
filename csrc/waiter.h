/* waiter: one thread that waits for others, one of them at a time, without being woken by the
 * rest.
 *
 * Protocol: the waiter says whom it waits for, then looks whether that one is done, then sleeps
 * on the event; the other changes its state, then looks whether it is waited for, and only then
 * wakes. Both orders are SeqCst, so one of the two sees the other. Telling costs one load if
 * nobody waits: it is on the path of every host call.
 *
 * Blocking: never; target waits sleeps on pl_waiter_event (event.h). One waiter at a time: the
 * leader, target has the topology token.
 *
 *     pl_waiter_begin(waiter, member);
 *     key = pl_event_prepare(pl_waiter_event(waiter));
 *     if (!is_done(member)) pl_event_wait(pl_waiter_event(waiter), key, deadline);
 *     pl_waiter_end(waiter); */
#ifndef PL_WAITER_H
#define PL_WAITER_H

#include "event.h"

typedef struct pl_waiter {
    _Atomic uintptr_t target; /* written by the one waiter */
    pl_event event;
} pl_waiter;

/* Makes one with no waiter. It never fails. */
void pl_waiter_init(pl_waiter *waiter);
/* No thread may wait any more. */
void pl_waiter_destroy(pl_waiter *waiter);
/* Where the waiter sleeps. */
pl_event *pl_waiter_event(pl_waiter *waiter);

/* The caller waits for `target` from now on; for nobody. */
void pl_waiter_begin(pl_waiter *waiter, const void *target);
void pl_waiter_end(pl_waiter *waiter);
/* `target` has changed: wakes the waiter if it waits for that one. */
void pl_waiter_notify(pl_waiter *waiter, const void *target);

#endif
