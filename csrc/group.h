/* group: the member of the rendezvous for one thread of guest code and its instances.
 *
 * States: those of its safepoint (safepoint.h), and two numbers that only increase: the newest
 * barrier at which it arrived, and the newest operation that it has replayed. A new group is PARKED
 * and has replayed everything so far.
 *
 * Protects: nothing. The list of groups changes under the topology token and the write lock; all
 * other state belongs to the group's own thread, or is atomic in its primitive.
 * Requires: the write lock to create and free a group.
 * Blocks: never, except for what `deliver` does.
 * Memory order: that of the primitives, SeqCst.
 * Threads: the group's own, unless noted otherwise. */
#ifndef PL_GROUP_H
#define PL_GROUP_H

#include "event.h"
#include "flag.h"
#include "safepoint.h"
#include "shared.h"

#include <stdint.h>

/* Replays the operations `from` to `to`, inclusive, in the group of `handle`. Returns 0, or nonzero
 * if it failed. */
typedef int (*pl_replay)(uintptr_t handle, uint64_t from, uint64_t to);

/* Creates a parked group that has replayed everything so far; requires the write lock. `replay` and
 * `check` (which may be NULL) are called with `handle`. Returns NULL if out of memory. */
pl_group *pl_group_new(pl_shared *shared, uintptr_t handle, pl_replay replay, pl_check check);
/* Replaces the replay function and its handle; before the group has anything to replay. */
void pl_group_set_replay(pl_group *group, pl_replay replay, uintptr_t handle);
/* Requires the write lock; no thread may use the group any more. */
void pl_group_free(pl_group *group);
/* The same for a caller that may be interrupted between call and result: the group is stored in
 * `*place`, which is NULL before and after its lifetime. pl_group_new_at returns 1, or 0 if out of
 * memory; pl_group_free_at does nothing if there is no group. */
int pl_group_new_at(pl_group **place, pl_shared *shared, uintptr_t handle, pl_replay replay,
                    pl_check check);
void pl_group_free_at(pl_group **place);
pl_safepoint *pl_group_safepoint(pl_group *group);
uint64_t pl_group_arrived(const pl_group *group);
uint64_t pl_group_applied(const pl_group *group);
uintptr_t pl_group_handle(const pl_group *group);
pl_shared *pl_group_shared(const pl_group *group);
/* Returns whether its thread is replaying; for this thread. */
int pl_group_is_replaying(const pl_group *group);
/* Returns whether it is in pl_follow, where a signal handler must not wait for a leader, because
 * the leader waits for this group. For this thread. */
int pl_group_is_following(const pl_group *group);
/* Returns the `nudge` of the group's own wait. pl_futex_nudge with it ends that wait or, if the
 * group has a handler, makes the wait call the handler. */
pl_flag *pl_group_nudge(pl_group *group);

/* Sets a handler: `deliver` is called with `handle` on the group's thread, PARKED, after each nudge
 * of the group: within a wait of its own (atomics.h) or at the end of its next host call
 * (hostfn.h). It may run guest code. It returns 0; 1 to stop the guest; or PL_DELIVER_LATER to be
 * called again at the next host call. By the group's thread, or before it runs. */
enum { PL_DELIVER_LATER = 2 };
void pl_group_on_nudge(pl_group *group, pl_check deliver, uintptr_t handle);
/* Returns whether a handler is set. */
int pl_group_has_handler(const pl_group *group);
/* Returns whether a nudge was not delivered yet. */
int pl_group_is_nudged(const pl_group *group);
/* Calls the handler. Returns 0, or 1 to stop the guest. Within a replay the delivery is
 * deferred. */
int pl_group_deliver(pl_group *group);

#endif
