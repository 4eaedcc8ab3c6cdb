/* shared: one dynamic-link universe: the lock, the flag, the buses and the groups of one linker.
 *
 * The parts are primitives of their own, embedded here; what the groups do with them is in
 * rendezvous.h. Reference-counted: its maker and each group own it.
 *
 * Protected by: the list of groups changes under topology token and write lock, and may be read
 * under a read lock. The list of threads that have ended has a mutex of its own, a leaf. All
 * else is atomic in its primitive. Blocking: pl_shared_wait_exited. Threads: any. */
#ifndef PL_SHARED_H
#define PL_SHARED_H

#include "waiter.h"
#include "bus.h"
#include "cancel.h"
#include "event.h"
#include "flag.h"
#include "futex.h"
#include "topology.h"
#include "log.h"
#include "rwlock.h"
#include "trace.h"

#include <stddef.h>
#include <stdint.h>

/* Why a linker was cancelled: the cause of its pl_cancel. */
enum pl_cause {
    PL_CAUSE_CLOSED = 1, /* the program ended */
    PL_CAUSE_LEADER = 2, /* a leader failed between the barriers */
    PL_CAUSE_REPLAY = 3, /* a group could not replay */
    /* a bus was full, a barrier was open already, a leader was behind: a broken protocol */
    PL_CAUSE_BUS = 4,
    PL_CAUSE_INTERRUPTED = 5, /* `check` said so */
    PL_CAUSE_FORKED = 6       /* its threads are in the parent of this process */
};

typedef struct pl_shared pl_shared;
typedef struct pl_group pl_group;

/* NULL if there is no memory. Each group keeps it too, so that it and its groups may be freed in
 * any order; no thread may wait by then. */
pl_shared *pl_shared_new(void);
void pl_shared_free(pl_shared *shared);

/* Has what groups do noted in `trace`, of which it becomes an owner. Once, and before there are
 * any groups. */
void pl_shared_set_trace(pl_shared *shared, pl_trace *trace);

/* The parts; they belong to `shared`. */
pl_event *pl_shared_event(pl_shared *shared);
pl_event *pl_shared_barrier_event(pl_shared *shared);
pl_event *pl_shared_sleepers(pl_shared *shared);
pl_waiter *pl_shared_waiter(pl_shared *shared);
pl_cancel *pl_shared_cancel(pl_shared *shared);
pl_flag *pl_shared_flag(pl_shared *shared);
pl_rwlock *pl_shared_lock(pl_shared *shared);
pl_topology *pl_shared_topology(pl_shared *shared);
pl_bus *pl_shared_barriers(pl_shared *shared);
pl_bus *pl_shared_operations(pl_shared *shared);
pl_futex *pl_shared_futex(pl_shared *shared);
pl_log *pl_shared_log(pl_shared *shared);

/* How often the meaning of names has changed, under the write lock: what was looked up before
 * the newest change is not to be relied on. The caller of pl_shared_changed has the lock;
 * pl_shared_changes is for all. SeqCst. */
void pl_shared_changed(pl_shared *shared);
uint64_t pl_shared_changes(const pl_shared *shared);

/* Threads that have ended by themselves, and whose groups are dead but still there: whoever
 * changes the topology next takes them out, so that the thread itself needs neither the lock nor
 * Python. There is room for PL_EXITED_MOST of them. Any thread, at any time; a mutex of its own,
 * under which nothing is waited for. */
enum { PL_EXITED_MOST = 16 };
typedef struct pl_exited {
    struct pl_exited *next;
    uintptr_t handle; /* of the thread */
} pl_exited;
/* Keeps one more owner of `shared`: pl_shared_free. */
pl_shared *pl_shared_keep(pl_shared *shared);
/* Leaves a thread there, whose record stays until pl_shared_take_exited has answered it. 0 if
 * there is no room, or nobody looks any more. */
int pl_shared_add_exited(pl_shared *shared, pl_exited *exited);
/* Takes one: its handle, or 0 if there is none. */
uintptr_t pl_shared_take_exited(pl_shared *shared);
/* How many there are. */
uint32_t pl_shared_exited_count(const pl_shared *shared);
/* Nobody will look any more: what is there may be taken still, but nothing is left there from
 * now on. */
void pl_shared_close_exited(pl_shared *shared);
/* Wakes those who wait in pl_shared_wait_exited. */
void pl_shared_notify_exited(pl_shared *shared);
/* Waits until there is one, or they were woken, or the timeout (nanoseconds) is over. Blocks. */
void pl_shared_wait_exited(pl_shared *shared, int64_t timeout);

/* How often groups waited for each other so far. Relaxed: the parts are of about the same
 * moment. */
typedef struct pl_waits {
    uint64_t led; /* rendezvous that were led */
    /* turns of groups that came to one, or caught up on their way into the guest */
    uint64_t followed;
    uint64_t nanoseconds; /* that leaders waited for the others, in all */
    uint64_t longest;     /* of these waits, one for each barrier */
    uint64_t paused;      /* pauses of threads that found the token or the lock taken */
} pl_waits;
void pl_shared_waits(const pl_shared *shared, pl_waits *waits);

/* Groups there are, the dead ones included. Needs a read lock. */
size_t pl_group_count(const pl_shared *shared);
/* The oldest operation that some living group has yet to replay, less one: logs may forget
 * everything up to it. Needs a read lock. */
uint64_t pl_shared_applied_by_all(const pl_shared *shared);
/* The newest operation that each living group has replayed, of at most `capacity` groups;
 * returns how many. Needs a read lock. */
size_t pl_shared_applied(const pl_shared *shared, uint64_t *numbers, size_t capacity);
/* Whether there is nobody whom a change would have to meet: one group at most, and the linker
 * was not given up. Under the write lock. */
int pl_shared_is_alone(const pl_shared *shared);

#endif
