/* rendezvous: how the groups of a universe carry an operation out together.
 *
 * This is docs/model/rendezvous.pml in C, step by step. A leader publishes an operation only
 * when every other group is at the barrier, parked or dead; a group executes guest code only
 * after it has replayed everything that is published.
 *
 *   leader    token and write lock (the caller takes both, cooperatively: hold.h). The rest is
 *             pl_lead of lead.h, in these steps:
 *             pl_group_catch_up replay what was published while its own group was parked
 *             pl_lead_open      number the barrier, raise the flag, wake everybody
 *             pl_lead_meet      first barrier: arrived, parked or dead, each of them
 *             (the state changes, and the operation is appended to the log)
 *             pl_lead_publish   publish, then lower the flag; the write lock becomes a read lock
 *             pl_lead_finish    second barrier: each group that arrived has replayed, or is dead;
 *                               release the read lock
 *             (the token is released)
 *   leader that gives up between open and publish: pl_lead_withdraw publishes an operation
 *             that does nothing
 *   follower  pl_follow         arrive, wait for the publication, take a read lock, replay, again
 *                               until nothing is pending
 *
 * States, all SeqCst: the flag; `barriers` and `operations`, two buses whose numbers are `cur`
 * and `published`; of each group a safepoint, the newest barrier it came to (taken from the
 * first bus) and the newest operation it replayed (taken from the second).
 *
 * Where threads sleep, so that none is woken for others: waiters for the lock and the token on
 * the event, followers at the barrier on `barrier_event` (moved by leaders), the leader on `waiter` (moved
 * by the group it waits for), parked threads that rest on `sleepers` (moved by nothing but the end).
 * Cancelling moves them all. Those who meet look at `barrier_event` and `waiter` for a moment before they
 * sleep (pl_event_set_spin), as the leader decides when it opens the barrier; and where more groups
 * run than there are processors, a follower that is done waits on `barrier_event` for the leader to
 * finish, for some milliseconds at most. Both are about time alone: any of them may wait longer
 * or shorter.
 *
 * Lock order: the group's own thread, then the token, then the lock. The list of groups changes
 * under token and write lock.
 *
 * Blocking: pl_lead_meet, pl_lead_finish, pl_follow. Each of them ends when the linker is
 * cancelled. A wait wakes every PL_SLICE nanoseconds to call the group's `check`, so that a
 * signal can be seen by the thread that must see it. A leader that meets stops then at once, and
 * withdraws. Others cannot leave alone: they wait until the operation is done, and answer
 * PL_SIGNALLED; or for a second, and cancel.
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

/* Leader. See above for the order. pl_lead_open returns the barrier's number, or 0 if one is
 * open, or if the leader is behind (its own operation would count as those it missed): a broken
 * protocol; the linker is cancelled then. */
uint64_t pl_lead_open(pl_group *self);
/* PL_ACQUIRED, PL_TIMEOUT (`late` is then the handle of a group that did not come), PL_SIGNALLED
 * (`check` said so) or PL_CANCELLED. After PL_TIMEOUT and PL_SIGNALLED the caller withdraws.
 * `timeout` in nanoseconds, negative for none. */
int pl_lead_meet(pl_group *self, int64_t timeout, uintptr_t *late);
/* Returns the operation's number, or 0 if the bus is full: a broken protocol; the linker is
 * cancelled then, and the write lock stays. */
uint64_t pl_lead_publish(pl_group *self);
/* PL_ACQUIRED; PL_SIGNALLED if all is done, but `check` said so meanwhile; or PL_CANCELLED, also
 * if a group failed and died before it was waited for. The read lock is released in each case. */
int pl_lead_finish(pl_group *self);
/* Publishes an operation that does nothing in place of the one that was announced, and returns
 * its number. The caller appends it to the log before. The write lock stays. */
uint64_t pl_lead_withdraw(pl_group *self);

/* Replays, under the write lock, what was published while the group was parked: a leader decides
 * and numbers on the newest state. Returns 0, or not 0 if the replay failed; the linker is
 * cancelled then. */
int pl_group_catch_up(pl_group *self);

/* Takes the topology token and then the lock for writing, for a group that has nothing to
 * replay: the token's number. 0, with nothing taken, if that cannot be done at once, for
 * whatever reason. */
uint64_t pl_group_try_exclusive(pl_group *self);

/* Whether a group has something to replay before it may execute guest code. A dead one never
 * has: it may not. */
int pl_group_is_behind(const pl_group *self);
/* For the thread of a group that is about to execute guest code (its state is RUNNING already):
 * pl_follow where it is needed. PL_CANCELLED also if the group is dead. Within a replay, which
 * may execute guest code, it returns PL_ACQUIRED at once. */
int pl_group_safepoint_poll(pl_group *self);
/* The follower. PL_ACQUIRED when nothing is pending any more; PL_SIGNALLED then, if `check` said
 * so meanwhile; or PL_CANCELLED, PL_POISONED. */
int pl_follow(pl_group *self);

#endif
