/* await: one thread that waits for others, one of them at a time, without being woken by the
 * rest.
 *
 * Protocol: the waiter says whom it waits for, then looks whether that one is done, then sleeps
 * on the event; the other changes its state, then looks whether it is waited for, and only then
 * wakes. Both orders are SeqCst, so one of the two sees the other. Telling costs one load if
 * nobody waits: it is on the path of every host call.
 *
 * Blocking: never; who waits sleeps on pl_await_event (event.h). One waiter at a time: the
 * leader, who has the topology token.
 *
 *     pl_await_begin(await, member);
 *     key = pl_event_prepare(pl_await_event(await));
 *     if (!is_done(member)) pl_event_wait(pl_await_event(await), key, deadline);
 *     pl_await_end(await); */
#ifndef PL_AWAIT_H
#define PL_AWAIT_H

#include "event.h"

typedef struct pl_await {
    _Atomic uintptr_t who; /* written by the one waiter */
    pl_event event;
} pl_await;

/* Makes one with no waiter. It never fails. */
void pl_await_init(pl_await *await);
/* No thread may wait any more. */
void pl_await_destroy(pl_await *await);
/* Where the waiter sleeps. */
pl_event *pl_await_event(pl_await *await);

/* The caller waits for `who` from now on; for nobody. */
void pl_await_begin(pl_await *await, const void *who);
void pl_await_end(pl_await *await);
/* `who` has changed: wakes the waiter if it waits for that one. */
void pl_await_tell(pl_await *await, const void *who);

#endif
