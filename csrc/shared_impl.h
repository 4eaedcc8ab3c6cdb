/* shared_impl: the structures of a universe and its groups. For the files of the rendezvous alone:
 * cffi does not see it.
 *
 * Protects: `exited_mutex` protects the list of exited threads; the rest as in shared.h and
 * group.h.
 * Requires: as noted at the fields.
 * Blocks: never.
 * Threads: any, except for the fields of a group's own thread. */
#ifndef PL_SHARED_IMPL_H
#define PL_SHARED_IMPL_H

#include "group.h"
#include "shared.h"

#include <pthread.h>
#include <stdatomic.h>

struct pl_group {
    pl_shared *shared; /* read-only */
    pl_safepoint safepoint;
    pl_receiver barriers;   /* the newest taken number is `arrived` */
    pl_receiver operations; /* the newest taken number is `applied` */
    pl_flag nudge;
    uintptr_t handle;
    pl_replay replay;
    uintptr_t replay_handle;
    pl_check check;
    pl_check deliver;
    uintptr_t deliver_handle;
    /* for the group's own thread, like the next four: a nudge could not be delivered yet */
    int deferred;
    int replaying;
    int leading;     /* its barrier is open */
    int following;   /* it is in pl_follow */
    int must_replay; /* it arrived at the open barrier: the leader, which writes this, awaits it */
    pl_group *next;
    int64_t
        interrupted; /* when `check` first returned nonzero in this wait, or 0; its own thread's */
};

struct pl_shared {
    /* Read by every safepoint. The rest is written by waiters and leaders, and begins on another
     * cache line. */
    pl_flag flag;
    pl_cancel cancel;
    char apart[64];
    atomic_size_t owners; /* its creator, and each group */
    _Atomic uint64_t generation;
    _Atomic uint64_t led, followed, waited, longest, paused; /* relaxed: statistics */
    pl_event event;
    pl_event barrier_event;
    pl_event sleepers;
    pl_waiter waiter;
    pl_rwlock lock;
    pl_topology topology;
    pl_bus barriers;
    pl_bus operations;
    pl_futex futex;
    pl_log log;
    size_t processors; /* read-only */
    /* relaxed: more groups ran than there are processors when the newest barrier was opened */
    atomic_int oversubscribed;
    _Atomic uint64_t finished; /* the newest operation whose leader has finished */
    pl_trace *trace;           /* usually NULL */
    pl_group *first;
    size_t count;
    pthread_mutex_t exited_mutex; /* protects `exited` and `exited_closed` */
    pl_exited *exited;
    int exited_closed;
    atomic_uint exited_count;
    pl_event exit_event;
};

/* Returns whether a waiting thread is interrupted: its `check` returns nonzero. It is called only
 * at the time `due`, which is then advanced. In rendezvous.c. */
int pl_group_is_interrupted(pl_group *self, int64_t *due);

/* Records an event of a group in the trace, if there is one. */
static inline void pl_group_note(const pl_group *group, int kind, uint64_t detail) {
    if (group->shared->trace != NULL) {
        pl_trace_add(group->shared->trace, kind, group->handle, detail);
    }
}

#endif
