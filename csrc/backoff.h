/* backoff: pauses between attempts to take a lock that was busy.
 *
 * The pauses are spins, then yields, then sleeps that double. The caller follows pending operations
 * between pauses, so a pause must be short while a rendezvous may start, and may be long while a
 * long load holds the lock.
 *
 * States: the number of pauses taken; all zeros is a fresh one.
 * Protects: nothing.
 * Blocks: up to PL_BACKOFF_CAP nanoseconds a pause.
 * Threads: one.
 *
 *     pl_backoff backoff = {0};
 *     while (pl_rwlock_try_write(lock) == PL_BUSY) { follow(); pl_backoff_pause(&backoff); } */
#ifndef PL_BACKOFF_H
#define PL_BACKOFF_H

#include <stdint.h>

enum {
    /* enough for a lock that is held for a few instructions */
    PL_BACKOFF_SPINS = 64,
    PL_BACKOFF_YIELDS = 24,         /* let a preempted holder run */
    PL_BACKOFF_FIRST_SLEEP = 48000, /* nanoseconds: the time of a small load */
    PL_BACKOFF_DOUBLINGS = 8,
    PL_BACKOFF_CAP = 10000000 /* nanoseconds: too short for a person to notice */
};

typedef struct pl_backoff {
    uint32_t pauses;
} pl_backoff;

/* Returns the kind of pause number `pauses` (from 0): 0 for a spin, -1 for a yield, else the
 * nanoseconds of a sleep. */
int64_t pl_backoff_kind(uint32_t pauses);
/* Pauses, and counts the pause. */
void pl_backoff_pause(pl_backoff *backoff);

#endif
