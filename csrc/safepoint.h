/* safepoint: whether the thread of a group is executing guest code.
 *
 * States: PARKED, where the group touches nothing that a rendezvous changes and counts as arrived;
 * RUNNING; DEAD, for good. A new one is PARKED. Switches nest like calls: the host calls the guest
 * (run), which calls a host function that may block or calls Python (park), which may call the
 * guest again (run); each restores the previous state.
 *
 * Protects: nothing.
 * Requires: after a pl_safepoint_run, and after a pl_safepoint_restore to RUNNING, the caller
 * checks for pending operations before any guest code.
 * Blocks: never.
 * Memory order: SeqCst. A group does "state = RUNNING, then load the pending flag", a leader "set
 * the flag, then load the state": one of the two sees the other.
 * Threads: the group's own; pl_safepoint_state and pl_safepoint_die: any.
 *
 *     int before = pl_safepoint_run(safepoint);
 *     follow_what_is_pending();
 *     guest();
 *     pl_safepoint_restore(safepoint, before); */
#ifndef PL_SAFEPOINT_H
#define PL_SAFEPOINT_H

#include "waiter.h"
#include "trace.h"

enum pl_state { PL_PARKED = 0, PL_RUNNING = 1, PL_DEAD = 2 };

typedef struct pl_safepoint {
    atomic_int state;
    pl_waiter *waiter; /* read-only, like the rest */
    pl_trace *trace;   /* usually NULL */
    uint64_t group;
} pl_safepoint;

/* Initializes a parked one, which notifies `waiter` when it parks or dies. Never fails; nothing
 * needs to be released. */
void pl_safepoint_init(pl_safepoint *safepoint, pl_waiter *waiter);
/* Records every change of state in `trace`, which outlives the safepoint, for group `group`. Before
 * any thread uses it. */
void pl_safepoint_on_trace(pl_safepoint *safepoint, pl_trace *trace, uint64_t group);

/* Returns an enum pl_state. */
int pl_safepoint_state(const pl_safepoint *safepoint);
/* Enter and leave guest code. Both return the previous state; a dead group stays dead. */
int pl_safepoint_run(pl_safepoint *safepoint);
int pl_safepoint_park(pl_safepoint *safepoint);
/* Restores the state that pl_safepoint_run or pl_safepoint_park returned. */
void pl_safepoint_restore(pl_safepoint *safepoint, int before);
/* Marks the group dead: it trapped, exited, or was shut down. */
void pl_safepoint_die(pl_safepoint *safepoint);

#endif
