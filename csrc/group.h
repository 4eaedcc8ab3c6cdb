/* group: one thread of guest code and the instances that it runs, as the others know it.
 *
 * States: those of its safepoint (safepoint.h), and two numbers that only grow: the newest
 * barrier that it came to, and the newest operation that it has replayed. A new group is PARKED
 * and has replayed everything so far.
 *
 * Protected by: the list of groups changes under topology token and write lock. All else is the
 * group's own thread's, or atomic in its primitive. Blocking: never, but for what `deliver` does.
 * Memory order: that of the primitives, SeqCst. */
#ifndef PL_GROUP_H
#define PL_GROUP_H

#include "event.h"
#include "flag.h"
#include "safepoint.h"
#include "shared.h"

#include <stdint.h>

/* Carries out the operations `from` to `to`, both included, in the group behind `handle`;
 * returns 0, or not 0 if it failed. */
typedef int (*pl_replay)(uintptr_t handle, uint64_t from, uint64_t to);

/* A parked group that has replayed everything so far; needs the write lock. `replay` and `check`
 * (which may be NULL) get `handle`. NULL if there is no memory. */
pl_group *pl_group_new(pl_shared *shared, uintptr_t handle, pl_replay replay, pl_check check);
/* Has somebody else replay for the group, told by a handle of its own; before it has anything to
 * replay. */
void pl_group_set_replay(pl_group *group, pl_replay replay, uintptr_t handle);
/* Needs the write lock; no thread may use the group any more. */
void pl_group_free(pl_group *group);
/* The same, for a caller that may be interrupted between call and result: the group is kept in
 * `*place`, NULL before and after. pl_group_new_at returns 1, or 0 if there is no memory;
 * pl_group_free_at does nothing if there is no group. */
int pl_group_new_at(pl_group **place, pl_shared *shared, uintptr_t handle, pl_replay replay,
                    pl_check check);
void pl_group_free_at(pl_group **place);
pl_safepoint *pl_group_safepoint(pl_group *group);
uint64_t pl_group_arrived(const pl_group *group);
uint64_t pl_group_applied(const pl_group *group);
uintptr_t pl_group_handle(const pl_group *group);
pl_shared *pl_group_shared(const pl_group *group);
/* Whether its thread is just replaying; for this thread. */
int pl_group_is_replaying(const pl_group *group);
/* Whether it is in pl_follow: what a signal handler must not make wait for a leader, which waits
 * for it. For this thread. */
int pl_group_is_following(const pl_group *group);
/* What the group's own wait is given as its `nudge`. pl_futex_nudge with it ends that wait or,
 * if the group hears, has it deliver. */
pl_flag *pl_group_nudge(pl_group *group);

/* Has `deliver` called with `handle` on the group's thread, PARKED, whenever the group was nudged:
 * within a wait of its own (atomics.h) or at the end of its next host call (hostfn.h). It may
 * run guest code. It returns 0; 1 to stop the guest; or PL_DELIVER_LATER, and is called again at
 * the next host call. By the group's thread, or before it runs. */
enum { PL_DELIVER_LATER = 2 };
void pl_group_on_nudge(pl_group *group, pl_check deliver, uintptr_t handle);
/* Whether that was done. */
int pl_group_has_handler(const pl_group *group);
/* Whether the group was nudged and has not heard yet. */
int pl_group_is_nudged(const pl_group *group);
/* Hears what there is to deliver: 0, or 1 to stop the guest. Not within a replay: that is for
 * later. */
int pl_group_deliver(pl_group *group);

#endif
