/* shared: the rendezvous, step by step, with every fault that it survives, and under stress.
 *
 *     ./test_shared                        every test, and a short stress
 *     ./test_shared SEED SECONDS GROUPS    the stress alone: the same seed makes the same choices
 */
#include "check.h"

#include "shared.h"

enum { NOTHING = 0, FORGOTTEN = 1, MILLISECOND = 1000000 };

/* A program: one linker and its log. Operations are numbers; a group that carries them out in order ends with the log's digest. */

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
    uint64_t digest;                   /* of what it has carried out */
    uint64_t from, to;                 /* of the last replay */
    atomic_int replays;                /* how many have begun */
    int (*on_replay)(struct member *); /* what else a replay does, and how it ends; NULL: nothing */
    int (*on_check)(struct member *);
    atomic_int is_free;                /* what on_replay waits for */
    atomic_int checks;
    atomic_int is_in; /* the guest has passed its first safepoint */
    atomic_int stop;  /* the guest has to come to an end */
    int is_eager;     /* it does not back off for long */
    int result;
};

static pl_rwlock *the_lock(void) {
    return pl_shared_lock(shared);
}

static uint64_t published(void) {
    return pl_bus_sent(pl_shared_operations(shared));
}

static uint64_t cause(void) {
    return pl_cancel_cause(pl_shared_cancel(shared));
}

static uint32_t sleepers(void) {
    return pl_event_waiters(pl_shared_event(shared));
}

static int state_of(struct member *member) {
    return pl_safepoint_state(pl_group_safepoint(member->group));
}

static uint64_t digest_with(uint64_t digest, uint64_t operation) {
    return operation == NOTHING ? digest : (digest ^ operation) * UINT64_C(0x9E3779B97F4A7C15) + 1;
}

/* Under the write lock. */
static void append(uint64_t operation) {
    uint64_t number = published() + 1;
    if (number >= capacity) {
        capacity = 2 * number;
        entries = realloc(entries, capacity * sizeof *entries);
        CHECK(entries != NULL);
    }
    entries[number] = (struct entry){operation, digest_with(entries[number - 1].digest, operation)};
}

static int replay(uintptr_t handle, uint64_t from, uint64_t to) {
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

static int check(uintptr_t handle) {
    struct member *self = (struct member *)handle;
    atomic_fetch_add(&self->checks, 1);
    return self->on_check != NULL ? self->on_check(self) : 0;
}

static void set_up(void) {
    shared = pl_shared_new();
    capacity = 16;
    entries = (calloc)(capacity, sizeof *entries);
    atomic_store(&returned, 0);
}

/* Frees the program and `count` members, from whatever state a test left them in. */
static void tear_down(struct member *members, size_t count) {
    for (size_t i = 0; i < count; i++) {
        pl_group_free(members[i].group);
    }
    CHECK(pl_group_count(shared) == 0);
    CHECK(pl_bus_receivers(pl_shared_barriers(shared)) == 0 && pl_bus_receivers(pl_shared_operations(shared)) == 0);
    pl_shared_free(shared);
    free(entries);
}

/* Under the write lock, or while nobody else is there. */
static void join_program(struct member *self) {
    self->group = pl_group_new(shared, (uintptr_t)self, replay, check);
    CHECK(self->group != NULL);
    self->digest = entries[published()].digest;
}

static void set_up_with(struct member *members, size_t count) {
    set_up();
    for (size_t i = 0; i < count; i++) {
        members[i] = (struct member){.result = -1};
        join_program(&members[i]);
    }
}

/* Leading, as the linker does it. */

static int stay_away(struct member *self, pl_backoff *backoff) {
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
        *backoff = (pl_backoff){0}; /* or most of a stress is sleep */
    }
    return PL_ACQUIRED;
}

/* Takes the token, then the write lock, and part in what is pending meanwhile. */
static int take_both(struct member *self, uint64_t *token) {
    pl_backoff backoff = {0};
    while ((*token = pl_gate_try_acquire(pl_shared_gate(shared))) == 0) {
        int result = stay_away(self, &backoff);
        if (result != PL_ACQUIRED) {
            return result;
        }
    }
    int result;
    backoff = (pl_backoff){0};
    while ((result = pl_rwlock_try_write(the_lock())) == PL_BUSY && (result = stay_away(self, &backoff)) == PL_ACQUIRED) {
    }
    if (result == PL_ACQUIRED && pl_group_catch_up(self->group) != 0) {
        pl_rwlock_poison(the_lock());
        result = PL_CANCELLED;
    }
    if (result != PL_ACQUIRED) {
        CHECK(pl_gate_release(pl_shared_gate(shared), *token) == 0);
    }
    return result;
}

static void release_token(uint64_t token) {
    CHECK(pl_gate_release(pl_shared_gate(shared), token) == 0);
}

static void forget(void) {
    static uint64_t forgotten; /* belongs to the leader */
    uint64_t all = pl_shared_applied_by_all(shared);
    forgotten = forgotten < all ? forgotten : 0; /* another program */
    for (; forgotten < all; forgotten++) {
        entries[forgotten].operation = FORGOTTEN;
    }
}

/* With token and write lock; the lock is released. */
static int rendezvous(struct member *self, uint64_t operation, int64_t timeout) {
    uint64_t number = pl_lead_open(self->group);
    CHECK(number == published() + 1);
    uintptr_t late = 0;
    int result = pl_lead_meet(self->group, timeout, &late);
    if (result == PL_TIMEOUT) {
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
    if (result == PL_ACQUIRED) {
        atomic_store(&returned, number);
    }
    return result;
}

static int lead(struct member *self, uint64_t operation, int64_t timeout) {
    uint64_t token;
    int result = take_both(self, &token);
    if (result == PL_ACQUIRED) {
        result = rendezvous(self, operation, timeout);
        release_token(token);
    }
    return result;
}

static void *lead_in_thread(void *argument) {
    struct member *self = argument;
    self->result = lead(self, 5, -1);
    return NULL;
}

/* Guest code that does nothing but come to its safepoints, until it has to stop or its linker is cancelled. */
static void *guest(void *argument) {
    struct member *self = argument;
    pl_safepoint *safepoint = pl_group_safepoint(self->group);
    int before = pl_safepoint_run(safepoint);
    while ((self->result = pl_group_safepoint_poll(self->group)) == PL_ACQUIRED && !atomic_load(&self->stop)) {
        CHECK(pl_group_applied(self->group) >= atomic_load(&returned));
        atomic_store(&self->is_in, 1);
        sched_yield();
    }
    pl_safepoint_restore(safepoint, before);
    return NULL;
}

static pthread_t start_guest(struct member *member) {
    pthread_t thread = thread_start(guest, member);
    AWAIT(atomic_load(&member->is_in));
    return thread;
}

static void stop_guest(struct member *member, pthread_t thread) {
    atomic_store(&member->stop, 1);
    thread_join(thread);
    CHECK(member->result == PL_ACQUIRED);
}

/* One thread: what the header says of each call. The test's thread plays every group, which is fine while none blocks. */

static void test_new_linker_has_nothing_pending(void) {
    set_up();
    CHECK(cause() == 0 && published() == 0 && pl_bus_sent(pl_shared_barriers(shared)) == 0);
    CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0);
    CHECK(pl_rwlock_readers(the_lock()) == 0 && pl_gate_holder(pl_shared_gate(shared)) == 0);
    CHECK(pl_group_count(shared) == 0 && pl_shared_applied_by_all(shared) == 0);
    tear_down(NULL, 0);
    pl_shared_free(NULL);
}

static void test_new_group_is_parked_and_has_everything(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(pl_group_count(shared) == 2 && pl_group_shared(members[0].group) == shared);
    CHECK(lead(&members[0], 5, 0) == PL_ACQUIRED);
    struct member late = {.result = -1};
    join_program(&late);
    CHECK(pl_group_count(shared) == 3);
    CHECK(pl_group_handle(late.group) == (uintptr_t)&late && state_of(&late) == PL_PARKED);
    CHECK(pl_group_applied(late.group) == 1 && pl_group_arrived(late.group) == 1);
    CHECK(!pl_group_is_behind(late.group) && pl_follow(late.group) == PL_ACQUIRED && late.replays == 0);
    pl_group_free(late.group);
    tear_down(members, 2);
}

static void test_leader_goes_through_its_steps(void) {
    struct member one;
    set_up_with(&one, 1);
    for (uint64_t number = 1; number <= 3; number++) {
        uintptr_t late;
        CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
        CHECK(pl_lead_open(one.group) == number);
        CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 1 && published() == number - 1);
        CHECK(pl_group_arrived(one.group) == number);
        CHECK(pl_lead_meet(one.group, -1, &late) == PL_ACQUIRED);
        append(number);
        CHECK(pl_lead_publish(one.group) == number);
        CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0 && published() == number);
        CHECK(pl_rwlock_readers(the_lock()) == 1);
        CHECK(pl_lead_finish(one.group) == PL_ACQUIRED);
        CHECK(pl_rwlock_readers(the_lock()) == 0);
        CHECK(pl_group_applied(one.group) == number && one.replays == 0); /* it has carried it out already */
    }
    CHECK(pl_group_safepoint_poll(one.group) == PL_ACQUIRED && one.replays == 0);
    tear_down(&one, 1);
}

static void test_parked_group_holds_nobody_up_and_replays_before_it_runs(void) {
    struct member members[2];
    set_up_with(members, 2);
    struct member *leader = &members[0], *parked = &members[1];
    for (uint64_t number = 1; number <= 3; number++) {
        CHECK(lead(leader, 4 + number, -1) == PL_ACQUIRED);
    }
    CHECK(pl_group_is_behind(parked->group) && parked->replays == 0);
    pl_safepoint_run(pl_group_safepoint(parked->group));
    CHECK(pl_group_safepoint_poll(parked->group) == PL_ACQUIRED);
    CHECK(parked->replays == 1 && parked->from == 1 && parked->to == 3);
    CHECK(pl_group_applied(parked->group) == 3 && parked->digest == leader->digest);
    CHECK(!pl_group_is_behind(parked->group) && pl_rwlock_readers(the_lock()) == 0);
    tear_down(members, 2);
}

static void test_leader_catches_up_first(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED && lead(&members[0], 6, -1) == PL_ACQUIRED);
    CHECK(lead(&members[1], 7, -1) == PL_ACQUIRED); /* take_both calls pl_group_catch_up */
    CHECK(members[1].replays == 1 && members[1].from == 1 && members[1].to == 2);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_group_catch_up(members[0].group) == 0 && members[0].from == 3);
    CHECK(pl_group_catch_up(members[0].group) == 0 && members[0].replays == 1);
    pl_rwlock_release_write(the_lock());
    CHECK(members[0].digest == members[1].digest);
    tear_down(members, 2);
}

static int fail(struct member *self) {
    (void)self;
    return 7;
}

static void test_leader_that_cannot_catch_up_cancels(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    members[1].on_replay = fail;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_group_catch_up(members[1].group) != 0);
    CHECK(cause() == PL_CAUSE_REPLAY && pl_group_applied(members[1].group) == 0);
    CHECK(pl_rwlock_readers(the_lock()) == -1);
    tear_down(members, 2);
}

static void test_leader_that_is_behind_is_refused(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[1].group) == 0); /* its own operation would hide the one it missed */
    CHECK(cause() == PL_CAUSE_BUS && pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0);
    tear_down(members, 2);
}

static void test_second_barrier_while_one_is_up_is_refused(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1);
    CHECK(pl_lead_open(members[1].group) == 0);
    CHECK(cause() == PL_CAUSE_BUS);
    CHECK(pl_follow(members[1].group) == PL_CANCELLED);
    tear_down(members, 2);
}

static void test_full_bus_is_fatal(void) {
    struct member one;
    set_up_with(&one, 1);
    pl_receiver *mute = pl_bus_subscribe(pl_shared_operations(shared));
    pl_receiver_expect(mute);
    CHECK(lead(&one, 5, -1) == PL_ACQUIRED);
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(one.group) == 2 && pl_lead_meet(one.group, -1, &late) == PL_ACQUIRED);
    CHECK(pl_lead_publish(one.group) == 0);
    CHECK(cause() == PL_CAUSE_BUS && published() == 1);
    CHECK(pl_lead_withdraw(one.group) == 0 && published() == 1);
    CHECK(pl_rwlock_readers(the_lock()) == -1); /* nothing was published: nobody may look */
    pl_bus_unsubscribe(pl_shared_operations(shared), mute);
    tear_down(&one, 1);
}

static void test_log_may_forget_what_every_living_group_has(void) {
    struct member members[3];
    set_up_with(members, 3);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED);
    CHECK(lead(&members[0], 6, -1) == PL_ACQUIRED);
    CHECK(pl_shared_applied_by_all(shared) == 0);
    pl_safepoint_die(pl_group_safepoint(members[2].group));
    CHECK(pl_shared_applied_by_all(shared) == 1);
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED);
    CHECK(pl_shared_applied_by_all(shared) == 2);
    CHECK(pl_group_count(shared) == 3); /* the dead one included */
    tear_down(members, 3);
}

static void test_dead_group_is_never_behind_and_never_runs(void) {
    struct member members[2];
    set_up_with(members, 2);
    struct member *leader = &members[0], *dead = &members[1];
    CHECK(lead(leader, 5, -1) == PL_ACQUIRED);
    pl_safepoint_die(pl_group_safepoint(dead->group));
    CHECK(lead(leader, 6, -1) == PL_ACQUIRED); /* the log forgets what the dead one missed */
    CHECK(!pl_group_is_behind(dead->group) && pl_follow(dead->group) == PL_ACQUIRED);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_group_catch_up(dead->group) == 0);
    pl_rwlock_release_write(the_lock());
    CHECK(dead->replays == 0 && cause() == 0);
    CHECK(pl_group_safepoint_poll(dead->group) == PL_CANCELLED);
    tear_down(members, 2);
}

static int run_guest_while_replaying(struct member *self) {
    pl_safepoint *safepoint = pl_group_safepoint(self->group);
    int before = pl_safepoint_run(safepoint);
    CHECK(pl_group_is_behind(self->group));
    CHECK(pl_group_safepoint_poll(self->group) == PL_ACQUIRED);
    pl_safepoint_restore(safepoint, before);
    return 0;
}

static void test_replay_may_execute_guest_code(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[1].on_replay = run_guest_while_replaying;
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED && members[1].replays == 1);
    CHECK(!pl_group_is_behind(members[1].group));
    tear_down(members, 2);
}

static void test_cancelled_linker_lets_nobody_in(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(pl_group_safepoint_poll(members[0].group) == PL_CANCELLED); /* it is not behind */
    CHECK(pl_group_safepoint_poll(members[1].group) == PL_CANCELLED && members[1].replays == 0);
    CHECK(pl_follow(members[0].group) == PL_CANCELLED && pl_follow(members[1].group) == PL_CANCELLED);
    tear_down(members, 2);
}

static void test_lack_of_memory_is_told_and_leaves_nothing_behind(void) {
    for (long left = 0;; left++) {
        atomic_store(&inject_memory, left);
        pl_shared *made = pl_shared_new();
        atomic_store(&inject_memory, -1);
        pl_shared_free(made);
        if (made != NULL) {
            CHECK(left == 8);
            break;
        }
    }
    set_up();
    for (long left = 0;; left++) {
        atomic_store(&inject_memory, left);
        pl_group *made = pl_group_new(shared, 1, replay, check);
        atomic_store(&inject_memory, -1);
        if (made != NULL) {
            CHECK(left == 4);
            pl_group_free(made);
            break;
        }
        CHECK(pl_group_count(shared) == 0 && pl_bus_receivers(pl_shared_operations(shared)) == 0);
    }
    tear_down(NULL, 0);
}

/* One thread, two roles: all that a leader does, between any two steps of a group that comes back, and the other way round. */

static struct member pair[2];
static int came_back; /* the group executes guest code without having followed */

static void come_back(void) {
    pl_safepoint_run(pl_group_safepoint(pair[1].group));
    came_back = !pl_group_is_behind(pair[1].group);
}

static void lead_in_between(void) {
    int result = lead(&pair[0], 5, 0);
    CHECK(result == PL_ACQUIRED || result == PL_TIMEOUT); /* late, if it is running: it would have been waited for */
}

static void check_that_nobody_runs_stale(void) {
    CHECK(state_of(&pair[1]) == PL_RUNNING);
    CHECK(!came_back || pl_group_applied(pair[1].group) >= atomic_load(&returned));
}

static void test_leader_may_come_at_any_moment_of_coming_back(void) {
    unsigned steps = 0;
    for (int is_over = 0; !is_over; steps++) {
        set_up_with(pair, 2);
        inject_between(steps, lead_in_between);
        come_back();
        is_over = inject_is_over();
        check_that_nobody_runs_stale();
        tear_down(pair, 2);
    }
    CHECK(steps > 3); /* the state, the flag, what is applied, what is published */
}

static void test_group_may_come_back_at_any_moment_of_leading(void) {
    unsigned steps = 0;
    for (int is_over = 0; !is_over; steps++) {
        set_up_with(pair, 2);
        came_back = 0;
        inject_between(steps, come_back);
        lead_in_between();
        is_over = inject_is_over();
        if (!is_over) {
            check_that_nobody_runs_stale();
        }
        tear_down(pair, 2);
    }
    CHECK(steps > 15);
}

static void publish_and_finish(void) {
    append(5);
    CHECK(pl_lead_publish(pair[0].group) == 1);
    CHECK(pl_lead_finish(pair[0].group) == PL_ACQUIRED);
    atomic_store(&returned, 1);
}

static void test_leader_that_has_met_may_publish_at_any_moment_of_coming_back(void) {
    unsigned steps = 0;
    for (int is_over = 0; !is_over; steps++) {
        uintptr_t late;
        set_up_with(pair, 2);
        CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
        CHECK(pl_lead_open(pair[0].group) == 1 && pl_lead_meet(pair[0].group, 0, &late) == PL_ACQUIRED);
        inject_between(steps, publish_and_finish);
        come_back();
        is_over = inject_is_over();
        check_that_nobody_runs_stale();
        tear_down(pair, 2);
    }
    CHECK(steps > 3);
}

static void try_to_write(void) {
    CHECK(pl_rwlock_try_write(the_lock()) == PL_BUSY);
}

static void test_no_writer_comes_between_a_publication_and_its_end(void) {
    unsigned steps = 0;
    for (int is_over = 0; !is_over; steps++) {
        uintptr_t late;
        set_up_with(pair, 1);
        CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
        CHECK(pl_lead_open(pair[0].group) == 1 && pl_lead_meet(pair[0].group, 0, &late) == PL_ACQUIRED);
        inject_between(steps, try_to_write);
        append(5);
        CHECK(pl_lead_publish(pair[0].group) == 1);
        is_over = inject_is_over();
        try_to_write();
        CHECK(pl_lead_finish(pair[0].group) == PL_ACQUIRED);
        tear_down(pair, 1);
    }
    CHECK(steps > 3);
}

/* Threads. */

static int wait_until_free(struct member *self) {
    AWAIT(atomic_load(&self->is_free));
    return 0;
}

static void test_leader_returns_after_every_running_group_has_replayed(void) {
    struct member members[3];
    set_up_with(members, 3);
    members[1].on_replay = wait_until_free;
    pthread_t guests[] = {start_guest(&members[1]), start_guest(&members[2])};
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(pl_rwlock_readers(the_lock()) == 2 && sleepers() == 1); /* one replays, and the leader waits for it */
    CHECK(atomic_load(&returned) == 0 && published() == 1);
    atomic_store(&members[1].is_free, 1);
    thread_join(leader);
    CHECK(members[0].result == PL_ACQUIRED);
    CHECK(pl_group_applied(members[1].group) == 1 && pl_group_applied(members[2].group) == 1);
    stop_guest(&members[1], guests[0]);
    stop_guest(&members[2], guests[1]);
    tear_down(members, 3);
}

static void test_group_that_comes_back_during_a_rendezvous_waits_and_is_not_waited_for(void) {
    struct member members[2];
    set_up_with(members, 2);
    struct member *leader = &members[0], *back = &members[1];
    back->on_replay = wait_until_free;
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(leader->group) == 1 && pl_lead_meet(leader->group, -1, &late) == PL_ACQUIRED);
    pthread_t thread = thread_start(guest, back);
    AWAIT(pl_group_arrived(back->group) == 1 && sleepers() == 1);
    CHECK(!atomic_load(&back->is_in));
    append(5);
    CHECK(pl_lead_publish(leader->group) == 1);
    CHECK(pl_lead_finish(leader->group) == PL_ACQUIRED); /* its replay is not over, and it cannot run before */
    CHECK(!atomic_load(&back->is_in));
    atomic_store(&back->is_free, 1);
    AWAIT(atomic_load(&back->is_in));
    stop_guest(back, thread);
    tear_down(members, 2);
}

static void test_follower_that_waits_for_the_lock_comes_to_the_next_barrier(void) {
    struct member members[2];
    set_up_with(members, 2);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED); /* the next leader, before its barrier is up */
    pthread_t thread = thread_start(guest, &members[1]);
    AWAIT(atomic_load(&members[1].checks) != 0); /* it waits for the lock, to replay operation 1 */
    CHECK(pl_group_arrived(members[1].group) == 0);
    CHECK(rendezvous(&members[0], 6, -1) == PL_ACQUIRED); /* and the leader waits for it */
    CHECK(pl_group_applied(members[1].group) == 2);
    AWAIT(atomic_load(&members[1].is_in));
    stop_guest(&members[1], thread);
    tear_down(members, 2);
}

static void test_late_group_is_named_and_the_others_go_on(void) {
    struct member members[3];
    set_up_with(members, 3);
    struct member *leader = &members[0], *computing = &members[1], *polling = &members[2];
    pl_safepoint_run(pl_group_safepoint(computing->group));
    pthread_t thread = start_guest(polling);
    uintptr_t late = 0;
    int64_t deadline = pl_deadline(MILLISECOND);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(leader->group) == 1);
    AWAIT(pl_group_arrived(polling->group) == 1);
    CHECK(pl_lead_meet(leader->group, MILLISECOND, &late) == PL_TIMEOUT);
    CHECK(pl_now() >= deadline && late == (uintptr_t)computing);
    append(NOTHING);
    CHECK(pl_lead_withdraw(leader->group) == 1);
    CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0 && published() == 1);
    CHECK(pl_rwlock_readers(the_lock()) == -1 && pl_group_applied(leader->group) == 1);
    pl_rwlock_release_write(the_lock());
    AWAIT(pl_group_applied(polling->group) == 1);
    CHECK(pl_group_safepoint_poll(computing->group) == PL_ACQUIRED && computing->to == 1);
    pl_safepoint_park(pl_group_safepoint(computing->group));
    CHECK(lead(leader, 6, -1) == PL_ACQUIRED); /* as if nothing had been */
    CHECK(pl_group_applied(polling->group) == 2);
    stop_guest(polling, thread);
    tear_down(members, 3);
}

static uint32_t count_of_event(void) {
    return pl_event_prepare(pl_shared_event(shared));
}

static void test_each_step_that_is_waited_for_notifies(void) {
    /* A wait looks again after a slice in any case; this is about not having to wait for that. */
    struct member members[2];
    set_up_with(members, 2);
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    uint32_t key = count_of_event();
    CHECK(pl_lead_open(members[0].group) == 1);
    CHECK(count_of_event() != key);
    key = count_of_event();
    pthread_t follower = thread_start(guest, &members[1]);
    AWAIT(pl_group_arrived(members[1].group) == 1 && sleepers() == 1);
    CHECK(count_of_event() != key);
    CHECK(pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED);
    key = count_of_event();
    append(NOTHING);
    CHECK(pl_lead_withdraw(members[0].group) == 1);
    CHECK(count_of_event() != key);
    pl_rwlock_release_write(the_lock());
    AWAIT(atomic_load(&members[1].is_in));
    stop_guest(&members[1], follower);
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_rwlock_try_read(the_lock()) == PL_ACQUIRED); /* the leader has one, so that releasing another is no news */
    key = count_of_event();
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED);
    CHECK(count_of_event() != key);
    pl_rwlock_release_read(the_lock());
    tear_down(members, 2);
}

/* Faults. */

static void *open_and_die(void *argument) {
    struct member *self = argument;
    uint64_t token;
    CHECK(take_both(self, &token) == PL_ACQUIRED);
    CHECK(pl_lead_open(self->group) == 1);
    AWAIT(atomic_load(&self->is_free));
    CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_LEADER) == 1);
    pl_rwlock_poison(the_lock());
    pl_safepoint_die(pl_group_safepoint(self->group));
    release_token(token);
    return NULL;
}

static void test_leader_dies_after_it_opened_the_barrier(void) {
    struct member members[3];
    set_up_with(members, 3);
    pthread_t follower = start_guest(&members[1]);
    pthread_t leader = thread_start(open_and_die, &members[0]);
    AWAIT(pl_group_arrived(members[1].group) == 1 && sleepers() == 1);
    pthread_t next = thread_start(lead_in_thread, &members[2]); /* it wants the token, and follows */
    AWAIT(pl_group_arrived(members[2].group) == 1 && sleepers() == 2);
    atomic_store(&members[0].is_free, 1);
    thread_join(leader);
    thread_join(follower);
    thread_join(next);
    CHECK(members[1].result == PL_CANCELLED && members[2].result == PL_CANCELLED && cause() == PL_CAUSE_LEADER);
    CHECK(lead(&members[1], 6, -1) == PL_POISONED);
    CHECK(pl_gate_holder(pl_shared_gate(shared)) == 0 && published() == 0);
    tear_down(members, 3);
}

static void test_running_group_dies_before_it_arrives(void) {
    struct member members[2];
    set_up_with(members, 2);
    pl_safepoint_run(pl_group_safepoint(members[1].group));
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(sleepers() == 1);
    pl_safepoint_die(pl_group_safepoint(members[1].group));
    thread_join(leader);
    CHECK(members[0].result == PL_ACQUIRED && lead(&members[0], 6, -1) == PL_ACQUIRED);
    tear_down(members, 2);
}

static int die_here(struct member *self) {
    if (!atomic_load(&self->is_free)) {
        return 0;
    }
    pl_safepoint_die(pl_group_safepoint(self->group));
    pthread_exit(NULL);
}

static void test_follower_dies_at_the_barrier(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[1].on_check = die_here;
    pthread_t follower = start_guest(&members[1]);
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1);
    CHECK(pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED); /* it has arrived, and is to be waited for */
    atomic_store(&members[1].is_free, 1);
    thread_join(follower);
    append(5);
    CHECK(pl_lead_publish(members[0].group) == 1);
    CHECK(pl_lead_finish(members[0].group) == PL_ACQUIRED);
    CHECK(pl_group_applied(members[1].group) == 0 && lead(&members[0], 6, -1) == PL_ACQUIRED);
    tear_down(members, 2);
}

static int die_while_replaying(struct member *self) {
    pl_safepoint_die(pl_group_safepoint(self->group));
    pl_rwlock_release_read(the_lock());
    pthread_exit(NULL);
}

static int vanish_while_replaying(struct member *self) {
    (void)self;
    pl_rwlock_release_read(the_lock());
    pthread_exit(NULL);
}

static void test_group_that_was_waited_for_and_owes_its_answer_keeps_the_bus_full(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[1].on_replay = vanish_while_replaying; /* a bug of its thread: it does not say that it is dead */
    pthread_t follower = start_guest(&members[1]);
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    thread_join(follower);
    CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED) == 1); /* or the leader waits for ever */
    thread_join(leader);
    CHECK(members[0].result == PL_CANCELLED);
    uintptr_t late;
    pl_safepoint_park(pl_group_safepoint(members[1].group));
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 2 && pl_lead_meet(members[0].group, 0, &late) == PL_ACQUIRED);
    CHECK(pl_lead_publish(members[0].group) == 0 && published() == 1);
    tear_down(members, 2);
}

/* It owes the bus of operations an answer that never comes. */
static void let_one_die_in_debt(struct member *leader, struct member *debtor) {
    debtor->on_replay = die_while_replaying;
    pthread_t follower = start_guest(debtor);
    CHECK(lead(leader, 5, -1) == PL_ACQUIRED);
    thread_join(follower);
    CHECK(pl_group_applied(debtor->group) == 0 && pl_rwlock_readers(the_lock()) == 0);
}

static void test_follower_dies_while_it_replays(void) {
    struct member members[2];
    set_up_with(members, 2);
    let_one_die_in_debt(&members[0], &members[1]);
    CHECK(lead(&members[0], 6, -1) == PL_ACQUIRED);
    CHECK(lead(&members[0], 7, -1) == PL_ACQUIRED);
    tear_down(members, 2);
}

static void test_operation_is_withdrawn_after_a_death_in_debt(void) {
    struct member members[3];
    set_up_with(members, 3);
    let_one_die_in_debt(&members[0], &members[1]);
    CHECK(pl_follow(members[2].group) == PL_ACQUIRED);
    pl_safepoint_run(pl_group_safepoint(members[2].group));
    CHECK(lead(&members[0], 6, 0) == PL_TIMEOUT && cause() == 0);
    CHECK(pl_group_safepoint_poll(members[2].group) == PL_ACQUIRED);
    tear_down(members, 3);
}

static int fail_when_free(struct member *self) {
    AWAIT(atomic_load(&self->is_free));
    return 7;
}

static void test_failed_replay_cancels_everybody(void) {
    struct member members[4];
    set_up_with(members, 4);
    members[1].on_replay = fail_when_free;
    members[2].on_replay = wait_until_free;
    pthread_t guests[] = {start_guest(&members[1]), start_guest(&members[2]), start_guest(&members[3])};
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(members[1].replays == 1 && members[2].replays == 1);
    atomic_store(&members[1].is_free, 1);
    thread_join(leader); /* though another is still replaying */
    CHECK(members[0].result == PL_CANCELLED && cause() == PL_CAUSE_REPLAY && atomic_load(&returned) == 0);
    atomic_store(&members[2].is_free, 1);
    for (int i = 0; i < 3; i++) {
        thread_join(guests[i]);
        CHECK(members[1 + i].result == PL_CANCELLED);
    }
    CHECK(pl_group_applied(members[1].group) == 0 && pl_group_applied(members[2].group) == 1);
    CHECK(pl_rwlock_readers(the_lock()) == 0 && pl_gate_holder(pl_shared_gate(shared)) == 0);
    tear_down(members, 4);
}

static void *guest_that_dies_of_a_failure(void *argument) {
    struct member *self = argument;
    guest(self);
    pl_safepoint_die(pl_group_safepoint(self->group));
    return NULL;
}

static void test_failed_replay_is_not_hidden_by_the_death_of_its_group(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[1].on_replay = fail;
    pthread_t follower = thread_start(guest_that_dies_of_a_failure, &members[1]);
    AWAIT(atomic_load(&members[1].is_in));
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1 && pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED);
    append(5);
    CHECK(pl_lead_publish(members[0].group) == 1);
    thread_join(follower);
    CHECK(members[1].result == PL_CANCELLED && state_of(&members[1]) == PL_DEAD);
    CHECK(pl_lead_finish(members[0].group) == PL_CANCELLED); /* not everybody who arrived has replayed */
    CHECK(pl_rwlock_readers(the_lock()) == 0);
    tear_down(members, 2);
}

/* Every place where a thread waits, and the two things that end a wait before its time: cancellation from outside, and a `check`. */

static int ends_by_check;

static int stop_when_told(struct member *self) {
    return atomic_load(&self->stop);
}

static void end_wait(struct member *waiting) {
    if (ends_by_check) {
        atomic_store(&waiting->stop, 1);
        AWAIT(cause() != 0);
        CHECK(cause() == PL_CAUSE_INTERRUPTED);
    } else {
        CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED) == 1);
    }
}

static void end_leader_that_meets(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[0].on_check = stop_when_told;
    pl_safepoint_run(pl_group_safepoint(members[1].group));
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(sleepers() == 1);
    end_wait(&members[0]);
    thread_join(leader);
    CHECK(members[0].result == PL_CANCELLED && published() == 0);
    tear_down(members, 2);
}

static void end_leader_that_finishes(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[0].on_check = stop_when_told;
    members[1].on_replay = wait_until_free;
    pthread_t follower = start_guest(&members[1]);
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(pl_rwlock_readers(the_lock()) == 2 && sleepers() == 1);
    end_wait(&members[0]);
    thread_join(leader);
    CHECK(members[0].result == PL_CANCELLED && pl_rwlock_readers(the_lock()) == 1);
    atomic_store(&members[1].is_free, 1);
    thread_join(follower);
    CHECK(members[1].result == PL_CANCELLED && pl_rwlock_readers(the_lock()) == 0);
    tear_down(members, 2);
}

static void end_followers_at_the_barrier(void) {
    struct member members[3];
    set_up_with(members, 3);
    members[1].on_check = stop_when_told;
    pthread_t followers[] = {start_guest(&members[1]), start_guest(&members[2])};
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1);
    AWAIT(pl_group_arrived(members[1].group) == 1 && pl_group_arrived(members[2].group) == 1 && sleepers() == 2);
    end_wait(&members[1]);
    thread_join(followers[0]);
    thread_join(followers[1]);
    CHECK(members[1].result == PL_CANCELLED && members[2].result == PL_CANCELLED);
    tear_down(members, 3);
}

static void end_followers_that_wait_for_the_lock(void) {
    struct member members[2];
    set_up_with(members, 2);
    members[1].on_check = stop_when_told;
    CHECK(lead(&members[0], 5, -1) == PL_ACQUIRED);
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    pthread_t follower = thread_start(guest, &members[1]);
    AWAIT(atomic_load(&members[1].checks) != 0);
    end_wait(&members[1]);
    thread_join(follower);
    CHECK(members[1].result == PL_CANCELLED && members[1].replays == 0);
    tear_down(members, 2);
}

static void test_cancellation_from_outside_ends_every_wait(void) {
    ends_by_check = 0;
    end_leader_that_meets();
    end_leader_that_finishes();
    end_followers_at_the_barrier();
    end_followers_that_wait_for_the_lock();
}

static void test_check_ends_every_wait(void) {
    ends_by_check = 1;
    end_leader_that_meets();
    end_leader_that_finishes();
    end_followers_at_the_barrier();
    end_followers_that_wait_for_the_lock();
}

static void *write_blindly(void *argument) {
    struct member *self = argument;
    self->result = pl_rwlock_write(the_lock(), pl_shared_cancel(shared), -1);
    return NULL;
}

static void test_cancellation_from_outside_ends_the_wait_for_token_and_lock(void) {
    struct member members[3];
    set_up_with(members, 3);
    uint64_t token;
    CHECK(take_both(&members[0], &token) == PL_ACQUIRED);
    pthread_t for_token = thread_start(lead_in_thread, &members[1]);
    pthread_t for_lock = thread_start(write_blindly, &members[2]);
    AWAIT(sleepers() == 1);
    CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED) == 1);
    thread_join(for_token);
    thread_join(for_lock);
    CHECK(members[1].result == PL_CANCELLED && members[2].result == PL_CANCELLED);
    release_token(token);
    tear_down(members, 3);
}

static void test_check_is_called_however_often_others_notify(void) {
    struct member members[2];
    set_up_with(members, 2);
    pthread_t follower = start_guest(&members[1]);
    uintptr_t late;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED);
    CHECK(pl_lead_open(members[0].group) == 1 && pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED);
    AWAIT((pl_event_notify(pl_shared_event(shared)), atomic_load(&members[1].checks) != 0));
    append(5);
    CHECK(pl_lead_publish(members[0].group) == 1 && pl_lead_finish(members[0].group) == PL_ACQUIRED);
    stop_guest(&members[1], follower);
    tear_down(members, 2);
}

static void test_check_is_called_though_each_group_comes_soon(void) {
    struct member members[5];
    set_up_with(members, 5);
    for (int i = 1; i < 5; i++) {
        pl_safepoint_run(pl_group_safepoint(members[i].group));
    }
    pthread_t leader = thread_start(lead_in_thread, &members[0]);
    AWAIT(sleepers() == 1);
    int64_t start = pl_now();
    for (int i = 4; i > 0; i--) { /* the newest is waited for first */
        int64_t moment = start + (5 - i) * (PL_SLICE / 10 * 8);
        AWAIT(pl_now() >= moment);
        pl_safepoint_park(pl_group_safepoint(members[i].group));
    }
    thread_join(leader);
    CHECK(members[0].result == PL_ACQUIRED);
    CHECK(atomic_load(&members[0].checks) >= 2); /* it waited for more than three slices */
    tear_down(members, 5);
}

static void test_group_needs_no_check(void) {
    set_up();
    struct member one = {.result = -1}, other = {.result = -1};
    join_program(&one);
    other.group = pl_group_new(shared, (uintptr_t)&other, replay, NULL);
    pl_safepoint_run(pl_group_safepoint(one.group));
    uintptr_t late = 0;
    CHECK(pl_rwlock_try_write(the_lock()) == PL_ACQUIRED && pl_lead_open(other.group) == 1);
    CHECK(pl_lead_meet(other.group, 2 * PL_SLICE, &late) == PL_TIMEOUT && late == (uintptr_t)&one);
    CHECK(cause() == 0);
    pl_group_free(other.group);
    tear_down(&one, 1);
}

/* The stress: groups that run, park, lead, give up, die and are replaced, with a delay at any step. */

enum { MOST_GROUPS = 256 };

struct life {
    struct member member; /* first: a pointer to it is one to the life */
    pthread_t thread;
    uint64_t token;       /* of its parent, handed over; 0: its parent has made its group */
    uint64_t chance;
    atomic_int is_gone;
};

static struct {
    uint64_t seed;
    unsigned groups;
    unsigned rate;
    struct life *lives[MOST_GROUPS]; /* under the token */
    uint64_t born;                   /* under the token */
    uint64_t withdrawn, died;        /* under the token */
    atomic_int living;               /* groups that are not dead */
    atomic_int threads;
    atomic_int is_over;
} stress;

static void *live(void *argument);

static struct life *new_life(void) {
    struct life *life = (calloc)(1, sizeof *life);
    CHECK(life != NULL);
    life->chance = random_seed(stress.seed, ++stress.born);
    life->member.is_eager = random_below(&life->chance, 4) != 0;
    return life;
}

static void start_life(struct life *life) {
    atomic_fetch_add(&stress.threads, 1);
    life->thread = thread_start(live, life);
}

static void check_invariant(struct life *self) {
    CHECK(state_of(&self->member) == PL_RUNNING);
    uint64_t newest = atomic_load(&returned);
    CHECK(pl_group_applied(self->member.group) >= newest);
}

static void spin(struct life *self, unsigned most) {
    for (volatile unsigned spins = random_below(&self->chance, most); spins != 0; spins--) {
    }
}

/* Blocks in the host, parked. */
static void block(struct life *self) {
    struct timespec time = {.tv_sec = 0, .tv_nsec = random_below(&self->chance, MILLISECOND / 2)};
    nanosleep(&time, NULL);
}

static void lead_some(struct life *self) {
    uint64_t token;
    CHECK(take_both(&self->member, &token) == PL_ACQUIRED);
    static const int64_t timeouts[] = {0, MILLISECOND / 10, 5 * MILLISECOND};
    unsigned dice = random_below(&self->chance, 12);
    int64_t timeout = dice < 3 ? timeouts[dice] : -1;
    int result = rendezvous(&self->member, random_next(&self->chance) | 2, timeout);
    CHECK(result == PL_ACQUIRED || (result == PL_TIMEOUT && timeout >= 0));
    stress.withdrawn += result == PL_TIMEOUT;
    release_token(token);
}

/* Guest code: never stale. It calls what blocks, which may call guest code again; it may lead; and it may be the end of the group. Answers 0
 * if it was. */
static int run_guest(struct life *self, int depth) {
    pl_group *group = self->member.group;
    pl_safepoint *safepoint = pl_group_safepoint(group);
    int before = pl_safepoint_run(safepoint);
    CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED);
    for (unsigned steps = random_below(&self->chance, 30); steps != 0; steps--) {
        check_invariant(self);
        unsigned dice = random_below(&self->chance, 40);
        if (dice < 6) {
            int running = pl_safepoint_park(safepoint);
            if (dice < 2) {
                block(self);
            } else if (dice == 2 && depth < 3 && !run_guest(self, depth + 1)) {
                return 0;
            }
            pl_safepoint_restore(safepoint, running);
            CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED);
        } else if (dice == 6) {
            /* Mostly by a host call. One that stays RUNNING makes others wait for its pauses. */
            int running = random_below(&self->chance, 8) ? pl_safepoint_park(safepoint) : PL_RUNNING;
            lead_some(self);
            pl_safepoint_restore(safepoint, running);
            CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED);
        } else if (dice == 7 && depth == 0 && random_below(&self->chance, 8) == 0) {
            if (atomic_fetch_sub(&stress.living, 1) > 1) {
                pl_safepoint_die(safepoint);
                return 0;
            }
            atomic_fetch_add(&stress.living, 1); /* the last one stays */
        } else {
            spin(self, dice == 8 ? 50000 : 200); /* now and then too long for a leader's patience */
            if (pl_flag_load(pl_shared_flag(shared), PL_RELAXED)) {
                CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED);
            }
        }
    }
    pl_safepoint_restore(safepoint, before);
    return 1;
}

/* Frees the dead and makes others in their place: here, or in a thread that is handed the token. */
static void replace_the_dead(struct life *self) {
    uint64_t token;
    CHECK(take_both(&self->member, &token) == PL_ACQUIRED);
    struct life *child = NULL;
    for (unsigned i = 0; i < stress.groups && child == NULL; i++) {
        struct life *dead = stress.lives[i];
        if (atomic_load(&dead->is_gone)) {
            thread_join(dead->thread);
            pl_group_free(dead->member.group);
            free(dead);
            stress.died++;
            child = stress.lives[i] = new_life();
        }
    }
    if (child == NULL) {
        pl_rwlock_release_write(the_lock());
        release_token(token);
    } else if (random_below(&self->chance, 2)) {
        join_program(&child->member);
        pl_rwlock_release_write(the_lock());
        atomic_fetch_add(&stress.living, 1);
        start_life(child);
        release_token(token);
    } else {
        pl_rwlock_release_write(the_lock());
        child->token = token;
        start_life(child);
    }
}

static void be_born(struct life *self) {
    CHECK(pl_gate_holder(pl_shared_gate(shared)) == self->token);
    CHECK(pl_rwlock_write(the_lock(), pl_shared_cancel(shared), -1) == PL_ACQUIRED);
    join_program(&self->member);
    atomic_fetch_add(&stress.living, 1);
    pl_rwlock_release_write(the_lock());
    release_token(self->token);
}

static void *live(void *argument) {
    struct life *self = argument;
    inject_delays(random_next(&self->chance), stress.rate);
    if (self->token != 0) {
        be_born(self);
    }
    int is_alive = 1;
    while (is_alive && !atomic_load(&stress.is_over)) {
        unsigned dice = random_below(&self->chance, 16);
        if (dice < 9) {
            is_alive = run_guest(self, 0);
        } else if (dice < 12) {
            lead_some(self);
        } else if (dice == 12) {
            replace_the_dead(self);
        } else if (dice == 13) {
            CHECK(pl_follow(self->member.group) == PL_ACQUIRED);
        } else {
            block(self);
        }
    }
    atomic_store(&self->is_gone, !is_alive);
    atomic_fetch_sub(&stress.threads, 1);
    return NULL;
}

/* A short one in every test of the primitive; the seed says how often there are delays. */
static void run_stress(uint64_t seed, double seconds, unsigned groups) {
    static const unsigned rates[] = {2, 8, 32, 256};
    stress.seed = seed;
    stress.groups = groups < MOST_GROUPS ? groups : MOST_GROUPS;
    stress.rate = rates[seed % 4];
    snprintf(check_note, sizeof check_note, ", stress %llu %g %u", (unsigned long long)seed, seconds, groups);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    set_up();
    atomic_store(&stress.living, (int)stress.groups);
    for (unsigned i = 0; i < stress.groups; i++) {
        stress.lives[i] = new_life();
        join_program(&stress.lives[i]->member);
    }
    uint64_t token = pl_gate_try_acquire(pl_shared_gate(shared)); /* nobody looks at the lives before they are all there */
    for (unsigned i = 0; i < stress.groups; i++) {
        start_life(stress.lives[i]);
    }
    release_token(token);
    int64_t end = pl_deadline((int64_t)(seconds * 1e9));
    struct timespec moment = {.tv_sec = 0, .tv_nsec = 5 * MILLISECOND};
    while (pl_now() < end) {
        nanosleep(&moment, NULL);
    }
    atomic_store(&stress.is_over, 1);
    AWAIT(atomic_load(&stress.threads) == 0);
    uint64_t newest = published(), digest = entries[newest].digest;
    int living = 0;
    for (unsigned i = 0; i < stress.groups; i++) {
        struct life *life = stress.lives[i];
        thread_join(life->thread);
        if (!atomic_load(&life->is_gone)) {
            CHECK(state_of(&life->member) == PL_PARKED && pl_follow(life->member.group) == PL_ACQUIRED);
            CHECK(pl_group_applied(life->member.group) == newest && life->member.digest == digest);
            living++;
        }
        pl_group_free(life->member.group);
        free(life);
    }
    CHECK(living == atomic_load(&stress.living) && living > 0);
    CHECK(cause() == 0 && newest > 0 && pl_bus_sent(pl_shared_barriers(shared)) == newest);
    CHECK(pl_rwlock_readers(the_lock()) == 0 && pl_gate_holder(pl_shared_gate(shared)) == 0);
    CHECK(pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) == 0 && sleepers() == 0);
    tear_down(NULL, 0);
    printf("%llu operations, %llu withdrawn, %llu groups died\n", (unsigned long long)newest,
           (unsigned long long)stress.withdrawn, (unsigned long long)stress.died);
}

static void test_stress(void) {
    run_stress((uint64_t)time(NULL), 3, 8);
}

int main(int count, char **arguments) {
    if (count == 4) {
        double seconds = strtod(arguments[2], NULL);
        check_begin((unsigned)seconds);
        run_stress(strtoull(arguments[1], NULL, 10), seconds, (unsigned)strtoul(arguments[3], NULL, 10));
        return 0;
    }
    check_begin(0);
    RUN(test_new_linker_has_nothing_pending);
    RUN(test_new_group_is_parked_and_has_everything);
    RUN(test_leader_goes_through_its_steps);
    RUN(test_parked_group_holds_nobody_up_and_replays_before_it_runs);
    RUN(test_leader_catches_up_first);
    RUN(test_leader_that_cannot_catch_up_cancels);
    RUN(test_leader_that_is_behind_is_refused);
    RUN(test_second_barrier_while_one_is_up_is_refused);
    RUN(test_full_bus_is_fatal);
    RUN(test_log_may_forget_what_every_living_group_has);
    RUN(test_dead_group_is_never_behind_and_never_runs);
    RUN(test_replay_may_execute_guest_code);
    RUN(test_cancelled_linker_lets_nobody_in);
    RUN(test_lack_of_memory_is_told_and_leaves_nothing_behind);
    RUN(test_leader_may_come_at_any_moment_of_coming_back);
    RUN(test_group_may_come_back_at_any_moment_of_leading);
    RUN(test_leader_that_has_met_may_publish_at_any_moment_of_coming_back);
    RUN(test_no_writer_comes_between_a_publication_and_its_end);
    RUN(test_leader_returns_after_every_running_group_has_replayed);
    RUN(test_group_that_comes_back_during_a_rendezvous_waits_and_is_not_waited_for);
    RUN(test_follower_that_waits_for_the_lock_comes_to_the_next_barrier);
    RUN(test_late_group_is_named_and_the_others_go_on);
    RUN(test_each_step_that_is_waited_for_notifies);
    RUN(test_leader_dies_after_it_opened_the_barrier);
    RUN(test_running_group_dies_before_it_arrives);
    RUN(test_follower_dies_at_the_barrier);
    RUN(test_group_that_was_waited_for_and_owes_its_answer_keeps_the_bus_full);
    RUN(test_follower_dies_while_it_replays);
    RUN(test_operation_is_withdrawn_after_a_death_in_debt);
    RUN(test_failed_replay_cancels_everybody);
    RUN(test_failed_replay_is_not_hidden_by_the_death_of_its_group);
    RUN(test_cancellation_from_outside_ends_every_wait);
    RUN(test_check_ends_every_wait);
    RUN(test_cancellation_from_outside_ends_the_wait_for_token_and_lock);
    RUN(test_check_is_called_however_often_others_notify);
    RUN(test_check_is_called_though_each_group_comes_soon);
    RUN(test_group_needs_no_check);
    RUN(test_stress);
    return 0;
}
