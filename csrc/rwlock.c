/* Discipline: `writer` is written by the writer only, while it holds the lock, and is compared only
 * with the reading thread itself: relaxed. The rest of the state is one atomic word: WRITER, or a
 * number of readers; POISON is a separate bit that is only ever set. The word is changed by
 * compare-and-swap, so there is no moment between writer and reader in a downgrade. */
#include "rwlock.h"

#include "recursive.h"

#define PL_WRITER UINT32_C(0x40000000)
#define PL_POISON UINT32_C(0x80000000)

void pl_rwlock_init(pl_rwlock *lock, pl_event *event) {
    atomic_init(&lock->state, 0);
    atomic_init(&lock->writer, 0);
    lock->event = event;
}

int pl_rwlock_try_read(pl_rwlock *lock) {
    uint32_t state = atomic_load(&lock->state);
    for (;;) {
        if (state & PL_POISON) {
            return PL_POISONED;
        }
        if (state & PL_WRITER) {
            return PL_BUSY;
        }
        if (atomic_compare_exchange_weak(&lock->state, &state, state + 1)) {
            return PL_ACQUIRED;
        }
    }
}

int pl_rwlock_try_write(pl_rwlock *lock) {
    uint32_t state = 0;
    if (atomic_compare_exchange_strong(&lock->state, &state, PL_WRITER)) {
        atomic_store_explicit(&lock->writer, pl_recursive_self(), memory_order_relaxed);
        return PL_ACQUIRED;
    }
    return state & PL_POISON ? PL_POISONED : PL_BUSY;
}

int pl_rwlock_write(pl_rwlock *lock, const pl_cancel *cancel, int64_t timeout) {
    int64_t deadline = pl_deadline(timeout);
    for (;;) {
        uint32_t key = pl_event_prepare(lock->event);
        int result = pl_rwlock_try_write(lock);
        if (result != PL_BUSY) {
            return result;
        }
        if (cancel != NULL && pl_cancel_cause(cancel) != 0) {
            return PL_CANCELLED;
        }
        if (!pl_event_wait(lock->event, key, deadline)) {
            return PL_TIMEOUT;
        }
    }
}

void pl_rwlock_downgrade(pl_rwlock *lock) {
    atomic_store_explicit(&lock->writer, 0, memory_order_relaxed);
    atomic_store(&lock->state, 1); /* the caller is the writer: no other thread changes the word */
    pl_event_notify(lock->event);
}

void pl_rwlock_release_read(pl_rwlock *lock) {
    if ((atomic_fetch_sub(&lock->state, 1) & ~PL_POISON) == 1) {
        pl_event_notify(lock->event);
    }
}

void pl_rwlock_release_write(pl_rwlock *lock) {
    atomic_store_explicit(&lock->writer, 0, memory_order_relaxed);
    atomic_store(&lock->state, 0);
    pl_event_notify(lock->event);
}

void pl_rwlock_poison(pl_rwlock *lock) {
    /* Sets single bits: if the writer is a reader already (it failed just after a downgrade), its
     * release must not clear POISON. */
    atomic_store_explicit(&lock->writer, 0, memory_order_relaxed);
    atomic_fetch_or(&lock->state, PL_POISON);
    atomic_fetch_and(&lock->state, ~PL_WRITER);
    pl_event_notify(lock->event);
}

int pl_rwlock_is_written_here(const pl_rwlock *lock) {
    return atomic_load_explicit(&lock->writer, memory_order_relaxed) == pl_recursive_self();
}

int64_t pl_rwlock_readers(const pl_rwlock *lock) {
    uint32_t state = atomic_load(&lock->state);
    return state & PL_WRITER ? -1 : (int64_t)(state & ~PL_POISON);
}
