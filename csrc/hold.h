/* hold: what one guard or token of a linker holds, kept in C.
 *
 * Python may raise an interrupt right after a call, before its result is stored. So each call stores what it takes in a pl_hold, which exists
 * before and says afterwards what there is to release. Freeing a pl_hold releases what it holds.
 *
 * States: nothing; the topology token (pl_hold_token is its number, and stays); the lock for reading; the lock for writing. Each is released
 * once: a second release does nothing, and of several threads one releases.
 *
 * Keeps the pl_shared: the order in which Python frees a cycle of objects does not matter. Blocking: pl_hold_write_wait, pl_hold_finish, as
 * the functions of rwlock.h and shared.h. Threads: one at a time takes or hands over; any releases.
 *
 *     pl_hold *token = pl_hold_new(shared), *lock = pl_hold_new(shared);
 *     if (pl_hold_exclusive(token, lock, self)) { change(); }
 *     pl_hold_release(lock);
 *     pl_hold_release(token);
 */
#ifndef PL_HOLD_H
#define PL_HOLD_H

#include "shared.h"

enum pl_held { PL_HOLDS_NOTHING = 0, PL_HOLDS_READ = 1, PL_HOLDS_WRITE = 2, PL_HOLDS_TOKEN = 3 };

typedef struct pl_hold pl_hold;

/* One that holds nothing, or NULL if there is no memory. */
pl_hold *pl_hold_new(pl_shared *shared);
/* Releases what it holds. NULL is allowed. */
void pl_hold_free(pl_hold *hold);

/* An enum pl_held. */
int pl_hold_kind(const pl_hold *hold);
/* The number of the token that it has or had; 0: none. */
uint64_t pl_hold_token(const pl_hold *hold);

/* These take something for a hold that holds nothing. PL_ACQUIRED, PL_BUSY or PL_POISONED. */
int pl_hold_read(pl_hold *hold);
int pl_hold_write(pl_hold *hold);
/* PL_ACQUIRED, PL_POISONED, PL_TIMEOUT or PL_CANCELLED; `timeout` in nanoseconds, negative for none. */
int pl_hold_write_wait(pl_hold *hold, int64_t timeout);
/* The token: PL_ACQUIRED or PL_BUSY. */
int pl_hold_acquire(pl_hold *hold);
/* The token and then the lock for writing, for a group that has nothing to replay: PL_ACQUIRED; or PL_BUSY, with nothing taken, if that cannot
 * be done at once, for whatever reason. */
int pl_hold_exclusive(pl_hold *token, pl_hold *lock, pl_group *self);

/* Releases what it holds. 1, or 0 if that was nothing. */
int pl_hold_release(pl_hold *hold);
/* Releases the lock for writing for good: it is poisoned. Nothing to do if that is not what it holds. */
void pl_hold_poison(pl_hold *hold);

/* pl_lead_publish and pl_lead_finish for a leader whose lock is `lock`: between the two it holds the lock for reading. Each does nothing if it was
 * done: pl_hold_publish returns the operation's number then, too. */
uint64_t pl_hold_publish(pl_hold *lock, pl_group *self);
int pl_hold_finish(pl_hold *lock, pl_group *self);

#endif
