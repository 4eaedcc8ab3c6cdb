/* Discipline: `owner` and `waiters` are atomic, `depth` is the holder's. */
#include "turn.h"

#include <stdatomic.h>
#include <stdlib.h>

struct pl_turn {
    _Atomic uintptr_t owner; /* 0: nobody */
    atomic_uint waiters;
    unsigned depth;
    pl_event event;
};

/* The address of a variable of its own tells a thread from all others that live. */
static uintptr_t me(void) {
    static _Thread_local char mark;
    return (uintptr_t)&mark;
}

uintptr_t pl_turn_me(void) { return me(); }

uintptr_t pl_turn_holder(const pl_turn *turn) { return atomic_load(&turn->owner); }

pl_turn *pl_turn_new(void) {
    pl_turn *turn = calloc(1, sizeof *turn);
    if (turn != NULL) {
        pl_event_init(&turn->event);
    }
    return turn;
}

void pl_turn_free(pl_turn *turn) {
    if (turn != NULL) {
        pl_event_destroy(&turn->event);
        free(turn);
    }
}

int pl_turn_is_mine(const pl_turn *turn) {
    /* only this thread writes its own identity */
    return atomic_load_explicit(&turn->owner, memory_order_relaxed) == me();
}

unsigned pl_turn_depth(const pl_turn *turn) { return pl_turn_is_mine(turn) ? turn->depth : 0; }

int pl_turn_try(pl_turn *turn) {
    uintptr_t nobody = 0;
    if (pl_turn_is_mine(turn) || atomic_compare_exchange_strong(&turn->owner, &nobody, me())) {
        turn->depth++;
        return 1;
    }
    return 0;
}

int pl_turn_wait(pl_turn *turn, int64_t timeout) {
    int64_t deadline = pl_deadline(timeout);
    int taken = 0;
    atomic_fetch_add(&turn->waiters, 1);
    for (;;) {
        uint32_t key = pl_event_prepare(&turn->event);
        taken = pl_turn_try(turn);
        if (taken || !pl_event_wait(&turn->event, key, deadline)) {
            break;
        }
    }
    atomic_fetch_sub(&turn->waiters, 1);
    return taken;
}

void pl_turn_restore(pl_turn *turn, unsigned depth) {
    while (pl_turn_depth(turn) > depth) {
        pl_turn_leave(turn);
    }
}

void pl_turn_leave(pl_turn *turn) {
    if (--turn->depth == 0) {
        atomic_store(&turn->owner, 0);
        if (atomic_load(&turn->waiters) != 0) {
            pl_event_notify(&turn->event);
        }
    }
}
