/* Discipline: `cause` and `calls` are atomic; the event and the hooks are read-only once there are
 * other threads. */
#include "cancel.h"

#include <string.h>

enum { HOOKS = sizeof((struct pl_cancel *)0)->hooks / sizeof *((struct pl_cancel *)0)->hooks };

void pl_cancel_init(pl_cancel *cancel, pl_event *event) {
    atomic_init(&cancel->cause, 0);
    atomic_init(&cancel->calls, 0);
    cancel->event = event;
    memset(cancel->hooks, 0, sizeof cancel->hooks);
}

/* Returns the index of the hook with this argument, else of an empty one, else HOOKS. */
static size_t place_for(const pl_cancel *cancel, const void *argument) {
    size_t empty = HOOKS;
    for (size_t i = 0; i < HOOKS; i++) {
        if (cancel->hooks[i].hook == NULL) {
            empty = i;
        } else if (cancel->hooks[i].argument == argument) {
            return i;
        }
    }
    return empty;
}

int pl_cancel_on_set(pl_cancel *cancel, pl_cancel_hook hook, void *argument) {
    size_t place = place_for(cancel, argument);
    if (place == HOOKS) {
        return -1;
    }
    cancel->hooks[place].hook = hook;
    cancel->hooks[place].argument = argument;
    return 0;
}

static void wake(pl_cancel *cancel) {
    pl_event_notify(cancel->event);
    for (size_t i = 0; i < HOOKS; i++) {
        if (cancel->hooks[i].hook != NULL) {
            cancel->hooks[i].hook(cancel->hooks[i].argument);
        }
    }
}

int pl_cancel_set(pl_cancel *cancel, uint64_t cause) {
    uint64_t before = atomic_load(&cancel->cause);
    while (before == 0 || pl_is_stop(before)) {
        if (atomic_compare_exchange_weak(&cancel->cause, &before, cause)) {
            wake(cancel);
            return 1;
        }
    }
    pl_event_notify(cancel->event);
    return 0;
}

void pl_cancel_abandon(pl_cancel *cancel, uint64_t cause) { atomic_store(&cancel->cause, cause); }

uint64_t pl_cancel_cause(const pl_cancel *cancel) {
    uint64_t cause = atomic_load(&cancel->cause);
    if (!pl_is_stop(cause)) {
        return cause;
    }
    return cause == pl_stop_of(atomic_load(&cancel->calls)) ? PL_CAUSE_STOPPED : 0;
}

uint64_t pl_cancel_call(const pl_cancel *cancel) {
    uint64_t calls = atomic_load(&cancel->calls);
    return calls & 1 ? calls : 0;
}

void pl_cancel_stop(pl_cancel *cancel, uint64_t call) {
    uint64_t before = atomic_load(&cancel->cause);
    uint64_t stop = pl_stop_of(call);
    while (before == 0 || (pl_is_stop(before) && before < stop)) {
        if (atomic_compare_exchange_weak(&cancel->cause, &before, stop)) {
            before = stop;
            break;
        }
    }
    if (before == stop) {
        wake(cancel);
    }
}
