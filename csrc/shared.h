/* shared: one dynamic-link universe: the lock, the flag, the buses and the groups of one linker.
 *
 * The parts are separate primitives, embedded here; rendezvous.h has the protocol of the groups.
 * Reference-counted: its creator and each group own a reference.
 *
 * Protects: the list of groups changes under the topology token and the write lock, and may be read
 * under a read lock. The list of exited threads has its own mutex, a leaf. All else is atomic in
 * its primitive.
 * Requires: as noted for each function.
 * Blocks: pl_shared_wait_exited only.
 * Memory order: that of the primitives.
 * Threads: any. */
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

/* The cause of a cancelled linker, in its pl_cancel. */
enum pl_cause {
    PL_CAUSE_CLOSED = 1, /* the program ended */
    PL_CAUSE_LEADER = 2, /* a leader failed between the barriers */
    PL_CAUSE_REPLAY = 3, /* a group could not replay */
    /* a bus was full, a barrier was open already, a leader was behind: a protocol violation */
    PL_CAUSE_BUS = 4,
    PL_CAUSE_INTERRUPTED = 5, /* `check` returned nonzero */
    PL_CAUSE_FORKED = 6       /* its threads are in the parent of this process */
};

typedef struct pl_shared pl_shared;
typedef struct pl_group pl_group;

/* Returns NULL if out of memory. Each group owns a reference too, so the universe and its groups
 * may be freed in any order; no thread may wait by then. */
pl_shared *pl_shared_new(void);
void pl_shared_free(pl_shared *shared);

/* Records events of the groups in `trace`, of which it becomes an owner. Once, and before there are
 * any groups. */
void pl_shared_set_trace(pl_shared *shared, pl_trace *trace);

/* Return the parts, which belong to `shared`. */
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

/* The generation: how often the meaning of names has changed. A cached lookup is valid for one
 * generation. pl_shared_next_generation is for the holder of the write lock, before it releases
 * it; a surplus call is harmless. pl_shared_generation is for any thread. SeqCst. */
void pl_shared_next_generation(pl_shared *shared);
uint64_t pl_shared_generation(const pl_shared *shared);

/* The exited threads whose groups are dead but not removed: the next thread that changes the
 * topology reaps them, so that the exiting thread needs neither the lock nor Python. At most
 * PL_EXITED_MOST. Any thread, at any time; protected by a leaf mutex. */
enum { PL_EXITED_MOST = 16 };
typedef struct pl_exited {
    struct pl_exited *next;
    uintptr_t handle; /* of the thread */
} pl_exited;
/* Adds an owner of `shared`, released by pl_shared_free. */
pl_shared *pl_shared_keep(pl_shared *shared);
/* Adds an exited thread, whose record stays valid until pl_shared_take_exited returns it. Returns 0
 * if the list is full or closed. */
int pl_shared_add_exited(pl_shared *shared, pl_exited *exited);
/* Removes one. Returns its handle, or 0 if there is none. */
uintptr_t pl_shared_take_exited(pl_shared *shared);
/* Returns the number of exited threads in the list. */
uint32_t pl_shared_exited_count(const pl_shared *shared);
/* Closes the list: its threads may still be taken, but no thread is added from now on. */
void pl_shared_close_exited(pl_shared *shared);
/* Wakes the waiters in pl_shared_wait_exited. */
void pl_shared_notify_exited(pl_shared *shared);
/* Waits until there is an exited thread, or a notification, or for `timeout` nanoseconds.
 * Blocks. */
void pl_shared_wait_exited(pl_shared *shared, int64_t timeout);

/* Statistics of waits so far. Relaxed: the fields are of about the same moment. */
typedef struct pl_waits {
    uint64_t led; /* rendezvous that were led */
    /* iterations of groups that arrived at one, or caught up on their way into the guest */
    uint64_t followed;
    uint64_t nanoseconds; /* total wait of leaders */
    uint64_t longest;     /* the longest wait at one barrier */
    uint64_t paused;      /* pauses of threads because the token or the lock was held */
} pl_waits;
void pl_shared_waits(const pl_shared *shared, pl_waits *waits);

/* Returns the number of groups, including dead ones. Requires a read lock. */
size_t pl_group_count(const pl_shared *shared);
/* Returns the newest operation that all living groups have replayed: logs may be truncated up to
 * it. Requires a read lock. */
uint64_t pl_shared_applied_by_all(const pl_shared *shared);
/* Stores the newest operation that each living group has replayed, for at most `capacity` groups.
 * Returns how many. Requires a read lock. */
size_t pl_shared_applied(const pl_shared *shared, uint64_t *numbers, size_t capacity);
/* Returns whether a change needs no rendezvous: there is at most one group, and the linker is not
 * cancelled. Requires the write lock. */
int pl_shared_is_alone(const pl_shared *shared);

#endif
