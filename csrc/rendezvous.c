/* Discipline: the list of groups, and `must_replay`, are under the write lock (`must_replay` also
 * under the leader's read lock: only the holder of the token writes it). Everything else is atomic
 * inside its primitive. */
#include "rendezvous.h"

#include "backoff.h"
#include "barrier.h"
#include "shared_impl.h"

/* How leaders and followers wait for each other. The awaited work, a commit or a replay, takes
 * some ten microseconds, as does a wake-up. So a waiter spins for SPIN_NS nanoseconds before it
 * sleeps, and yields between two checks: the awaited thread may be on the same processor, also
 * if there are as many processors as groups. With more groups it spins longer (SPIN_EACH_NS more
 * for each whole multiple of the number of processors), so that each group soon runs without a
 * sleep and a wake-up. It does not spin if there are too many (OVERSUBSCRIPTION_LIMIT per
 * processor). For SPIN_COOLDOWN_NS nanoseconds after a yield to a thread that kept the
 * processor, as one of an unrelated process does, it does not yield, and spins only if there is
 * a processor for each group.
 *
 * `python benchmarks/constants.py` measures the rendezvous without each of them. */
enum {
    SPIN_NS = 20000,
    SPIN_EACH_NS = 6000,
    OVERSUBSCRIPTION_LIMIT = 64,
    SPIN_COOLDOWN_NS = 100000000
};
/* Nanoseconds for which a follower that has replayed lets others run first: a time slice. */
enum { YIELD_LIMIT_NS = 4000000 };
/* Nanoseconds for which an interrupted thread waits for the end of the operation, before it cancels
 * the linker. */
enum { INTERRUPT_LIMIT_NS = 1000000000 };

/* Counts the wait of a leader since `began`. There is one leader at a time. */
static void count_wait(pl_shared *shared, int64_t began) {
    uint64_t waited = (uint64_t)(pl_now() - began);
    atomic_fetch_add_explicit(&shared->waited, waited, memory_order_relaxed);
    if (waited > atomic_load_explicit(&shared->longest, memory_order_relaxed)) {
        atomic_store_explicit(&shared->longest, waited, memory_order_relaxed);
    }
}

int pl_group_is_interrupted(pl_group *self, int64_t *due) {
    int64_t now = pl_now();
    if (now < *due) {
        return 0;
    }
    *due = now + PL_SLICE;
    return self->check != NULL && self->check(self->handle) != 0;
}

/* The same in a wait that the group cannot leave alone, because other groups depend on it: it ends
 * with the operation. After INTERRUPT_LIMIT_NS the whole linker is cancelled, and this returns
 * 1. */
static int gives_up(pl_group *self, int64_t *due) {
    if (pl_group_is_interrupted(self, due) && self->interrupted == 0) {
        self->interrupted = pl_now();
    }
    if (self->interrupted == 0 || pl_now() - self->interrupted < INTERRUPT_LIMIT_NS) {
        return 0;
    }
    pl_cancel_set(&self->shared->cancel, PL_CAUSE_INTERRUPTED);
    return 1;
}

/* Returns the result of such a wait. */
static int ended(pl_group *self, int result) {
    int interrupted = self->interrupted != 0;
    self->interrupted = 0;
    return result == PL_ACQUIRED && interrupted ? PL_SIGNALLED : result;
}

static int has_arrived(void *member, uint64_t number) {
    pl_group *group = member;
    /* The state is checked last: a group that parks after it arrived is marked too, because it
     * replays before it runs in any case. */
    if (pl_receiver_taken(&group->barriers) >= number) {
        group->must_replay = 1;
        return 1;
    }
    return pl_safepoint_state(&group->safepoint) != PL_RUNNING;
}

static int has_replayed(void *member, uint64_t number) {
    pl_group *group = member;
    return pl_receiver_taken(&group->operations) >= number ||
           pl_safepoint_state(&group->safepoint) == PL_DEAD;
}

/* The leader waits for one group. `due` continues from group to group, because many short waits add
 * up to a long one. */
static int meet(pl_group *self, pl_group *group, pl_member_done done, uint64_t number,
                int64_t deadline, int64_t *due) {
    pl_shared *shared = self->shared;
    int result = PL_TIMEOUT;
    pl_group_note(self, PL_TRACE_AWAIT_BEGIN, group->handle);
    pl_waiter_begin(&shared->waiter, &group->safepoint);
    while (result == PL_TIMEOUT) {
        void *member = group;
        size_t late;
        int64_t until = deadline >= 0 && deadline < *due ? deadline : *due;
        result = pl_barrier_wait(pl_waiter_event(&shared->waiter), &shared->cancel, &member, 1,
                                 done, number, until, &late);
        if (result == PL_TIMEOUT && done == has_arrived && pl_group_is_interrupted(self, due)) {
            result = PL_SIGNALLED;
        } else if (result == PL_TIMEOUT && done == has_replayed && gives_up(self, due)) {
            result = PL_CANCELLED;
        } else if (result == PL_TIMEOUT && until == deadline) {
            break;
        }
    }
    pl_waiter_end(&shared->waiter);
    pl_group_note(self, PL_TRACE_AWAIT_END,
                  done == has_replayed ? 2 : (uint64_t)group->must_replay);
    return result;
}

/* Decides how to wait in a rendezvous of `running` groups. */
static void choose_spin(pl_shared *shared, size_t running) {
    pl_event *waiter = pl_waiter_event(&shared->waiter);
    int oversubscribed = running > shared->processors;
    int64_t recently = pl_now() - SPIN_COOLDOWN_NS;
    int yields = pl_event_last_delay(&shared->barrier_event) <= recently &&
                 pl_event_last_delay(waiter) <= recently;
    int64_t spin = SPIN_NS + SPIN_EACH_NS * (int64_t)(running / shared->processors);
    if (oversubscribed && (!yields || running > OVERSUBSCRIPTION_LIMIT * shared->processors)) {
        spin = 0;
    }
    atomic_store_explicit(&shared->oversubscribed, oversubscribed, memory_order_relaxed);
    pl_event_set_spin(&shared->barrier_event, spin, yields);
    pl_event_set_spin(waiter, spin, yields);
}

/* Notes that the leader of an operation has met all groups. */
static void finish(pl_shared *shared, uint64_t number) {
    atomic_store(&shared->finished, number);
    if (atomic_load_explicit(&shared->oversubscribed, memory_order_relaxed)) {
        pl_event_notify(&shared->barrier_event);
    }
}

uint64_t pl_lead_open(pl_group *self) {
    pl_shared *shared = self->shared;
    uint64_t published = pl_bus_sent(&shared->operations);
    if (pl_bus_sent(&shared->barriers) != published ||
        pl_receiver_taken(&self->operations) != published) {
        /* a leader that is behind would mark operations it missed as replayed */
        pl_cancel_set(&shared->cancel, PL_CAUSE_BUS);
        return 0;
    }
    size_t running = 1;
    for (pl_group *group = shared->first; group != NULL; group = group->next) {
        group->must_replay = 0;
        int state = pl_safepoint_state(&group->safepoint);
        running += group != self && state == PL_RUNNING;
        if (state == PL_DEAD) {
            /* it was released at the last second barrier, and may have died before it replayed */
            pl_receiver_acknowledge_all(&group->operations);
        }
    }
    choose_spin(shared, running);
    uint64_t number = pl_bus_try_broadcast(&shared->barriers); /* `cur`, before the flag */
    if (number == 0) {
        pl_cancel_set(&shared->cancel, PL_CAUSE_BUS);
        return 0;
    }
    pl_receiver_take(&self->barriers, number);
    atomic_fetch_add_explicit(&shared->led, 1, memory_order_relaxed);
    pl_group_note(self, PL_TRACE_LEAD_BEGIN, number);
    self->leading = 1;
    pl_flag_set(&shared->flag);
    pl_event_notify(&shared->barrier_event);
    return number;
}

int pl_lead_meet(pl_group *self, int64_t timeout, uintptr_t *late) {
    pl_shared *shared = self->shared;
    uint64_t number = pl_bus_sent(&shared->barriers);
    int64_t deadline = pl_deadline(timeout);
    int64_t began = pl_now();
    int64_t due = began + PL_SLICE;
    int result = PL_ACQUIRED;
    for (pl_group *group = shared->first; group != NULL && result == PL_ACQUIRED;
         group = group->next) {
        if (group != self) {
            result = meet(self, group, has_arrived, number, deadline, &due);
            *late = group->handle;
        }
    }
    count_wait(shared, began);
    if (result == PL_CANCELLED) {
        pl_group_note(self, PL_TRACE_LEAD_END, 1);
    }
    return result;
}

uint64_t pl_lead_publish(pl_group *self) {
    pl_shared *shared = self->shared;
    for (pl_group *group = shared->first; group != NULL; group = group->next) {
        if (group->must_replay) {
            pl_receiver_expect(&group->operations);
        }
    }
    /* `published`, and only then the flag: mutant 1 */
    uint64_t number = pl_bus_try_broadcast(&shared->operations);
    if (number == 0) {
        pl_cancel_set(&shared->cancel, PL_CAUSE_BUS);
        pl_group_note(self, PL_TRACE_LEAD_END, 1);
        return 0;
    }
    pl_flag_clear(&shared->flag);
    pl_receiver_take(&self->operations, number);
    self->leading = 0;
    pl_rwlock_downgrade(&shared->lock);
    pl_event_notify(&shared->barrier_event);
    return number;
}

int pl_lead_finish(pl_group *self) {
    pl_shared *shared = self->shared;
    uint64_t number = pl_bus_sent(&shared->operations);
    int64_t began = pl_now();
    int64_t due = began + PL_SLICE;
    int result = PL_ACQUIRED;
    for (pl_group *group = shared->first; group != NULL && result == PL_ACQUIRED;
         group = group->next) {
        if (group != self && group->must_replay) {
            result = meet(self, group, has_replayed, number, -1, &due);
        }
    }
    pl_rwlock_release_read(&shared->lock);
    finish(shared, number);
    count_wait(shared, began);
    /* A group that could not replay may be dead by now, and was not waited for. */
    result = pl_cancel_cause(&shared->cancel) != 0 ? PL_CANCELLED : result;
    result = ended(self, result);
    pl_group_note(self, PL_TRACE_LEAD_END, result == PL_CANCELLED);
    return result;
}

uint64_t pl_lead_withdraw(pl_group *self) {
    pl_shared *shared = self->shared;
    uint64_t number = pl_bus_try_broadcast(&shared->operations);
    if (number == 0) {
        pl_cancel_set(&shared->cancel, PL_CAUSE_BUS);
        return 0;
    }
    pl_flag_clear(&shared->flag);
    pl_receiver_take(&self->operations, number);
    self->leading = 0;
    atomic_store(&shared->finished, number);
    pl_event_notify(&shared->barrier_event);
    pl_group_note(self, PL_TRACE_LEAD_END, 1);
    return number;
}

/* A dead group is not waited for, and does not replay: the log may be truncated past it. */
static int is_dead(const pl_group *self) { return pl_safepoint_state(&self->safepoint) == PL_DEAD; }

int pl_group_is_behind(const pl_group *self) {
    const pl_shared *shared = self->shared;
    /* a leader has executed its own operation; its signal handler may call the guest */
    if (is_dead(self) || self->leading) {
        return 0;
    }
    /* The flag before the number: the other order lets a group through between the two (mutant
     * 2). */
    return pl_flag_load(&shared->flag, PL_SEQ_CST) ||
           pl_receiver_taken(&self->operations) < pl_bus_sent(&shared->operations);
}

/* Arrives at the open barrier unless it did already. A follower that waits does this in each
 * iteration, because the next leader may be waiting for it (mutant 3). */
static void arrive(pl_group *self) {
    pl_shared *shared = self->shared;
    if (pl_flag_load(&shared->flag, PL_SEQ_CST)) {
        uint64_t number = pl_bus_sent(&shared->barriers);
        if (pl_receiver_taken(&self->barriers) != number) {
            pl_receiver_take(&self->barriers, number);
            pl_waiter_notify(&shared->waiter, &self->safepoint);
        }
    }
}

static int catch_up(pl_group *self) {
    pl_shared *shared = self->shared;
    uint64_t applied = pl_receiver_taken(&self->operations);
    uint64_t published = pl_bus_sent(&shared->operations);
    if (applied >= published || is_dead(self) || self->replaying) {
        return 0;
    }
    self->replaying = 1;
    pl_group_note(self, PL_TRACE_REPLAY_BEGIN, published - applied);
    int failed = self->replay(self->replay_handle, applied + 1, published);
    self->replaying = 0;
    pl_group_note(self, PL_TRACE_REPLAY_END, failed != 0);
    if (failed) {
        pl_cancel_set(&shared->cancel, PL_CAUSE_REPLAY);
        return -1;
    }
    pl_receiver_take(&self->operations, published);
    return 0;
}

int pl_group_catch_up(pl_group *self) {
    int failed = catch_up(self);
    pl_waiter_notify(&self->shared->waiter, &self->safepoint);
    return failed;
}

uint64_t pl_group_try_exclusive(pl_group *self) {
    pl_shared *shared = self->shared;
    uint64_t token =
        pl_cancel_cause(&shared->cancel) == 0 ? pl_topology_try_acquire(&shared->topology) : 0;
    if (token == 0) {
        return 0;
    }
    if (pl_rwlock_try_write(&shared->lock) == PL_ACQUIRED) {
        if (!pl_group_is_behind(self)) {
            return token;
        }
        pl_rwlock_release_write(&shared->lock);
    }
    pl_topology_release(&shared->topology, token);
    return 0;
}

/* A follower that has replayed would run for a whole time slice, which is milliseconds, while
 * others have yet to replay and the leader waits for them. So if oversubscribed it waits until the
 * leader has met all groups, or for a time slice. Correctness does not depend on it. */
static void wait_for_leader_to_finish(pl_group *self) {
    pl_shared *shared = self->shared;
    uint64_t applied = pl_receiver_taken(&self->operations);
    int64_t deadline = pl_deadline(YIELD_LIMIT_NS);
    int waits = atomic_load_explicit(&shared->oversubscribed, memory_order_relaxed);
    while (waits) {
        uint32_t key = pl_event_prepare(&shared->barrier_event);
        waits = atomic_load(&shared->finished) < applied && pl_cancel_cause(&shared->cancel) == 0 &&
                pl_event_wait(&shared->barrier_event, key, deadline);
    }
}

/* One iteration: arrive at the barrier, wait until the announced operation is published, replay all
 * published operations. */
static int follow_once(pl_group *self) {
    pl_shared *shared = self->shared;
    /* for both waits, however often they wake up spuriously */
    int64_t due = pl_now() + PL_SLICE;
    atomic_fetch_add_explicit(&shared->followed, 1, memory_order_relaxed);
    for (;;) {
        uint32_t key = pl_event_prepare(&shared->barrier_event);
        arrive(self);
        if (pl_cancel_cause(&shared->cancel) != 0) {
            return PL_CANCELLED;
        }
        if (pl_bus_sent(&shared->operations) >= pl_receiver_taken(&self->barriers)) {
            break;
        }
        pl_event_wait(&shared->barrier_event, key, due);
        if (gives_up(self, &due)) {
            return PL_CANCELLED;
        }
    }
    /* In a signal handler of a thread that has just taken the lock for writing and is still behind:
     * no other thread replays or publishes meanwhile. */
    int has_lock = pl_rwlock_is_written_here(&shared->lock);
    pl_backoff backoff = {0};
    while (!has_lock) {
        int result = pl_rwlock_try_read(&shared->lock);
        if (result == PL_ACQUIRED) {
            break;
        }
        if (result == PL_POISONED) {
            return result;
        }
        if (pl_cancel_cause(&shared->cancel) != 0) {
            return PL_CANCELLED;
        }
        arrive(self);
        if (gives_up(self, &due)) {
            return PL_CANCELLED;
        }
        pl_backoff_pause(&backoff);
    }
    int failed = catch_up(self);
    if (!has_lock) {
        pl_rwlock_release_read(&shared->lock);
    }
    /* after releasing the lock: once the leader returns there is no reader */
    pl_waiter_notify(&shared->waiter, &self->safepoint);
    wait_for_leader_to_finish(self);
    return failed ? PL_CANCELLED : PL_ACQUIRED;
}

int pl_group_safepoint_poll(pl_group *self) {
    if (self->replaying) {
        /* instantiation runs guest code, and is part of the operation to replay */
        return PL_ACQUIRED;
    }
    if (is_dead(self)) {
        return PL_CANCELLED;
    }
    if (!pl_group_is_behind(self) && pl_cancel_cause(&self->shared->cancel) == 0) {
        return PL_ACQUIRED;
    }
    return pl_follow(self);
}

int pl_follow(pl_group *self) {
    /* a signal handler of a wait may call the guest, which follows then */
    int before = self->following;
    while (pl_group_is_behind(self)) {
        pl_group_note(self, PL_TRACE_FOLLOW_BEGIN, 0);
        self->following = 1;
        int result = follow_once(self);
        self->following = before;
        pl_group_note(self, PL_TRACE_FOLLOW_END, 0);
        if (result != PL_ACQUIRED) {
            return ended(self, result);
        }
    }
    return ended(self, pl_cancel_cause(&self->shared->cancel) != 0 ? PL_CANCELLED : PL_ACQUIRED);
}
