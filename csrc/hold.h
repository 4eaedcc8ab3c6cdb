/* hold: what one guard or token of a linker holds.
 *
 * Python may raise an interrupt right after a call, before its result is stored. So each call
 * stores what it takes in a pl_hold, which exists before and says afterwards what there is to
 * release. It is part of the object that Python has as a guard or token, and destroyed with it.
 *
 * States: nothing; the topology token (pl_hold_token is its number, and stays); the lock for
 * reading; the lock for writing. Each is released once: a second release does nothing, and of
 * several threads one releases.
 *
 * A lock may be taken under a token (`under`); the token counts the locks under it that are
 * held. That one outlives this.
 *
 * Protects: nothing itself. Requires: the pl_shared outlives it. Threads: one at a time takes or
 * hands over; any releases. Memory order: that of rwlock.h and topology.h; what is held is stored
 * SeqCst after it was taken.
 *
 * Blocking: pl_hold_write_wait, and the three that take as a group's thread must (pl_hold_*_as):
 * they try; if the pending flag is up they follow (rendezvous.h); else they back off
 * (backoff.h), and try again. Each turn looks for a cancellation, and every PL_SLICE nanoseconds
 * the group's `check` is called. They need no GIL, and may be called with none.
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
    _Atomic uint32_t locks; /* that were taken under it and are held */
} pl_hold;

/* Makes one that holds nothing; `under` is a token's, or NULL. It never fails. */
void pl_hold_init(pl_hold *hold, pl_shared *shared, pl_hold *under);
/* Releases what it holds. */
void pl_hold_destroy(pl_hold *hold);

/* An enum pl_held. */
int pl_hold_kind(const pl_hold *hold);
/* The number of the token that it has or had; 0: none. */
uint64_t pl_hold_token(const pl_hold *hold);
/* How many locks that were taken under it are held. */
uint32_t pl_hold_locks(const pl_hold *hold);

/* These take something for a hold that holds nothing. PL_ACQUIRED, PL_BUSY or PL_POISONED. */
int pl_hold_read(pl_hold *hold);
int pl_hold_write(pl_hold *hold);
/* PL_ACQUIRED, PL_POISONED, PL_TIMEOUT or PL_CANCELLED; `timeout` in nanoseconds, negative for
 * none. */
int pl_hold_write_wait(pl_hold *hold, int64_t timeout);
/* The token: PL_ACQUIRED or PL_BUSY. */
int pl_hold_acquire(pl_hold *hold);
/* The lock for writing, or for reading, for a group that has nothing to replay: PL_ACQUIRED; or
 * PL_BUSY, with nothing taken, if that cannot be done at once, for whatever reason. Never
 * blocks. */
int pl_hold_write_now(pl_hold *lock, pl_group *self);
int pl_hold_read_now(pl_hold *lock, pl_group *self);
/* The token and then the lock for writing, likewise. */
int pl_hold_exclusive(pl_hold *token, pl_hold *lock, pl_group *self);

/* These block, as the thread of a group must. The group has then replayed everything, but for
 * pl_hold_acquire_as. PL_ACQUIRED; PL_POISONED; PL_CANCELLED, also if the group could not
 * replay; PL_SIGNALLED (`check` said so). Nothing is taken but with PL_ACQUIRED; a lock for
 * writing under which the group could not replay is poisoned. */
int pl_hold_read_as(pl_hold *hold, pl_group *self);
int pl_hold_write_as(pl_hold *hold, pl_group *self);
int pl_hold_acquire_as(pl_hold *hold, pl_group *self);

/* Releases what it holds. 1, or 0 if that was nothing. */
int pl_hold_release(pl_hold *hold);
/* Releases the lock for writing for good: it is poisoned. Nothing to do if that is not what it
 * holds. */
void pl_hold_poison(pl_hold *hold);

/* pl_lead_publish and pl_lead_finish for a leader whose lock is `lock`: between the two it holds
 * the lock for reading. Each does nothing if it was done: pl_hold_publish returns the
 * operation's number then, too. */
uint64_t pl_hold_publish(pl_hold *lock, pl_group *self);
int pl_hold_finish(pl_hold *lock, pl_group *self);

#endif
