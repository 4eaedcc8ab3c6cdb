/* rwlock: the lock of LinkerState. Many readers or one writer; a writer can become a reader without
 * a gap.
 *
 * States: free, n readers, one writer; and, for good, poisoned: its writer failed half-way, so the
 * protected state must not be used. A read lock may be released by another thread than the one that
 * took it; a write lock belongs to its thread.
 *
 * Protects: LinkerState.
 * Requires: for pl_rwlock_write, that no rendezvous can be waiting for the caller; elsewhere the
 * linker tries and backs off.
 * Blocks: pl_rwlock_write only. Not fair: the topology lock admits one writer at a time.
 * Memory order: taking it acquires the writes before the last release of a writer; all changes of
 * the state are SeqCst.
 * Threads: any.
 *
 *     if (pl_rwlock_try_write(lock) == PL_ACQUIRED) {
 *         change();
 *         pl_rwlock_downgrade(lock);
 *         look();
 *         pl_rwlock_release_read(lock);
 *     } */
#ifndef PL_RWLOCK_H
#define PL_RWLOCK_H

#include "cancel.h"
#include "event.h"

#include <stdint.h>

enum pl_acquire {
    PL_ACQUIRED = 0,
    PL_BUSY = 1,     /* try again later */
    PL_POISONED = 2, /* never again */
    PL_TIMEOUT = 3,
    PL_CANCELLED = 4,
    PL_SIGNALLED = 5 /* shared.h: `check` returned nonzero */
};

typedef struct pl_rwlock {
    _Atomic uint32_t state;
    _Atomic uintptr_t writer; /* the thread that holds it for writing, or 0 */
    pl_event *event;          /* read-only */
} pl_rwlock;

/* Initializes a free lock whose waiters sleep on `event`. Never fails; nothing needs to be
 * released. */
void pl_rwlock_init(pl_rwlock *lock, pl_event *event);

/* Return PL_ACQUIRED, PL_BUSY or PL_POISONED; never block. */
int pl_rwlock_try_read(pl_rwlock *lock);
int pl_rwlock_try_write(pl_rwlock *lock);
/* Waits until it is free. `timeout` in nanoseconds, negative for none. Returns PL_ACQUIRED,
 * PL_POISONED, PL_TIMEOUT or PL_CANCELLED. */
int pl_rwlock_write(pl_rwlock *lock, const pl_cancel *cancel, int64_t timeout);

/* The writer becomes a reader; no other writer can acquire the lock in between. */
void pl_rwlock_downgrade(pl_rwlock *lock);
void pl_rwlock_release_read(pl_rwlock *lock);
void pl_rwlock_release_write(pl_rwlock *lock);
/* The writer poisons and releases the lock. */
void pl_rwlock_poison(pl_rwlock *lock);

/* Returns whether the calling thread holds it for writing; a signal handler of the holder must not
 * wait for it. */
int pl_rwlock_is_written_here(const pl_rwlock *lock);
/* Returns the number of readers, or -1 while a writer holds it; for assertions. */
int64_t pl_rwlock_readers(const pl_rwlock *lock);

#endif
