/* Discipline: the group's thread changes `state` with compare-and-swap, so that a death, which may
 * come from any thread, is never undone. */
#include "safepoint.h"

void pl_safepoint_init(pl_safepoint *safepoint, pl_waiter *waiter) {
    *safepoint = (pl_safepoint){.waiter = waiter};
    atomic_init(&safepoint->state, PL_PARKED);
}

void pl_safepoint_on_trace(pl_safepoint *safepoint, pl_trace *trace, uint64_t group) {
    safepoint->trace = trace;
    safepoint->group = group;
}

/* Out of line: most groups have no trace. */
#if defined(__GNUC__)
__attribute__((cold, noinline))
#endif
static void
note(const pl_safepoint *safepoint, int kind) {
    pl_trace_add(safepoint->trace, kind, safepoint->group, 0);
}

int pl_safepoint_state(const pl_safepoint *safepoint) { return atomic_load(&safepoint->state); }

int pl_safepoint_run(pl_safepoint *safepoint) {
    int before = PL_PARKED;
    if (atomic_compare_exchange_strong(&safepoint->state, &before, PL_RUNNING) &&
        safepoint->trace != NULL) {
        note(safepoint, PL_TRACE_UNPARK);
    }
    return before;
}

int pl_safepoint_park(pl_safepoint *safepoint) {
    int before = PL_RUNNING;
    if (atomic_compare_exchange_strong(&safepoint->state, &before, PL_PARKED)) {
        if (safepoint->trace != NULL) {
            note(safepoint, PL_TRACE_PARK);
        }
        pl_waiter_notify(safepoint->waiter, safepoint);
    }
    return before;
}

void pl_safepoint_restore(pl_safepoint *safepoint, int before) {
    if (before == PL_RUNNING) {
        pl_safepoint_run(safepoint);
    } else if (before == PL_PARKED) {
        pl_safepoint_park(safepoint);
    }
}

void pl_safepoint_die(pl_safepoint *safepoint) {
    if (atomic_exchange(&safepoint->state, PL_DEAD) != PL_DEAD && safepoint->trace != NULL) {
        note(safepoint, PL_TRACE_DEAD);
    }
    pl_waiter_notify(safepoint->waiter, safepoint);
}
