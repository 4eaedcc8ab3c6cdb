/* cancel: the end of a linker, once and for all.
 *
 * States: open, then cancelled with a cause. Sticky: the first cause wins and stays. Every waiter of the linker looks at it on each
 * turn, and cancelling wakes them all: those that sleep on the event, and through the hook those that sleep elsewhere (futex.h). Blocking:
 * never. Threads: any. Memory order: SeqCst; the hook is called after the cause is set.
 *
 *     if (pl_cancel_set(cancel, PL_CAUSE_LEADER_FAILED)) log_the_cause();
 */
#ifndef PL_CANCEL_H
#define PL_CANCEL_H

#include "event.h"

#include <stdint.h>

typedef struct pl_cancel pl_cancel;

/* Wakes sleepers, so that they look at the cause. It does not wait for anything but a mutex that nobody holds for long. */
typedef void (*pl_cancel_hook)(void *argument);

/* An open one whose waiters sleep on `event`, or NULL if there is no memory. */
pl_cancel *pl_cancel_new(pl_event *event);
void pl_cancel_free(pl_cancel *cancel);
/* Has the first pl_cancel_set call `hook` with `argument`; NULL takes the hook with this argument back. Answers 0, or -1 if there are two
 * already. Only while no other thread knows `cancel`. */
int pl_cancel_on_set(pl_cancel *cancel, pl_cancel_hook hook, void *argument);
/* Cancels with a cause (any number but 0). Answers 1 if this was the first, else 0. */
int pl_cancel_set(pl_cancel *cancel, uint64_t cause);
/* Cancels in a child of fork(), whose only thread calls: no waiter is woken, no hook called, no mutex taken. */
void pl_cancel_abandon(pl_cancel *cancel, uint64_t cause);
/* The cause, or 0 while open. */
uint64_t pl_cancel_cause(const pl_cancel *cancel);

#endif
