/* rwlock: the lock of LinkerState. Many readers or one writer; a writer can become a reader
 * without a gap.
 *
 * States: free, n readers, one writer; and, for good, poisoned: whoever held it for writing
 * failed half-way, so nobody may look at what it guards. A read lock may be released by another
 * thread than the one that took it; a write lock belongs to its thread.
 *
 * Blocking: only pl_rwlock_write, and the linker calls that only where no rendezvous can be
 * waiting for the caller; elsewhere it tries and backs off. Not fair: the topology lock lets one
 * writer at a time come near. Memory order: taking it for reading or writing acquires what the
 * last writer released; all changes of the state are SeqCst.
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
    PL_SIGNALLED = 5 /* shared.h: `check` said so */
};

typedef struct pl_rwlock {
    _Atomic uint32_t state;
    _Atomic uintptr_t writer; /* the thread that has it for writing, 0 if there is none */
    pl_event *event;          /* read-only */
} pl_rwlock;

/* Makes a free lock whose waiters sleep on `event`. It never fails, and there is nothing to
 * release. */
void pl_rwlock_init(pl_rwlock *lock, pl_event *event);

/* Answer PL_ACQUIRED, PL_BUSY or PL_POISONED; never block. */
int pl_rwlock_try_read(pl_rwlock *lock);
int pl_rwlock_try_write(pl_rwlock *lock);
/* Waits until it is free. `timeout` in nanoseconds, negative for none. Answers PL_ACQUIRED,
 * PL_POISONED, PL_TIMEOUT or PL_CANCELLED. */
int pl_rwlock_write(pl_rwlock *lock, const pl_cancel *cancel, int64_t timeout);

/* The writer becomes a reader; no other writer can come between. */
void pl_rwlock_downgrade(pl_rwlock *lock);
void pl_rwlock_release_read(pl_rwlock *lock);
void pl_rwlock_release_write(pl_rwlock *lock);
/* The writer gives up for good: the lock is poisoned and released. */
void pl_rwlock_poison(pl_rwlock *lock);

/* Whether the calling thread has taken it for writing: a signal handler of a holder must not
 * wait for it. */
int pl_rwlock_is_written_here(const pl_rwlock *lock);
/* For assertions: readers now, or -1 while it is written. */
int64_t pl_rwlock_readers(const pl_rwlock *lock);

#endif
