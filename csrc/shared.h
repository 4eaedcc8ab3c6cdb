/* shared: one dynamic-link universe, and the rendezvous in which its groups carry an operation out together.
 *
 * This is docs/model/rendezvous.pml in C, step by step. A leader publishes an operation only when every other group is at the barrier,
 * parked or dead; a group executes guest code only after it has replayed everything that is published.
 *
 *   leader    token and write lock (the caller takes both, cooperatively)
 *             pl_group_catch_up replay what was published while its own group was parked
 *             pl_lead_open      number the barrier, raise the flag, wake everybody
 *             pl_lead_meet      first barrier: arrived, parked or dead, each of them
 *             (the caller appends the operation to its log)
 *             pl_lead_publish   publish, then lower the flag; the write lock becomes a read lock
 *             pl_lead_finish    second barrier: whoever arrived has replayed, or is dead; release the read lock
 *             (the caller releases the token)
 *   leader that gives up between open and publish: pl_lead_withdraw publishes an operation that does nothing
 *   follower  pl_follow         arrive, wait for the publication, take a read lock, replay, again until nothing is pending
 *
 * States, all SeqCst: the flag; `barriers` and `operations`, two buses whose numbers are `cur` and `published`; of each group a safepoint, the
 * newest barrier it came to (taken from the first bus) and the newest operation it replayed (taken from the second).
 *
 * Who sleeps where, so that nobody is woken for others: waiters for the lock and the token on the event, followers at the barrier on `news`
 * (moved by leaders), the leader on `await` (moved by the group it waits for), parked threads that rest on `rest` (moved by nothing but the
 * end). Cancelling moves them all. Those who meet look at `news` and `await` for a moment before they sleep (pl_event_look), as the leader
 * decides when it opens the barrier; and where more groups run than there are processors, a follower that is done waits on `news` for the
 * leader to finish, for some milliseconds at most. Both are about time alone: any of them may wait longer or shorter.
 *
 * Lock order: the group's own thread, then the token, then the lock. The list of groups changes under token and write lock.
 *
 * Blocking: pl_lead_meet, pl_lead_finish, pl_follow. Each of them ends when the linker is cancelled. A wait wakes every PL_SLICE
 * nanoseconds to call the group's `check`, so that a signal can be seen by the thread that must see it. A leader that meets stops then at once,
 * and withdraws. Others cannot leave alone: they wait until the operation is done, and answer PL_SIGNALLED; or for a second, and cancel.
 *
 *     if (pl_group_catch_up(self) != 0 || pl_lead_open(self) == 0) abort_the_linker();
 *     int result = pl_lead_meet(self, timeout, &late);
 *     if (result != PL_ACQUIRED) { append_to_log(nothing); pl_lead_withdraw(self); return result; }
 *     append_to_log(operation);
 *     pl_lead_publish(self);
 *     result = pl_lead_finish(self);
 */
#ifndef PL_SHARED_H
#define PL_SHARED_H

#include "await.h"
#include "backoff.h"
#include "barrier.h"
#include "bus.h"
#include "cancel.h"
#include "event.h"
#include "flag.h"
#include "futex.h"
#include "gate.h"
#include "rwlock.h"
#include "safepoint.h"
#include "trace.h"

#include <stddef.h>
#include <stdint.h>

/* Why a linker was cancelled: the cause of its pl_cancel. */
enum pl_cause {
    PL_CAUSE_CLOSED = 1,       /* the program ended */
    PL_CAUSE_LEADER = 2,       /* a leader failed between the barriers */
    PL_CAUSE_REPLAY = 3,       /* a group could not replay */
    PL_CAUSE_BUS = 4,          /* a bus was full, a barrier was open already, a leader was behind: a broken protocol */
    PL_CAUSE_INTERRUPTED = 5,  /* `check` said so */
    PL_CAUSE_FORKED = 6        /* its threads are in the parent of this process */
};

typedef struct pl_shared pl_shared;
typedef struct pl_group pl_group;

/* Carries out the operations `from` to `to`, both included, in the group behind `handle`; answers 0, or not 0 if it failed. */
typedef int (*pl_replay)(uintptr_t handle, uint64_t from, uint64_t to);

/* NULL if there is no memory. Each group keeps it too, so that it and its groups may be freed in any order; no thread may wait by then. */
pl_shared *pl_shared_new(void);
void pl_shared_free(pl_shared *shared);

/* Has what groups do noted in `trace`, of which it becomes an owner. Once, and before there are any groups. */
void pl_shared_set_trace(pl_shared *shared, pl_trace *trace);

/* The parts; they belong to `shared`. */
pl_event *pl_shared_event(pl_shared *shared);
pl_event *pl_shared_news(pl_shared *shared);
pl_event *pl_shared_rest(pl_shared *shared);
pl_await *pl_shared_await(pl_shared *shared);
pl_cancel *pl_shared_cancel(pl_shared *shared);
pl_flag *pl_shared_flag(pl_shared *shared);
pl_rwlock *pl_shared_lock(pl_shared *shared);
pl_gate *pl_shared_gate(pl_shared *shared);
pl_bus *pl_shared_barriers(pl_shared *shared);
pl_bus *pl_shared_operations(pl_shared *shared);
pl_futex *pl_shared_futex(pl_shared *shared);

/* How often the meaning of names has changed, under the write lock: what was looked up before the newest change is not to be relied on. The
 * caller of pl_shared_changed has the lock; pl_shared_changes is for all. SeqCst. */
void pl_shared_changed(pl_shared *shared);
uint64_t pl_shared_changes(const pl_shared *shared);

/* Threads that have ended by themselves, and whose groups are dead but still there: whoever changes the topology next takes them out, so that
 * the thread itself needs neither the lock nor Python. There is room for PL_ENDED_MOST of them. Any thread, at any time; a mutex of its own, under
 * which nothing is waited for. */
enum { PL_ENDED_MOST = 16 };
typedef struct pl_ended {
    struct pl_ended *next;
    uintptr_t handle; /* of the thread */
} pl_ended;
/* Keeps one more owner of `shared`: pl_shared_free. */
pl_shared *pl_shared_keep(pl_shared *shared);
/* Leaves a thread there, whose record stays until pl_shared_next_ended has answered it. 0 if there is no room, or nobody looks any more. */
int pl_shared_leave_ended(pl_shared *shared, pl_ended *ended);
/* Takes one: its handle, or 0 if there is none. */
uintptr_t pl_shared_next_ended(pl_shared *shared);
/* How many there are. */
uint32_t pl_shared_ended(const pl_shared *shared);
/* Nobody will look any more: what is there may be taken still, but nothing is left there from now on. */
void pl_shared_close_ended(pl_shared *shared);
/* Wakes those who wait in pl_shared_await_ended. */
void pl_shared_tell_ended(pl_shared *shared);
/* Waits until there is one, or they were woken, or the timeout (nanoseconds) is over. Blocks. */
void pl_shared_await_ended(pl_shared *shared, int64_t timeout);

/* How often groups waited for each other so far. Relaxed: the parts are of about the same moment. */
typedef struct pl_waits {
    uint64_t led;         /* rendezvous that were led */
    uint64_t followed;    /* turns of groups that came to one, or caught up on their way into the guest */
    uint64_t nanoseconds; /* that leaders waited for the others, in all */
    uint64_t longest;     /* of these waits, one for each barrier */
} pl_waits;
void pl_shared_waits(const pl_shared *shared, pl_waits *waits);

/* A parked group that has replayed everything so far; needs the write lock. `replay` and `check` (which may be NULL) get `handle`. NULL if
 * there is no memory. */
pl_group *pl_group_new(pl_shared *shared, uintptr_t handle, pl_replay replay, pl_check check);
/* Has somebody else replay for the group, told by a handle of its own; before it has anything to replay. */
void pl_group_set_replay(pl_group *group, pl_replay replay, uintptr_t handle);
/* Needs the write lock; no thread may use the group any more. */
void pl_group_free(pl_group *group);
/* The same, for a caller that may be interrupted between call and result: the group is kept in `*place`, NULL before and after. pl_group_new_at
 * returns 1, or 0 if there is no memory; pl_group_free_at does nothing if there is no group. */
int pl_group_new_at(pl_group **place, pl_shared *shared, uintptr_t handle, pl_replay replay, pl_check check);
void pl_group_free_at(pl_group **place);
/* Groups there are, the dead ones included. Needs a read lock. */
size_t pl_group_count(const pl_shared *shared);
/* The oldest operation that some living group has yet to replay, less one: logs may forget everything up to it. Needs a read lock. */
uint64_t pl_shared_applied_by_all(const pl_shared *shared);
/* The newest operation that each living group has replayed, of at most `capacity` groups; answers how many. Needs a read lock. */
size_t pl_shared_applied(const pl_shared *shared, uint64_t *numbers, size_t capacity);
pl_safepoint *pl_group_safepoint(pl_group *group);
uint64_t pl_group_arrived(const pl_group *group);
uint64_t pl_group_applied(const pl_group *group);
uintptr_t pl_group_handle(const pl_group *group);
pl_shared *pl_group_shared(const pl_group *group);
/* Whether its thread is just replaying; for this thread. */
int pl_group_is_replaying(const pl_group *group);
/* What the group's own wait is given as its `nudge`. pl_futex_nudge with it ends that wait or, if the group hears, has it hear. */
pl_flag *pl_group_nudge(pl_group *group);

/* Has `hear` called with `handle` on the group's thread, PARKED, whenever the group was nudged: within a wait of its own (atomics.h) or
 * at the end of its next host call (hostfn.h). It may run guest code. It answers 0; 1 to stop the guest; or PL_HEAR_LATER, and is called
 * again at the next host call. By the group's thread, or before it runs. */
enum { PL_HEAR_LATER = 2 };
void pl_group_on_nudge(pl_group *group, pl_check hear, uintptr_t handle);
/* Whether that was done. */
int pl_group_hears(const pl_group *group);
/* Whether the group was nudged and has not heard yet. */
int pl_group_is_nudged(const pl_group *group);
/* Hears what there is to hear: 0, or 1 to stop the guest. Not within a replay: that is for later. */
int pl_group_hear(pl_group *group);

/* Leader. See above for the order. pl_lead_open answers the barrier's number, or 0 if one is open, or if the leader is behind (its own
 * operation would count as those it missed): a broken protocol; the linker is cancelled then. */
uint64_t pl_lead_open(pl_group *self);
/* PL_ACQUIRED, PL_TIMEOUT (`late` is then the handle of a group that did not come), PL_SIGNALLED (`check` said so) or PL_CANCELLED. After
 * PL_TIMEOUT and PL_SIGNALLED the caller withdraws. `timeout` in nanoseconds, negative for none. */
int pl_lead_meet(pl_group *self, int64_t timeout, uintptr_t *late);
/* Answers the operation's number, or 0 if the bus is full: a broken protocol; the linker is cancelled then, and the write lock stays. */
uint64_t pl_lead_publish(pl_group *self);
/* PL_ACQUIRED; PL_SIGNALLED if all is done, but `check` said so meanwhile; or PL_CANCELLED, also if a group failed and died before it was waited
 * for. The read lock is released in each case. */
int pl_lead_finish(pl_group *self);
/* Publishes an operation that does nothing in place of the one that was announced, and answers its number. The caller appends it to the log
 * before. The write lock stays. */
uint64_t pl_lead_withdraw(pl_group *self);

/* Replays, under the write lock, what was published while the group was parked: a leader decides and numbers on the newest state. Answers 0,
 * or not 0 if the replay failed; the linker is cancelled then. */
int pl_group_catch_up(pl_group *self);

/* Takes the topology token and then the lock for writing, for a group that has nothing to replay: the token's number. 0, with nothing taken,
 * if that cannot be done at once, for whatever reason. */
uint64_t pl_group_try_exclusive(pl_group *self);
/* Whether there is nobody whom a change would have to meet: one group at most, and the linker was not given up. Under the write lock. */
int pl_shared_is_alone(const pl_shared *shared);
/* Gives the lock for writing back, and then the token. Under both. */
void pl_shared_release_exclusive(pl_shared *shared, uint64_t token);

/* Whether a group has something to replay before it may execute guest code. A dead one never has: it may not. */
int pl_group_is_behind(const pl_group *self);
/* For the thread of a group that is about to execute guest code (its state is RUNNING already): pl_follow where it is needed. PL_CANCELLED
 * also if the group is dead. Within a replay, which may execute guest code, it answers PL_ACQUIRED at once. */
int pl_group_safepoint_poll(pl_group *self);
/* The follower. PL_ACQUIRED when nothing is pending any more; PL_SIGNALLED then, if `check` said so meanwhile; or PL_CANCELLED, PL_POISONED. */
int pl_follow(pl_group *self);

#endif
