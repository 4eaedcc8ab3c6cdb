/* Discipline: `kind` is atomic and changed by exchange; `token` is written before `kind` becomes
 * PL_HOLDS_TOKEN. */
#include "hold.h"

#include "backoff.h"
#include "rendezvous.h"
#include "shared_impl.h"

void pl_hold_init(pl_hold *hold, pl_shared *shared, pl_hold *under) {
    hold->shared = shared;
    hold->under = under;
    atomic_init(&hold->kind, PL_HOLDS_NOTHING);
    atomic_init(&hold->token, 0);
    atomic_init(&hold->locks, 0);
}

void pl_hold_destroy(pl_hold *hold) { pl_hold_release(hold); }

int pl_hold_kind(const pl_hold *hold) { return atomic_load(&hold->kind); }

uint64_t pl_hold_token(const pl_hold *hold) { return atomic_load(&hold->token); }

uint32_t pl_hold_locks(const pl_hold *hold) { return atomic_load(&hold->locks); }

static int note(pl_hold *hold, int result, int kind) {
    if (result == PL_ACQUIRED) {
        if (hold->under != NULL) {
            atomic_fetch_add(&hold->under->locks, 1);
        }
        atomic_store(&hold->kind, kind);
    }
    return result;
}

/* Updates `under` after the release of a lock. */
static void let_go(pl_hold *hold) {
    if (hold->under != NULL) {
        atomic_fetch_sub(&hold->under->locks, 1);
    }
}

int pl_hold_read(pl_hold *hold) {
    return note(hold, pl_rwlock_try_read(&hold->shared->lock), PL_HOLDS_READ);
}

int pl_hold_write(pl_hold *hold) {
    return note(hold, pl_rwlock_try_write(&hold->shared->lock), PL_HOLDS_WRITE);
}

int pl_hold_write_wait(pl_hold *hold, int64_t timeout) {
    return note(hold, pl_rwlock_write(&hold->shared->lock, &hold->shared->cancel, timeout),
                PL_HOLDS_WRITE);
}

static int note_token(pl_hold *hold, uint64_t token) {
    if (token == 0) {
        return PL_BUSY;
    }
    atomic_store(&hold->token, token);
    return note(hold, PL_ACQUIRED, PL_HOLDS_TOKEN);
}

int pl_hold_acquire(pl_hold *hold) {
    return note_token(hold, pl_topology_try_acquire(&hold->shared->topology));
}

/* Takes the lock by an attempt, for a group that has nothing to replay. */
static int take_now(pl_hold *lock, int (*attempt)(pl_hold *), pl_group *self) {
    if (pl_cancel_cause(&lock->shared->cancel) != 0 || attempt(lock) != PL_ACQUIRED) {
        return PL_BUSY;
    }
    if (pl_group_is_behind(self)) {
        pl_hold_release(lock);
        return PL_BUSY;
    }
    return PL_ACQUIRED;
}

int pl_hold_write_now(pl_hold *lock, pl_group *self) { return take_now(lock, pl_hold_write, self); }

int pl_hold_read_now(pl_hold *lock, pl_group *self) { return take_now(lock, pl_hold_read, self); }

int pl_hold_exclusive(pl_hold *token, pl_hold *lock, pl_group *self) {
    int result = note_token(token, pl_group_try_exclusive(self));
    return note(lock, result, PL_HOLDS_WRITE);
}

/* Repeats the attempt while it returns PL_BUSY; follows pending operations and backs off in
 * between. */
static int take_as(pl_hold *hold, int (*attempt)(pl_hold *), pl_group *self) {
    pl_shared *shared = hold->shared;
    pl_backoff backoff = {0};
    int64_t due = pl_now() + PL_SLICE;
    for (;;) {
        if (pl_cancel_cause(&shared->cancel) != 0) {
            return PL_CANCELLED;
        }
        int result = attempt(hold);
        if (result != PL_BUSY) {
            return result;
        }
        if (pl_flag_load(&shared->flag, PL_SEQ_CST) && (result = pl_follow(self)) != PL_ACQUIRED) {
            return result;
        }
        if (pl_group_is_interrupted(self, &due)) {
            return PL_SIGNALLED;
        }
        atomic_fetch_add_explicit(&shared->paused, 1, memory_order_relaxed);
        pl_backoff_pause(&backoff);
    }
}

int pl_hold_read_as(pl_hold *hold, pl_group *self) {
    int result = take_as(hold, pl_hold_read, self);
    if (result == PL_ACQUIRED && pl_group_catch_up(self) != 0) {
        pl_hold_release(hold);
        return PL_CANCELLED;
    }
    return result;
}

int pl_hold_write_as(pl_hold *hold, pl_group *self) {
    int result = take_as(hold, pl_hold_write, self);
    if (result == PL_ACQUIRED && pl_group_catch_up(self) != 0) {
        pl_hold_poison(hold);
        return PL_CANCELLED;
    }
    return result;
}

int pl_hold_acquire_as(pl_hold *hold, pl_group *self) {
    return take_as(hold, pl_hold_acquire, self);
}

int pl_hold_release(pl_hold *hold) {
    int released = 1;
    switch (atomic_exchange(&hold->kind, PL_HOLDS_NOTHING)) {
    case PL_HOLDS_READ:
        pl_rwlock_release_read(&hold->shared->lock);
        break;
    case PL_HOLDS_WRITE:
        pl_rwlock_release_write(&hold->shared->lock);
        break;
    case PL_HOLDS_TOKEN:
        released = pl_topology_release(&hold->shared->topology, pl_hold_token(hold)) == 0;
        break;
    default:
        return 0;
    }
    let_go(hold);
    return released;
}

void pl_hold_poison(pl_hold *hold) {
    int writes = PL_HOLDS_WRITE;
    if (atomic_compare_exchange_strong(&hold->kind, &writes, PL_HOLDS_NOTHING)) {
        pl_rwlock_poison(&hold->shared->lock);
        let_go(hold);
    }
}

uint64_t pl_hold_publish(pl_hold *lock, pl_group *self) {
    if (pl_hold_kind(lock) != PL_HOLDS_WRITE) {
        return pl_bus_sent(&lock->shared->operations);
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
        return pl_cancel_cause(&lock->shared->cancel) != 0 ? PL_CANCELLED : PL_ACQUIRED;
    }
    let_go(lock);
    return pl_lead_finish(self);
}
