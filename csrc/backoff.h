/* backoff: how long to stay away from a lock that was busy.
 *
 * A sequence of pauses: spins, then yields, then sleeps that double. The waiter looks for
 * pending operations between pauses, so a pause must be short while a rendezvous may start, and
 * need not be while a long load holds the lock.
 *
 * States: the number of pauses taken; all zeros is a fresh one. Blocking: up to PL_BACKOFF_CAP a
 * pause. Threads: one.
 *
 *     pl_backoff backoff = {0};
 *     while (pl_rwlock_try_write(lock) == PL_BUSY) { follow(); pl_backoff_pause(&backoff); } */
#ifndef PL_BACKOFF_H
#define PL_BACKOFF_H

#include <stdint.h>

enum {
    /* a lock that is held for a few instructions comes free in this time */
    PL_BACKOFF_SPINS = 64,
    PL_BACKOFF_YIELDS = 24,         /* a holder that lost its processor gets it back */
    PL_BACKOFF_FIRST_SLEEP = 48000, /* nanoseconds: about a small load */
    PL_BACKOFF_DOUBLINGS = 8,
    PL_BACKOFF_CAP = 10000000 /* nanoseconds: what a person does not notice */
};

typedef struct pl_backoff {
    uint32_t pauses;
} pl_backoff;

/* What pause number `pauses` (from 0) is: 0 a spin, -1 a yield, else a sleep of that many
 * nanoseconds. */
int64_t pl_backoff_kind(uint32_t pauses);
/* Takes the next pause. */
void pl_backoff_pause(pl_backoff *backoff);

#endif
