/* rendezvous: executes an operation in all groups of a universe.
 *
 * This is docs/model/rendezvous.pml in C, step by step. A leader publishes an operation only when
 * every other group is at the barrier, parked or dead; a group executes guest code only after it
 * has replayed all published operations.
 *
 *   leader    holds token and write lock (the caller takes both, and follows meanwhile: hold.h).
 *             pl_lead of lead.h does the rest, in these steps:
 *             pl_group_catch_up replay operations published while its own group was parked
 *             pl_lead_open      number the barrier, set the flag, wake all waiters
 *             pl_lead_meet      first barrier: each group has arrived, is parked or dead
 *             (the state changes, and the operation is appended to the log)
 *             pl_lead_publish   publish, then clear the flag; the write lock becomes a read lock
 *             pl_lead_finish    second barrier: each group that arrived has replayed, or is dead;
 *                               release the read lock
 *             (the token is released)
 *   leader that withdraws between open and publish: pl_lead_withdraw publishes a no-op
 *   follower  pl_follow         arrive, wait for the publication, take a read lock, replay; repeat
 *                               until nothing is pending
 *
 * States, all SeqCst: the flag; `barriers` and `operations`, two buses whose numbers are `cur` and
 * `published`; for each group a safepoint, the newest barrier at which it arrived (taken from the
 * first bus) and the newest operation that it replayed (taken from the second).
 *
 * Threads sleep on separate events, so that no thread is woken for another: waiters for the lock
 * and the token on `event`, followers at the barrier on `barrier_event` (notified by leaders), the
 * leader on `waiter` (notified by the group it waits for), sleeping parked threads on `sleepers`
 * (notified by a cancellation only). Cancelling notifies them all. Leaders and followers spin on
 * `barrier_event` and `waiter` before they sleep (pl_event_set_spin), as the leader decides when it
 * opens the barrier; and if more groups run than there are processors, a follower that has replayed
 * waits on `barrier_event` until the leader finishes, for some milliseconds at most. Both affect
 * time alone: any of these waits may be longer or shorter.
 *
 * Protects: the list of groups changes under the token and the write lock.
 * Requires: lock order: the group's own thread, then the token, then the lock.
 * Blocks: pl_lead_meet, pl_lead_finish, pl_follow. Each of them ends when the linker is cancelled.
 * A wait wakes every PL_SLICE nanoseconds to call the group's `check`, so that a signal is handled
 * on the thread that must handle it. A leader in pl_lead_meet stops then at once, and withdraws.
 * The other waits cannot be left alone: they last until the operation is done, and return
 * PL_SIGNALLED; or for a second, and cancel.
 * Memory order: SeqCst.
 * Threads: the group's own.
 *
 *     if (pl_group_catch_up(self) != 0 || pl_lead_open(self) == 0) abort_the_linker();
 *     int result = pl_lead_meet(self, timeout, &late);
 *     if (result != PL_ACQUIRED) { append_to_log(nothing); pl_lead_withdraw(self); return result; }
 *     append_to_log(operation);
 *     pl_lead_publish(self);
 *     result = pl_lead_finish(self); */
#ifndef PL_RENDEZVOUS_H
#define PL_RENDEZVOUS_H

#include "group.h"

#include <stdint.h>

/* Leader. See above for the order. pl_lead_open returns the number of the barrier; or 0 if one is
 * open, or if the leader is behind (its own operation would count as those it missed): a protocol
 * violation, which cancels the linker. */
uint64_t pl_lead_open(pl_group *self);
/* Returns PL_ACQUIRED, PL_TIMEOUT (`late` is then the handle of a group that did not arrive),
 * PL_SIGNALLED (`check` returned nonzero) or PL_CANCELLED. After PL_TIMEOUT and PL_SIGNALLED the
 * caller withdraws. `timeout` in nanoseconds, negative for none. */
int pl_lead_meet(pl_group *self, int64_t timeout, uintptr_t *late);
/* Returns the number of the operation; or 0 if the bus is full: a protocol violation, which cancels
 * the linker; the write lock is kept. */
uint64_t pl_lead_publish(pl_group *self);
/* Returns PL_ACQUIRED; PL_SIGNALLED if all is done, but `check` returned nonzero meanwhile; or
 * PL_CANCELLED, also if a group failed and died before it was waited for. The read lock is released
 * in each case. */
int pl_lead_finish(pl_group *self);
/* Publishes a no-op in place of the announced operation, and returns its number. The caller appends
 * it to the log first. The write lock is kept. */
uint64_t pl_lead_withdraw(pl_group *self);

/* Replays, under the write lock, operations published while the group was parked: a leader decides
 * on the newest state. Returns 0, or nonzero if the replay failed, which cancels the linker. */
int pl_group_catch_up(pl_group *self);

/* Takes the topology token and then the lock for writing, for a group that has nothing to replay.
 * Returns the number of the token; or 0, with nothing taken, if that is not possible at once. */
uint64_t pl_group_try_exclusive(pl_group *self);

/* Returns whether a group has to replay before it may execute guest code; 0 for a dead group, which
 * may not execute any. */
int pl_group_is_behind(const pl_group *self);
/* Calls pl_follow if needed, on the thread of a group that is about to execute guest code (its
 * state is RUNNING already). Returns PL_CANCELLED also if the group is dead. Within a replay, which
 * may execute guest code, it returns PL_ACQUIRED at once. */
int pl_group_safepoint_poll(pl_group *self);
/* The follower. Returns PL_ACQUIRED when nothing is pending any more; PL_SIGNALLED then, if `check`
 * returned nonzero meanwhile; or PL_CANCELLED, PL_POISONED. */
int pl_follow(pl_group *self);

#endif
