/* Discipline: `who` is atomic and written by the one waiter. */
#include "await.h"

#include <stdatomic.h>
#include <stdlib.h>

struct pl_await {
    _Atomic uintptr_t who;
    pl_event *event; /* read-only */
};

pl_await *pl_await_new(void) {
    pl_await *await = calloc(1, sizeof *await);
    if (await != NULL) {
        await->event = pl_event_new();
        if (await->event == NULL) {
            free(await);
            return NULL;
        }
    }
    return await;
}

void pl_await_free(pl_await *await) {
    if (await != NULL) {
        pl_event_free(await->event);
        free(await);
    }
}

pl_event *pl_await_event(pl_await *await) {
    return await->event;
}

void pl_await_begin(pl_await *await, const void *who) {
    atomic_store(&await->who, (uintptr_t)who);
}

void pl_await_end(pl_await *await) {
    atomic_store(&await->who, 0);
}

void pl_await_tell(pl_await *await, const void *who) {
    if (atomic_load(&await->who) == (uintptr_t)who) {
        pl_event_notify(await->event);
    }
}
