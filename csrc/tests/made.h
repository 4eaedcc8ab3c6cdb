/* made: the primitives on the heap, each in its own block, so that the sanitizers detect a use
 * after free. */
#ifndef PL_MADE_H
#define PL_MADE_H

#include "waiter.h"
#include "bus.h"
#include "cancel.h"
#include "event.h"
#include "flag.h"
#include "futex.h"
#include "topology.h"
#include "rwlock.h"
#include "safepoint.h"

#include <stdlib.h>

static inline void *made(size_t size) {
    void *block = (malloc)(size); /* not subject to the failures that a test injects */
    CHECK(block != NULL);
    return block;
}

static inline pl_flag *new_flag(void) {
    pl_flag *flag = made(sizeof *flag);
    *flag = (pl_flag){0};
    return flag;
}

static inline void free_flag(pl_flag *flag) { free(flag); }

static inline pl_event *new_event(void) {
    pl_event *event = made(sizeof *event);
    pl_event_init(event);
    return event;
}

static inline void free_event(pl_event *event) {
    pl_event_destroy(event);
    free(event);
}

static inline pl_waiter *new_waiter(void) {
    pl_waiter *waiter = made(sizeof *waiter);
    pl_waiter_init(waiter);
    return waiter;
}

static inline void free_waiter(pl_waiter *waiter) {
    pl_waiter_destroy(waiter);
    free(waiter);
}

static inline pl_cancel *new_cancel(pl_event *event) {
    pl_cancel *cancel = made(sizeof *cancel);
    pl_cancel_init(cancel, event);
    return cancel;
}

static inline void free_cancel(pl_cancel *cancel) { free(cancel); }

static inline pl_rwlock *new_rwlock(pl_event *event) {
    pl_rwlock *lock = made(sizeof *lock);
    pl_rwlock_init(lock, event);
    return lock;
}

static inline void free_rwlock(pl_rwlock *lock) { free(lock); }

static inline pl_topology *new_topology(pl_event *event) {
    pl_topology *topology = made(sizeof *topology);
    pl_topology_init(topology, event);
    return topology;
}

static inline void free_topology(pl_topology *topology) { free(topology); }

static inline pl_safepoint *new_safepoint(pl_waiter *waiter) {
    pl_safepoint *safepoint = made(sizeof *safepoint);
    pl_safepoint_init(safepoint, waiter);
    return safepoint;
}

static inline void free_safepoint(pl_safepoint *safepoint) { free(safepoint); }

static inline pl_futex *new_futex(pl_cancel *cancel) {
    pl_futex *futex = made(sizeof *futex);
    pl_futex_init(futex, cancel);
    return futex;
}

static inline void free_futex(pl_futex *futex) {
    pl_futex_destroy(futex);
    free(futex);
}

static inline pl_bus *new_bus(void) {
    pl_bus *bus = made(sizeof *bus);
    pl_bus_init(bus);
    return bus;
}

static inline pl_receiver *subscribe(pl_bus *bus) {
    pl_receiver *receiver = made(sizeof *receiver);
    pl_bus_subscribe(bus, receiver);
    return receiver;
}

static inline void unsubscribe(pl_bus *bus, pl_receiver *receiver) {
    pl_bus_unsubscribe(bus, receiver);
    free(receiver);
}

/* Frees its remaining receivers, too. */
static inline void free_bus(pl_bus *bus) {
    while (bus->first != NULL) {
        unsubscribe(bus, bus->first);
    }
    free(bus);
}

#endif
