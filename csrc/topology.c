/* Discipline: `holder` alone decides which token holds the lock; `last` is accessed only by the
 * thread that has just acquired it (holder == CLAIMED). */
#include "topology.h"

#define PL_CLAIMED UINT64_MAX /* acquired, but without a number yet: no token has this number */

void pl_topology_init(pl_topology *topology, pl_event *event) {
    atomic_init(&topology->holder, 0);
    topology->last = 0;
    topology->event = event;
}

uint64_t pl_topology_try_acquire(pl_topology *topology) {
    uint64_t open = 0;
    if (!atomic_compare_exchange_strong(&topology->holder, &open, PL_CLAIMED)) {
        return 0;
    }
    uint64_t token = ++topology->last;
    atomic_store(&topology->holder, token);
    return token;
}

int pl_topology_release(pl_topology *topology, uint64_t token) {
    uint64_t expected = token;
    if (token == 0 || token == PL_CLAIMED ||
        !atomic_compare_exchange_strong(&topology->holder, &expected, 0)) {
        return -1;
    }
    pl_event_notify(topology->event);
    return 0;
}

uint64_t pl_topology_holder(const pl_topology *topology) {
    uint64_t holder = atomic_load(&topology->holder);
    return holder == PL_CLAIMED ? 0 : holder;
}
