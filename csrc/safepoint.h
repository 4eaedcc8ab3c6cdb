/* safepoint: whether the thread of a group is executing guest code.
 *
 * States: PARKED, where the group touches nothing a rendezvous changes and is counted as
 * arrived; RUNNING; DEAD, for good. A new one is PARKED. Switches nest like calls: the host
 * calls the guest (run), which calls a host function that may block or calls Python (park),
 * which may call the guest again (run); each puts back the state it found.
 *
 * Who calls: the group's own thread; pl_safepoint_state and pl_safepoint_die are for any.
 * Blocking: never. Memory order: SeqCst. Running is "state = RUNNING, then look at the pending
 * flag", leading is "set the flag, then look at the state": one of the two sees the other. So
 * after a pl_safepoint_run, and after a pl_safepoint_restore to RUNNING, the caller must look
 * for pending operations before any guest code.
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
    pl_trace *trace;   /* most often NULL */
    uint64_t group;
} pl_safepoint;

/* Makes a parked one; the waiter of `waiter` is woken when it parks or dies. It never fails, and
 * there is nothing to release. */
void pl_safepoint_init(pl_safepoint *safepoint, pl_waiter *waiter);
/* Has every change of state noted in `trace`, which outlives the safepoint, as one of the group
 * `group`. Before any thread uses it. */
void pl_safepoint_on_trace(pl_safepoint *safepoint, pl_trace *trace, uint64_t group);

/* Answers an enum pl_state. */
int pl_safepoint_state(const pl_safepoint *safepoint);
/* The thread is about to execute guest code, or to leave it. Both answer the state there was; a
 * dead group stays dead. */
int pl_safepoint_run(pl_safepoint *safepoint);
int pl_safepoint_park(pl_safepoint *safepoint);
/* Puts back what pl_safepoint_run or pl_safepoint_park answered. */
void pl_safepoint_restore(pl_safepoint *safepoint, int before);
/* The group is gone: it trapped, exited, or was shut down. */
void pl_safepoint_die(pl_safepoint *safepoint);

#endif
