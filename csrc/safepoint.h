/* safepoint: whether the thread of a group is executing guest code.
 *
 * States: PARKED, where the group touches nothing a rendezvous changes and is counted as arrived; RUNNING; DEAD, for good. A new one is
 * PARKED. Entries nest: only the outermost one runs and only its end parks. A host function that may block, or that calls Python, parks
 * in between and unparks on its way back.
 *
 * Who calls: the group's own thread; pl_safepoint_state and pl_safepoint_die are for any. Blocking: never. Memory order: SeqCst. Entering
 * is "state = RUNNING, then look at the pending flag", leading is "set the flag, then look at the state": one of the two sees the other.
 * So after pl_safepoint_enter or pl_safepoint_unpark the caller must look for pending operations before any guest code.
 *
 *     if (pl_safepoint_enter(safepoint)) follow_what_is_pending();
 *     guest();
 *     pl_safepoint_leave(safepoint);
 */
#ifndef PL_SAFEPOINT_H
#define PL_SAFEPOINT_H

#include "event.h"

enum pl_state { PL_PARKED = 0, PL_RUNNING = 1, PL_DEAD = 2 };

typedef struct pl_safepoint pl_safepoint;

/* A parked one; whoever waits for its state sleeps on `event`. NULL if there is no memory. */
pl_safepoint *pl_safepoint_new(pl_event *event);
void pl_safepoint_free(pl_safepoint *safepoint);

/* Answers an enum pl_state. */
int pl_safepoint_state(const pl_safepoint *safepoint);
/* Answers 1 if this is the outermost entry, else 0. Nothing but the depth changes in a dead group. */
int pl_safepoint_enter(pl_safepoint *safepoint);
void pl_safepoint_leave(pl_safepoint *safepoint);
/* Between an enter and its leave; answers 1 if the group was running and is parked now. */
int pl_safepoint_park(pl_safepoint *safepoint);
/* After a park that answered 1. */
void pl_safepoint_unpark(pl_safepoint *safepoint);
/* The group is gone: it trapped, exited, or was shut down. */
void pl_safepoint_die(pl_safepoint *safepoint);

#endif
