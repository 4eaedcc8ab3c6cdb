/* Discipline: `holder` alone decides who is in; `last` is only touched by the thread that has
 * just won the gate (holder == CLAIMED). */
#include "gate.h"

#define PL_CLAIMED UINT64_MAX /* won, number not given yet: no token has this number */

void pl_gate_init(pl_gate *gate, pl_event *event) {
    atomic_init(&gate->holder, 0);
    gate->last = 0;
    gate->event = event;
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
    if (token == 0 || token == PL_CLAIMED ||
        !atomic_compare_exchange_strong(&gate->holder, &expected, 0)) {
        return -1;
    }
    pl_event_notify(gate->event);
    return 0;
}

uint64_t pl_gate_holder(const pl_gate *gate) {
    uint64_t holder = atomic_load(&gate->holder);
    return holder == PL_CLAIMED ? 0 : holder;
}
