/* Discipline: `holder` alone decides who is in; `last` is only touched by the thread that has just won the gate (holder == CLAIMED). */
#include "gate.h"

#include <stdatomic.h>
#include <stdlib.h>

#define PL_CLAIMED UINT64_MAX /* won, number not given yet: no token has this number */

struct pl_gate {
    _Atomic uint64_t holder;
    uint64_t last;   /* under holder == PL_CLAIMED */
    pl_event *event; /* read-only */
};

pl_gate *pl_gate_new(pl_event *event) {
    pl_gate *gate = malloc(sizeof *gate);
    if (gate != NULL) {
        atomic_init(&gate->holder, 0);
        gate->last = 0;
        gate->event = event;
    }
    return gate;
}

void pl_gate_free(pl_gate *gate) {
    free(gate);
}

uint64_t pl_gate_try_acquire(pl_gate *gate) {
    uint64_t open = 0;
    if (!atomic_compare_exchange_strong(&gate->holder, &open, PL_CLAIMED)) {
        return 0;
    }
    uint64_t token = ++gate->last;
    atomic_store(&gate->holder, token);
    return token;
}

int pl_gate_release(pl_gate *gate, uint64_t token) {
    uint64_t expected = token;
    if (token == 0 || token == PL_CLAIMED || !atomic_compare_exchange_strong(&gate->holder, &expected, 0)) {
        return -1;
    }
    pl_event_notify(gate->event);
    return 0;
}

uint64_t pl_gate_holder(const pl_gate *gate) {
    uint64_t holder = atomic_load(&gate->holder);
    return holder == PL_CLAIMED ? 0 : holder;
}
