/* Discipline: `target` is written by the one waiter and read by all; everything is SeqCst. */
#include "waiter.h"

void pl_waiter_init(pl_waiter *waiter) {
    atomic_init(&waiter->target, 0);
    pl_event_init(&waiter->event);
}

void pl_waiter_destroy(pl_waiter *waiter) { pl_event_destroy(&waiter->event); }

pl_event *pl_waiter_event(pl_waiter *waiter) { return &waiter->event; }

void pl_waiter_begin(pl_waiter *waiter, const void *target) {
    atomic_store(&waiter->target, (uintptr_t)target);
}

void pl_waiter_end(pl_waiter *waiter) { atomic_store(&waiter->target, 0); }

void pl_waiter_notify(pl_waiter *waiter, const void *target) {
    if (atomic_load(&waiter->target) == (uintptr_t)target) {
        pl_event_notify(&waiter->event);
    }
}
