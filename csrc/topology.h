/* topology: the topology token, of which there is one at a time.
 *
 * States: open, or held under a number. Numbers only go up and are never reused, so a token that
 * was released twice, or never given out, is recognised. A token is a number and not a thread's:
 * whoever has the number may release it.
 *
 * Blocking: never; who wants the token tries, follows what is pending, and backs off. Memory
 * order: acquiring sees everything done before the last release (SeqCst).
 *
 *     uint64_t token = pl_topology_try_acquire(topology);
 *     if (token != 0) { change_topology(); pl_topology_release(topology, token); } */
#ifndef PL_TOPOLOGY_H
#define PL_TOPOLOGY_H

#include "event.h"

#include <stdint.h>

typedef struct pl_topology {
    _Atomic uint64_t holder;
    uint64_t last;   /* only touched by the thread that has just won the topology */
    pl_event *event; /* read-only */
} pl_topology;

/* Makes an open topology whose waiters sleep on `event`. It never fails, and there is nothing to
 * release. */
void pl_topology_init(pl_topology *topology, pl_event *event);
/* The number of a token, or 0 while another is out. */
uint64_t pl_topology_try_acquire(pl_topology *topology);
/* Returns 0, or -1 if `token` is not the one that is out: it was released before, or is made up. */
int pl_topology_release(pl_topology *topology, uint64_t token);
/* The token that is out, or 0. */
uint64_t pl_topology_holder(const pl_topology *topology);

#endif
