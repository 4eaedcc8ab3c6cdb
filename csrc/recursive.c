/* Discipline: `owner` and `waiters` are atomic, `depth` belongs to the holder. */
#include "recursive.h"

#include <stdatomic.h>
#include <stdlib.h>

struct pl_recursive {
    _Atomic uintptr_t owner; /* 0: free */
    atomic_uint waiters;
    unsigned depth;
    pl_event event;
};

/* The address of a thread-local variable is unique among living threads. */
static uintptr_t me(void) {
    static _Thread_local char mark;
    return (uintptr_t)&mark;
}

uintptr_t pl_recursive_self(void) { return me(); }

uintptr_t pl_recursive_holder(const pl_recursive *mutex) { return atomic_load(&mutex->owner); }

pl_recursive *pl_recursive_new(void) {
    pl_recursive *mutex = calloc(1, sizeof *mutex);
    if (mutex != NULL) {
        pl_event_init(&mutex->event);
    }
    return mutex;
}

void pl_recursive_free(pl_recursive *mutex) {
    if (mutex != NULL) {
        pl_event_destroy(&mutex->event);
        free(mutex);
    }
}

int pl_recursive_is_mine(const pl_recursive *mutex) {
    /* only this thread writes its own identity */
    return atomic_load_explicit(&mutex->owner, memory_order_relaxed) == me();
}

unsigned pl_recursive_depth(const pl_recursive *mutex) {
    return pl_recursive_is_mine(mutex) ? mutex->depth : 0;
}

int pl_recursive_try(pl_recursive *mutex) {
    uintptr_t none = 0;
    if (pl_recursive_is_mine(mutex) || atomic_compare_exchange_strong(&mutex->owner, &none, me())) {
        mutex->depth++;
        return 1;
    }
    return 0;
}

int pl_recursive_wait(pl_recursive *mutex, int64_t timeout) {
    int64_t deadline = pl_deadline(timeout);
    int taken = 0;
    atomic_fetch_add(&mutex->waiters, 1);
    for (;;) {
        uint32_t key = pl_event_prepare(&mutex->event);
        taken = pl_recursive_try(mutex);
        if (taken || !pl_event_wait(&mutex->event, key, deadline)) {
            break;
        }
    }
    atomic_fetch_sub(&mutex->waiters, 1);
    return taken;
}

void pl_recursive_restore(pl_recursive *mutex, unsigned depth) {
    while (pl_recursive_depth(mutex) > depth) {
        pl_recursive_release(mutex);
    }
}

void pl_recursive_release(pl_recursive *mutex) {
    if (--mutex->depth == 0) {
        atomic_store(&mutex->owner, 0);
        if (atomic_load(&mutex->waiters) != 0) {
            pl_event_notify(&mutex->event);
        }
    }
}
