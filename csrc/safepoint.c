/* Discipline: `depth` belongs to the group's thread. `state` is changed by that thread with compare-and-swap, so that a death, which may
 * come from anywhere, is never undone. */
#include "safepoint.h"

#include <stdatomic.h>
#include <stdlib.h>

struct pl_safepoint {
    atomic_int state;
    unsigned depth;
    pl_event *event; /* read-only */
};

pl_safepoint *pl_safepoint_new(pl_event *event) {
    pl_safepoint *safepoint = malloc(sizeof *safepoint);
    if (safepoint != NULL) {
        atomic_init(&safepoint->state, PL_PARKED);
        safepoint->depth = 0;
        safepoint->event = event;
    }
    return safepoint;
}

void pl_safepoint_free(pl_safepoint *safepoint) {
    free(safepoint);
}

int pl_safepoint_state(const pl_safepoint *safepoint) {
    return atomic_load(&safepoint->state);
}

static int change(pl_safepoint *safepoint, int from, int to) {
    return atomic_compare_exchange_strong(&safepoint->state, &from, to);
}

int pl_safepoint_enter(pl_safepoint *safepoint) {
    if (safepoint->depth++ != 0) {
        return 0;
    }
    change(safepoint, PL_PARKED, PL_RUNNING);
    return 1;
}

void pl_safepoint_leave(pl_safepoint *safepoint) {
    if (--safepoint->depth == 0) {
        pl_safepoint_park(safepoint);
    }
}

int pl_safepoint_park(pl_safepoint *safepoint) {
    if (!change(safepoint, PL_RUNNING, PL_PARKED)) {
        return 0;
    }
    pl_event_notify(safepoint->event);
    return 1;
}

void pl_safepoint_unpark(pl_safepoint *safepoint) {
    change(safepoint, PL_PARKED, PL_RUNNING);
}

void pl_safepoint_die(pl_safepoint *safepoint) {
    atomic_store(&safepoint->state, PL_DEAD);
    pl_event_notify(safepoint->event);
}
