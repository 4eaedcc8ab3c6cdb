/* Discipline: `kind` is atomic and changed by exchange; `token` is written before `kind` says that there is one. */
#include "hold.h"

#include "rendezvous.h"

#include <stdatomic.h>
#include <stdlib.h>

struct pl_hold {
    pl_shared *shared;
    _Atomic int kind; /* enum pl_held */
    _Atomic uint64_t token;
};

pl_hold *pl_hold_new(pl_shared *shared) {
    pl_hold *hold = calloc(1, sizeof *hold);
    if (hold != NULL) {
        hold->shared = pl_shared_keep(shared);
    }
    return hold;
}

void pl_hold_free(pl_hold *hold) {
    if (hold != NULL) {
        pl_hold_release(hold);
        pl_shared_free(hold->shared);
        free(hold);
    }
}

int pl_hold_kind(const pl_hold *hold) {
    return atomic_load(&hold->kind);
}

uint64_t pl_hold_token(const pl_hold *hold) {
    return atomic_load(&hold->token);
}

static int note(pl_hold *hold, int result, int kind) {
    if (result == PL_ACQUIRED) {
        atomic_store(&hold->kind, kind);
    }
    return result;
}

int pl_hold_read(pl_hold *hold) {
    return note(hold, pl_rwlock_try_read(pl_shared_lock(hold->shared)), PL_HOLDS_READ);
}

int pl_hold_write(pl_hold *hold) {
    return note(hold, pl_rwlock_try_write(pl_shared_lock(hold->shared)), PL_HOLDS_WRITE);
}

int pl_hold_write_wait(pl_hold *hold, int64_t timeout) {
    return note(hold, pl_rwlock_write(pl_shared_lock(hold->shared), pl_shared_cancel(hold->shared), timeout), PL_HOLDS_WRITE);
}

static int note_token(pl_hold *hold, uint64_t token) {
    if (token == 0) {
        return PL_BUSY;
    }
    atomic_store(&hold->token, token);
    return note(hold, PL_ACQUIRED, PL_HOLDS_TOKEN);
}

int pl_hold_acquire(pl_hold *hold) {
    return note_token(hold, pl_gate_try_acquire(pl_shared_gate(hold->shared)));
}

int pl_hold_exclusive(pl_hold *token, pl_hold *lock, pl_group *self) {
    int result = note_token(token, pl_group_try_exclusive(self));
    return note(lock, result, PL_HOLDS_WRITE);
}

int pl_hold_release(pl_hold *hold) {
    switch (atomic_exchange(&hold->kind, PL_HOLDS_NOTHING)) {
    case PL_HOLDS_READ:
        pl_rwlock_release_read(pl_shared_lock(hold->shared));
        return 1;
    case PL_HOLDS_WRITE:
        pl_rwlock_release_write(pl_shared_lock(hold->shared));
        return 1;
    case PL_HOLDS_TOKEN:
        return pl_gate_release(pl_shared_gate(hold->shared), atomic_load(&hold->token)) == 0;
    default:
        return 0;
    }
}

void pl_hold_poison(pl_hold *hold) {
    int writes = PL_HOLDS_WRITE;
    if (atomic_compare_exchange_strong(&hold->kind, &writes, PL_HOLDS_NOTHING)) {
        pl_rwlock_poison(pl_shared_lock(hold->shared));
    }
}

uint64_t pl_hold_publish(pl_hold *lock, pl_group *self) {
    if (atomic_load(&lock->kind) != PL_HOLDS_WRITE) {
        return pl_bus_sent(pl_shared_operations(lock->shared));
    }
    uint64_t number = pl_lead_publish(self);
    if (number != 0) {
        atomic_store(&lock->kind, PL_HOLDS_READ);
    }
    return number;
}

int pl_hold_finish(pl_hold *lock, pl_group *self) {
    int reads = PL_HOLDS_READ;
    if (!atomic_compare_exchange_strong(&lock->kind, &reads, PL_HOLDS_NOTHING)) {
        return pl_cancel_cause(pl_shared_cancel(lock->shared)) != 0 ? PL_CANCELLED : PL_ACQUIRED;
    }
    return pl_lead_finish(self);
}
