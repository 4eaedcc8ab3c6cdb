#include "await.h"

void pl_await_init(pl_await *await) {
    atomic_init(&await->who, 0);
    pl_event_init(&await->event);
}

void pl_await_destroy(pl_await *await) { pl_event_destroy(&await->event); }

pl_event *pl_await_event(pl_await *await) { return &await->event; }

void pl_await_begin(pl_await *await, const void *who) { atomic_store(&await->who, (uintptr_t)who); }

void pl_await_end(pl_await *await) { atomic_store(&await->who, 0); }

void pl_await_tell(pl_await *await, const void *who) {
    if (atomic_load(&await->who) == (uintptr_t)who) {
        pl_event_notify(&await->event);
    }
}
