/* hold: the lock or token that one guard or token object holds.
 *
 * Python may raise an interrupt right after a call, before its result is stored. So each call
 * stores what it takes in a pl_hold, which exists before the call and records what is to be
 * released. It is embedded in the guard or token object of Python, and destroyed with it.
 *
 * States: nothing; the topology token (pl_hold_token is its number, and stays); the lock for
 * reading; the lock for writing. Each is released once: a second release does nothing, and of
 * several threads exactly one releases.
 *
 * A lock may be taken under a token (`under`); the token counts the held locks under it, and
 * outlives them.
 *
 * Protects: nothing.
 * Requires: the pl_shared outlives it.
 * Blocks: pl_hold_write_wait, and the three functions for a group's thread (pl_hold_*_as): they
 * try; if the pending flag is set they follow (rendezvous.h); otherwise they back off (backoff.h),
 * and try again. Each iteration checks for a cancellation, and every PL_SLICE nanoseconds the
 * group's `check` is called. They do not need the GIL.
 * Memory order: that of rwlock.h and topology.h; the state is stored SeqCst after the lock was
 * taken.
 * Threads: one at a time takes or hands over; any releases.
 *
 *     pl_hold token, lock;
 *     pl_hold_init(&token, shared, NULL);
 *     pl_hold_init(&lock, shared, &token);
 *     if (pl_hold_exclusive(&token, &lock, self) == PL_ACQUIRED) { change(); }
 *     pl_hold_destroy(&lock);
 *     pl_hold_destroy(&token); */
#ifndef PL_HOLD_H
#define PL_HOLD_H

#include "shared.h"

enum pl_held { PL_HOLDS_NOTHING = 0, PL_HOLDS_READ = 1, PL_HOLDS_WRITE = 2, PL_HOLDS_TOKEN = 3 };

typedef struct pl_hold {
    pl_shared *shared; /* read-only, like the next */
    struct pl_hold *under;
    _Atomic int kind; /* enum pl_held */
    _Atomic uint64_t token;
    _Atomic uint32_t locks; /* held locks that were taken under it */
} pl_hold;

/* Initializes one that holds nothing; `under` is the pl_hold of a token, or NULL. Never fails. */
void pl_hold_init(pl_hold *hold, pl_shared *shared, pl_hold *under);
/* Releases what it holds. */
void pl_hold_destroy(pl_hold *hold);

/* Returns an enum pl_held. */
int pl_hold_kind(const pl_hold *hold);
/* Returns the number of the token that it holds or held; 0: none. */
uint64_t pl_hold_token(const pl_hold *hold);
/* Returns the number of held locks that were taken under it. */
uint32_t pl_hold_locks(const pl_hold *hold);

/* These take a lock or token for a hold that holds nothing. PL_ACQUIRED, PL_BUSY or PL_POISONED. */
int pl_hold_read(pl_hold *hold);
int pl_hold_write(pl_hold *hold);
/* PL_ACQUIRED, PL_POISONED, PL_TIMEOUT or PL_CANCELLED; `timeout` in nanoseconds, negative for
 * none. */
int pl_hold_write_wait(pl_hold *hold, int64_t timeout);
/* The token: PL_ACQUIRED or PL_BUSY. */
int pl_hold_acquire(pl_hold *hold);
/* Take the lock for writing, or for reading, for a group that has nothing to replay. Return
 * PL_ACQUIRED; or PL_BUSY, with nothing taken, if that is not possible at once. Never block. */
int pl_hold_write_now(pl_hold *lock, pl_group *self);
int pl_hold_read_now(pl_hold *lock, pl_group *self);
/* Takes the token and then the lock for writing, in the same way. */
int pl_hold_exclusive(pl_hold *token, pl_hold *lock, pl_group *self);

/* These block, and follow pending operations as the thread of a group must. Afterwards the group
 * has replayed everything, except after pl_hold_acquire_as. Return PL_ACQUIRED; PL_POISONED;
 * PL_CANCELLED, also if the group could not replay; PL_SIGNALLED (`check` returned nonzero). Only
 * PL_ACQUIRED takes the lock; a lock for writing under which the group could not replay is
 * poisoned. */
int pl_hold_read_as(pl_hold *hold, pl_group *self);
int pl_hold_write_as(pl_hold *hold, pl_group *self);
int pl_hold_acquire_as(pl_hold *hold, pl_group *self);

/* Releases what it holds. Returns 1, or 0 if that was nothing. */
int pl_hold_release(pl_hold *hold);
/* Poisons and releases the lock for writing. Does nothing if it does not hold that. */
void pl_hold_poison(pl_hold *hold);

/* pl_lead_publish and pl_lead_finish for a leader whose lock is `lock`: between the two it holds
 * the lock for reading. A second call of either does nothing; pl_hold_publish still returns the
 * operation's number. */
uint64_t pl_hold_publish(pl_hold *lock, pl_group *self);
int pl_hold_finish(pl_hold *lock, pl_group *self);

#endif
