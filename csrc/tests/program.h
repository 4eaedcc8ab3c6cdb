/* program: the fixture of the tests of rendezvous.h: a linker with its log, groups with their
 * threads, a leader and a follower. */
#ifndef PL_PROGRAM_H
#define PL_PROGRAM_H

#include "check.h"

#include "backoff.h"
#include "rendezvous.h"

enum { NOTHING = 0, FORGOTTEN = 1, MILLISECOND = 1000000 };

/* One linker and its log. Operations are numbers; a group that replays them in order ends with the
 * log's digest. */

struct entry {
    uint64_t operation; /* NOTHING if it was withdrawn, FORGOTTEN if every living group has it */
    uint64_t digest;    /* of it and all before */
};

static pl_shared *shared;
static struct entry *entries; /* under the lock of `shared`; entry 0 is the start */
static uint64_t capacity;
static _Atomic uint64_t returned; /* the newest operation whose leader has returned */

/* A group and the thread that belongs to it. */
struct member {
    pl_group *group;
    uint64_t digest;    /* of the operations that it has replayed */
    uint64_t from, to;  /* of the last replay */
    atomic_int replays; /* the number of replays begun */
    int (*on_replay)(
        struct member
            *); /* an additional action of a replay, which returns its result; NULL: none */
    int (*on_check)(struct member *);
    atomic_int is_free; /* the condition that on_replay waits for */
    atomic_int checks;
    atomic_int is_in; /* the guest has passed its first safepoint */
    atomic_int stop;  /* the guest has to exit */
    int is_eager;     /* it backs off only briefly */
    int result;
};

static inline pl_rwlock *the_lock(void) { return pl_shared_lock(shared); }

static inline uint64_t published(void) { return pl_bus_sent(pl_shared_operations(shared)); }

static inline uint64_t cause(void) { return pl_cancel_cause(pl_shared_cancel(shared)); }

static inline uint32_t sleepers(void) {
    return pl_event_waiters(pl_shared_event(shared)) +
           pl_event_waiters(pl_shared_barrier_event(shared)) +
           pl_event_waiters(pl_shared_sleepers(shared)) +
           pl_event_waiters(pl_waiter_event(pl_shared_waiter(shared)));
}

static inline int state_of(struct member *member) {
    return pl_safepoint_state(pl_group_safepoint(member->group));
}

static inline uint64_t digest_with(uint64_t digest, uint64_t operation) {
    return operation == NOTHING ? digest : (digest ^ operation) * UINT64_C(0x9E3779B97F4A7C15) + 1;
}

/* Under the write lock. */
static inline void append(uint64_t operation) {
    uint64_t number = published() + 1;
    if (number >= capacity) {
        capacity = 2 * number;
        entries = realloc(entries, capacity * sizeof *entries);
        CHECK(entries != NULL);
    }
    entries[number] = (struct entry){operation, digest_with(entries[number - 1].digest, operation)};
}

static inline int replay(uintptr_t handle, uint64_t from, uint64_t to) {
    struct member *self = (struct member *)handle;
    CHECK(pl_rwlock_readers(the_lock()) != 0); /* the log does not change meanwhile */
    CHECK(from == pl_group_applied(self->group) + 1 && from <= to && to == published());
    for (uint64_t number = from; number <= to; number++) {
        CHECK(entries[number].operation != FORGOTTEN);
        self->digest = digest_with(self->digest, entries[number].operation);
        CHECK(self->digest == entries[number].digest);
    }
    self->from = from;
    self->to = to;
    self->replays++;
    return self->on_replay != NULL ? self->on_replay(self) : 0;
}

static inline int check(uintptr_t handle) {
    struct member *self = (struct member *)handle;
    atomic_fetch_add(&self->checks, 1);
    return self->on_check != NULL ? self->on_check(self) : 0;
}

static inline void set_up(void) {
    shared = pl_shared_new();
    capacity = 16;
    entries = (calloc)(capacity, sizeof *entries);
    atomic_store(&returned, 0);
}

/* Frees the program and `count` members, in any state. */
static inline void tear_down(struct member *members, size_t count) {
    for (size_t i = 0; i < count; i++) {
        pl_group_free(members[i].group);
    }
    CHECK(pl_group_count(shared) == 0);
    CHECK(pl_bus_receivers(pl_shared_barriers(shared)) == 0 &&
          pl_bus_receivers(pl_shared_operations(shared)) == 0);
    pl_shared_free(shared);
    free(entries);
}

/* Under the write lock, or before other threads exist. */
static inline void join_program(struct member *self) {
    self->group = pl_group_new(shared, (uintptr_t)self, replay, check);
    CHECK(self->group != NULL);
    self->digest = entries[published()].digest;
}

static inline void set_up_with(struct member *members, size_t count) {
    set_up();
    for (size_t i = 0; i < count; i++) {
        members[i] = (struct member){.result = -1};
        join_program(&members[i]);
    }
}

/* Leading, as the linker does it. */

static inline int stay_away(struct member *self, pl_backoff *backoff) {
    if (cause() != 0) {
        return PL_CANCELLED;
    }
    if (pl_group_is_behind(self->group)) {
        int result = pl_follow(self->group);
        if (result != PL_ACQUIRED) {
            return result;
        }
    }
    pl_backoff_pause(backoff);
    if (self->is_eager && backoff->pauses > PL_BACKOFF_SPINS + PL_BACKOFF_YIELDS + 3) {
        *backoff = (pl_backoff){0}; /* otherwise a stress test mostly sleeps */
    }
    return PL_ACQUIRED;
}

/* Takes the token, then the write lock, and follows pending operations meanwhile. */
static inline int take_both(struct member *self, uint64_t *token) {
    pl_backoff backoff = {0};
    while ((*token = pl_topology_try_acquire(pl_shared_topology(shared))) == 0) {
        int result = stay_away(self, &backoff);
        if (result != PL_ACQUIRED) {
            return result;
        }
    }
    int result;
    backoff = (pl_backoff){0};
    while ((result = pl_rwlock_try_write(the_lock())) == PL_BUSY &&
           (result = stay_away(self, &backoff)) == PL_ACQUIRED) {
    }
    if (result == PL_ACQUIRED && pl_group_catch_up(self->group) != 0) {
        pl_rwlock_poison(the_lock());
        result = PL_CANCELLED;
    }
    if (result != PL_ACQUIRED) {
        CHECK(pl_topology_release(pl_shared_topology(shared), *token) == 0);
    }
    return result;
}

static inline void release_token(uint64_t token) {
    CHECK(pl_topology_release(pl_shared_topology(shared), token) == 0);
}

static inline void forget(void) {
    static uint64_t forgotten; /* belongs to the leader */
    uint64_t all = pl_shared_applied_by_all(shared);
    forgotten = forgotten < all ? forgotten : 0; /* another program */
    for (; forgotten < all; forgotten++) {
        entries[forgotten].operation = FORGOTTEN;
    }
}

/* Requires token and write lock; releases the lock. */
static inline int rendezvous(struct member *self, uint64_t operation, int64_t timeout) {
    uint64_t number = pl_lead_open(self->group);
    CHECK(number == published() + 1);
    uintptr_t late = 0;
    int result = pl_lead_meet(self->group, timeout, &late);
    if (result == PL_TIMEOUT || result == PL_SIGNALLED) {
        CHECK(late != 0 && late != (uintptr_t)self);
        append(NOTHING);
        CHECK(pl_lead_withdraw(self->group) == number);
        pl_rwlock_release_write(the_lock());
        return result;
    }
    if (result != PL_ACQUIRED) {
        pl_rwlock_poison(the_lock());
        return result;
    }
    append(operation);
    self->digest = entries[number].digest;
    CHECK(pl_lead_publish(self->group) == number);
    forget();
    result = pl_lead_finish(self->group);
    if (result == PL_ACQUIRED || result == PL_SIGNALLED) {
        atomic_store(&returned, number);
    }
    return result;
}

static inline int lead(struct member *self, uint64_t operation, int64_t timeout) {
    uint64_t token;
    int result = take_both(self, &token);
    if (result == PL_ACQUIRED) {
        result = rendezvous(self, operation, timeout);
        release_token(token);
    }
    return result;
}

static inline void *lead_in_thread(void *argument) {
    struct member *self = argument;
    self->result = lead(self, 5, -1);
    return NULL;
}

/* Guest code that only runs safepoints, until it has to stop or its linker is cancelled. */
static inline void *guest(void *argument) {
    struct member *self = argument;
    pl_safepoint *safepoint = pl_group_safepoint(self->group);
    int before = pl_safepoint_run(safepoint);
    while ((self->result = pl_group_safepoint_poll(self->group)) == PL_ACQUIRED &&
           !atomic_load(&self->stop)) {
        CHECK(pl_group_applied(self->group) >= atomic_load(&returned));
        atomic_store(&self->is_in, 1);
        sched_yield();
    }
    pl_safepoint_restore(safepoint, before);
    return NULL;
}

static inline pthread_t start_guest(struct member *member) {
    pthread_t thread = thread_start(guest, member);
    AWAIT(atomic_load(&member->is_in));
    return thread;
}

static inline void stop_guest(struct member *member, pthread_t thread) {
    atomic_store(&member->stop, 1);
    thread_join(thread);
    CHECK(member->result == PL_ACQUIRED);
}

/* Additional actions of a replay. */

static inline int wait_until_free(struct member *self) {
    AWAIT(atomic_load(&self->is_free));
    return 0;
}

static inline int fail(struct member *self) {
    (void)self;
    return 7;
}

#endif
