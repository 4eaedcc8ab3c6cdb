/* shared_impl: what a universe and its groups are made of. For the files of the rendezvous
 * alone: cffi does not see it. */
#ifndef PL_SHARED_IMPL_H
#define PL_SHARED_IMPL_H

#include "group.h"
#include "shared.h"

#include <pthread.h>
#include <stdatomic.h>

struct pl_group {
    pl_shared *shared; /* read-only */
    pl_safepoint safepoint;
    pl_receiver barriers;   /* what it has taken is `arrived` */
    pl_receiver operations; /* what it has taken is `applied` */
    pl_flag nudge;
    uintptr_t handle;
    pl_replay replay;
    uintptr_t replay_handle;
    pl_check check;
    pl_check deliver;
    uintptr_t deliver_handle;
    /* of the group's own thread, like this: it was nudged when it could not deliver */
    int deferred;
    int replaying;
    int leading;    /* of its own thread, like the two around it: its barrier is up */
    int following;  /* it is in pl_follow */
    int remembered; /* it arrived at the barrier that is open */
    pl_group *next;
    int64_t interrupted; /* when `check` first said so in this wait, or 0; its own thread's */
};

struct pl_shared {
    /* What every safepoint looks at. The rest is written by those who wait and change, and
     * begins on another cache line. */
    pl_flag flag;
    pl_cancel cancel;
    char apart[64];
    atomic_size_t owners; /* its maker, and each group */
    _Atomic uint64_t changes;
    _Atomic uint64_t led, followed, waited, longest, paused; /* relaxed: they are only counted */
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
    _Atomic uint64_t finished; /* the newest operation whose leader has met all */
    pl_trace *trace;           /* most often NULL */
    pl_group *first;
    size_t count;
    pthread_mutex_t exited_mutex; /* of the list, and that it is closed */
    pl_exited *exited;
    int exited_closed;
    atomic_uint exited_count;
    pl_event exit_event;
};

/* Whether the thread that waits for a group has a reason of its own to stop: its `check` says
 * so. It is asked only when the moment `due` has come, and sets the next. In rendezvous.c. */
int pl_group_is_interrupted(pl_group *self, int64_t *due);

/* Notes what a group does in the trace, if there is one. */
static inline void pl_group_note(const pl_group *group, int kind, uint64_t detail) {
    if (group->shared->trace != NULL) {
        pl_trace_add(group->shared->trace, kind, group->handle, detail);
    }
}

#endif
