#include "cancel.h"

#include <stdatomic.h>
#include <stdlib.h>

struct pl_cancel {
    _Atomic uint64_t cause;
    pl_event *event;     /* read-only, like the next two once there are other threads */
    pl_cancel_hook hook; /* may be NULL */
    void *argument;
};

pl_cancel *pl_cancel_new(pl_event *event) {
    pl_cancel *cancel = malloc(sizeof *cancel);
    if (cancel != NULL) {
        atomic_init(&cancel->cause, 0);
        cancel->event = event;
        cancel->hook = NULL;
        cancel->argument = NULL;
    }
    return cancel;
}

void pl_cancel_free(pl_cancel *cancel) {
    free(cancel);
}

void pl_cancel_on_set(pl_cancel *cancel, pl_cancel_hook hook, void *argument) {
    cancel->hook = hook;
    cancel->argument = argument;
}

int pl_cancel_set(pl_cancel *cancel, uint64_t cause) {
    uint64_t open = 0;
    int first = atomic_compare_exchange_strong(&cancel->cause, &open, cause);
    pl_event_notify(cancel->event);
    if (first && cancel->hook != NULL) {
        cancel->hook(cancel->argument);
    }
    return first;
}

uint64_t pl_cancel_cause(const pl_cancel *cancel) {
    return atomic_load(&cancel->cause);
}
