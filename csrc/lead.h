/* lead: leads one operation, from the locks to the last replay, in one call.
 *
 * The leader holds token and lock, has replayed all other operations (pl_hold_exclusive,
 * pl_hold_write_as), and has executed the operation in its own group or does so in `commit`.
 * pl_lead is the rendezvous of rendezvous.h: the barrier opens, `wake` runs, all groups arrive,
 * `commit` runs, the operation is appended to the log and published, the barrier closes, the write
 * lock becomes a read lock, and all groups that arrived replay. With one group, or none (`self` may
 * be NULL then), only `commit` runs.
 *
 * Both locks are released on every path, the token last. If something fails
 *
 *   before all have arrived  the operation is withdrawn: it is a no-op. All groups go on
 *   in `commit`              the linker is cancelled (PL_CAUSE_LEADER), and the lock is poisoned:
 *                            other groups wait for an operation that was not executed
 *   PL_BROKEN, or a bus      the linker is cancelled (PL_CAUSE_BUS), and the lock is poisoned
 *
 * Protects: nothing.
 * Requires: `token` holds the topology token, and `lock` the lock for writing that was taken under
 * it; a log with reserved room (pl_log_reserve), or memory.
 * Blocks: until every group has arrived or is parked, for `timeout` at most; until the groups that
 * arrived have replayed; and as long as `wake` and `commit` take. It does not need the GIL; a
 * `wake` or `commit` that calls Python takes it.
 * Memory order: that of the steps, SeqCst.
 * Threads: the leader's.
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
    PL_FAILED = 6, /* distinct from every enum pl_acquire */
    PL_BROKEN = 7  /* an invariant is violated: the linker must not be used any more */
};

/* The violated part of the protocol, if pl_lead returns PL_CANCELLED for PL_CAUSE_BUS. */
enum pl_breach {
    PL_BREACH_NONE = 0,
    PL_BREACH_OPEN = 1,    /* a barrier was open already, or the leader was behind */
    PL_BREACH_LOG = 2,     /* the log has another number */
    PL_BREACH_PUBLISH = 3, /* a group has not taken the previous operation */
    PL_BREACH_WITHDRAW = 4 /* likewise, when the operation was withdrawn */
};

struct pl_leading;
/* A callback of the leader. Returns an enum pl_step_result. */
typedef int (*pl_step)(struct pl_leading *leading);

typedef struct pl_leading {
    pl_hold *token, *lock;
    const struct pl_operation *operation; /* for the log, like the next; either may be NULL */
    void *owner;                          /* owned by the log if `is_logged`, else by the caller */
    int64_t timeout; /* for all groups to arrive, in nanoseconds; negative: none */
    /* once the barrier is open, to interrupt groups that make no call; may be NULL */
    pl_step wake;
    /* once all have arrived, under the write lock: changes the state; may be NULL */
    pl_step commit;
    void *argument; /* the caller's */
    /* results from here on: the number of the operation, 0 if it got none */
    uint64_t number;
    /* the handle of a group that did not arrive, for PL_TIMEOUT */
    uintptr_t late;
    int is_logged;
    int breach;
} pl_leading;

/* Returns PL_ACQUIRED; PL_TIMEOUT (withdrawn); PL_SIGNALLED (`check` returned nonzero: withdrawn,
 * or done in all groups and `is_logged`); PL_FAILED or PL_BROKEN (the result of `wake` or
 * `commit`); PL_CANCELLED, also if a group could not replay; PL_BUSY if out of memory, and nothing
 * has happened. */
int pl_lead(pl_group *self, pl_leading *leading);

#endif
