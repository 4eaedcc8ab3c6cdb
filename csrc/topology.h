/* topology: the topology lock, a mutex over changes of the set of groups, held by a token.
 *
 * States: free, or held by a token, which is a number. Numbers increase and are never reused, so a
 * token that was released twice, or never issued, is detected. A token does not belong to a thread:
 * any thread that has the number may release it.
 *
 * Protects: the set of groups, together with the write lock.
 * Requires: nothing.
 * Blocks: never; a caller that fails to acquire it follows pending operations and backs off.
 * Memory order: acquiring synchronizes with the last release (SeqCst).
 * Threads: any.
 *
 *     uint64_t token = pl_topology_try_acquire(topology);
 *     if (token != 0) { change_topology(); pl_topology_release(topology, token); } */
#ifndef PL_TOPOLOGY_H
#define PL_TOPOLOGY_H

#include "event.h"

#include <stdint.h>

typedef struct pl_topology {
    _Atomic uint64_t holder;
    uint64_t last;   /* accessed only by the thread that has just acquired the lock */
    pl_event *event; /* read-only */
} pl_topology;

/* Initializes a free lock whose waiters sleep on `event`. Never fails; nothing needs to be
 * released. */
void pl_topology_init(pl_topology *topology, pl_event *event);
/* Returns the number of the token, or 0 while another token holds the lock. */
uint64_t pl_topology_try_acquire(pl_topology *topology);
/* Returns 0, or -1 if `token` does not hold the lock: it was released before, or never issued. */
int pl_topology_release(pl_topology *topology, uint64_t token);
/* Returns the token that holds the lock, or 0. */
uint64_t pl_topology_holder(const pl_topology *topology);

#endif
