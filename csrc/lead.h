/* lead: one operation, from token and write lock to the last replay, in one call.
 *
 * The leader holds token and lock, has carried the operation out in its own group, and has
 * replayed everything else (pl_hold_exclusive, pl_hold_write_as). pl_lead is the rendezvous of
 * rendezvous.h: barrier up, `wake`, all are there, `commit`, the operation is in the log,
 * published, barrier down, the write lock a read lock, all that were there have replayed. With
 * one group, or none (`self` may be NULL then), there is only `commit`.
 *
 * Both locks are released on every way out, the token last. If something fails
 *
 *   before all have come   the operation is withdrawn: it is one that does nothing. All go on
 *   in `commit`            the linker is cancelled (PL_CAUSE_LEADER), and the lock is poisoned:
 *                          others wait for what is not carried out
 *   PL_BROKEN, or a bus    the linker is cancelled (PL_CAUSE_BUS), and the lock is poisoned
 *
 * Protects: nothing itself. Requires: `token` holds the topology token, and `lock` the lock for
 * writing that was taken under it; a log with room (pl_log_reserve), or memory. Blocks: until
 * every group is there or parked, for `timeout` at most; until those that were there have
 * replayed; and as long as `wake` and `commit` take. It needs no GIL; a `wake` or `commit` that
 * calls Python takes it. Memory order: that of the steps, SeqCst. Threads: the leader's.
 *
 *     pl_leading leading = {.token = &token, .lock = &lock, .operation = operation,
 *                           .owner = owner, .timeout = -1, .commit = change};
 *     int result = pl_lead(self, &leading); */
#ifndef PL_LEAD_H
#define PL_LEAD_H

#include "group.h"
#include "hold.h"

enum pl_step_result {
    PL_DONE = 0,
    PL_FAILED = 6, /* unlike every enum pl_acquire */
    PL_BROKEN = 7  /* an invariant does not hold: nothing of the linker is to be used any more */
};

/* Which part of the protocol was broken, where pl_lead returns PL_CANCELLED for PL_CAUSE_BUS. */
enum pl_breach {
    PL_BREACH_NONE = 0,
    PL_BREACH_OPEN = 1,    /* a barrier was up already, or the leader was behind */
    PL_BREACH_LOG = 2,     /* the log has another number */
    PL_BREACH_PUBLISH = 3, /* a group has not taken the operation before */
    PL_BREACH_WITHDRAW = 4 /* likewise, when the operation was withdrawn */
};

struct pl_leading;
/* What the leader does at a point of its own; an enum pl_step_result. */
typedef int (*pl_step)(struct pl_leading *leading);

typedef struct pl_leading {
    pl_hold *token, *lock;
    const struct pl_operation *operation; /* for the log, like the next; either may be NULL */
    void *owner;                          /* the log's if `is_logged`, else the caller's still */
    int64_t timeout;                      /* for all to come, in nanoseconds; negative: none */
    /* once the barrier is up, to reach groups that make no call; may be NULL */
    pl_step wake;
    /* once all are there, under the write lock: changes the state; may be NULL */
    pl_step commit;
    void *argument; /* the caller's */
    /* out, like the rest: the operation's, 0 if it got none */
    uint64_t number;
    /* the handle of a group that did not come, for PL_TIMEOUT */
    uintptr_t late;
    int is_logged;
    int breach;
} pl_leading;

/* PL_ACQUIRED; PL_TIMEOUT (withdrawn); PL_SIGNALLED (`check` said so: withdrawn, or it is done
 * in all groups and `is_logged`); PL_FAILED or PL_BROKEN (what `wake` or `commit` returned);
 * PL_CANCELLED, also if a group could not replay; PL_BUSY if there is no memory, and nothing has
 * happened. */
int pl_lead(pl_group *self, pl_leading *leading);

#endif
