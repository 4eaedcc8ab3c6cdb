/* hold: the call that takes a lock records it, and it is released once. */
#include "../hold.h"
#include "program.h"

static pl_hold the_token, held, another;
static pl_hold *const token = &the_token, *const lock = &held, *const other = &another;

static void begin(struct member *members, size_t count) {
    set_up_with(members, count);
    pl_hold_init(token, shared, NULL);
    pl_hold_init(lock, shared, token);
    pl_hold_init(other, shared, NULL);
}

static void end(struct member *members, size_t count) {
    pl_hold_destroy(token);
    pl_hold_destroy(lock);
    pl_hold_destroy(other);
    tear_down(members, count);
}

static uint64_t token_out(void) { return pl_topology_holder(pl_shared_topology(shared)); }

static void test_each_kind_is_released_once(void) {
    struct member one;
    begin(&one, 1);
    CHECK(pl_hold_kind(lock) == PL_HOLDS_NOTHING && !pl_hold_release(lock) &&
          pl_hold_token(token) == 0);
    CHECK(pl_hold_read(lock) == PL_ACQUIRED && pl_hold_kind(lock) == PL_HOLDS_READ &&
          pl_rwlock_readers(the_lock()) == 1);
    CHECK(pl_hold_write(other) == PL_BUSY && pl_hold_kind(other) == PL_HOLDS_NOTHING);
    CHECK(pl_hold_release(lock) && !pl_hold_release(lock) && pl_rwlock_readers(the_lock()) == 0);
    CHECK(pl_hold_write(lock) == PL_ACQUIRED && pl_hold_kind(lock) == PL_HOLDS_WRITE &&
          pl_rwlock_readers(the_lock()) == -1);
    CHECK(pl_hold_read(other) == PL_BUSY && pl_hold_write_wait(other, 0) == PL_TIMEOUT &&
          pl_hold_kind(other) == PL_HOLDS_NOTHING);
    CHECK(pl_hold_release(lock) && !pl_hold_release(lock) && pl_rwlock_readers(the_lock()) == 0);
    CHECK(pl_hold_write_wait(lock, -1) == PL_ACQUIRED && pl_hold_release(lock));
    CHECK(pl_hold_acquire(token) == PL_ACQUIRED && pl_hold_kind(token) == PL_HOLDS_TOKEN &&
          token_out() == pl_hold_token(token));
    CHECK(pl_hold_acquire(other) == PL_BUSY && pl_hold_kind(other) == PL_HOLDS_NOTHING);
    uint64_t number = pl_hold_token(token);
    CHECK(pl_hold_release(token) && !pl_hold_release(token) && token_out() == 0 &&
          pl_hold_token(token) == number);
    end(&one, 1);
}

static void test_destroying_releases(void) {
    struct member one;
    begin(&one, 1);
    for (int kind = PL_HOLDS_READ; kind <= PL_HOLDS_TOKEN; kind++) {
        pl_hold value, *hold = &value;
        pl_hold_init(hold, shared, NULL);
        int result = kind == PL_HOLDS_READ    ? pl_hold_read(hold)
                     : kind == PL_HOLDS_WRITE ? pl_hold_write(hold)
                                              : pl_hold_acquire(hold);
        CHECK(result == PL_ACQUIRED && (pl_rwlock_readers(the_lock()) != 0 || token_out() != 0));
        pl_hold_destroy(hold);
        CHECK(pl_rwlock_readers(the_lock()) == 0 && token_out() == 0);
    }
    end(&one, 1);
}

static void test_both_or_none(void) {
    struct member members[2];
    begin(members, 2);
    CHECK(pl_hold_exclusive(token, lock, members[0].group) == PL_ACQUIRED);
    CHECK(token_out() == pl_hold_token(token) && pl_rwlock_readers(the_lock()) == -1);
    pl_hold value, *second = &value;
    pl_hold_init(second, shared, NULL);
    CHECK(pl_hold_exclusive(second, other, members[1].group) == PL_BUSY);
    CHECK(pl_hold_kind(second) == PL_HOLDS_NOTHING && pl_hold_kind(other) == PL_HOLDS_NOTHING);
    CHECK(pl_hold_release(lock) && pl_hold_release(token) && token_out() == 0);
    pl_hold_destroy(second);
    end(members, 2);
}

static void test_only_a_writer_poisons(void) {
    struct member one;
    begin(&one, 1);
    CHECK(pl_hold_read(other) == PL_ACQUIRED);
    pl_hold_poison(other); /* it does not write */
    CHECK(pl_hold_release(other) && pl_hold_write(lock) == PL_ACQUIRED);
    pl_hold_poison(lock);
    CHECK(!pl_hold_release(lock) && pl_hold_read(lock) == PL_POISONED &&
          pl_hold_write(lock) == PL_POISONED);
    CHECK(pl_hold_kind(lock) == PL_HOLDS_NOTHING);
    end(&one, 1);
}

static void test_publishing_and_finishing_happen_once(void) {
    struct member one;
    begin(&one, 1);
    CHECK(pl_hold_exclusive(token, lock, one.group) == PL_ACQUIRED);
    uint64_t number = pl_lead_open(one.group);
    uintptr_t late;
    CHECK(number == 1 && pl_lead_meet(one.group, -1, &late) == PL_ACQUIRED);
    append(NOTHING);
    CHECK(pl_hold_publish(lock, one.group) == number && pl_hold_kind(lock) == PL_HOLDS_READ);
    CHECK(pl_hold_publish(lock, one.group) == number && published() == number);
    CHECK(pl_hold_finish(lock, one.group) == PL_ACQUIRED && pl_rwlock_readers(the_lock()) == 0);
    CHECK(pl_hold_finish(lock, one.group) == PL_ACQUIRED && pl_rwlock_readers(the_lock()) == 0);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(pl_hold_finish(lock, one.group) == PL_CANCELLED);
    end(&one, 1);
}

static void test_token_counts_the_locks_under_it(void) {
    struct member members[2];
    begin(members, 2);
    CHECK(pl_hold_exclusive(token, lock, members[0].group) == PL_ACQUIRED &&
          pl_hold_locks(token) == 1);
    CHECK(pl_hold_write(other) == PL_BUSY && pl_hold_locks(token) == 1);
    CHECK(pl_hold_release(lock) && pl_hold_locks(token) == 0 && !pl_hold_release(lock) &&
          pl_hold_locks(token) == 0);
    CHECK(pl_hold_write_wait(lock, -1) == PL_ACQUIRED && pl_hold_locks(token) == 1);
    pl_hold_poison(lock);
    CHECK(pl_hold_locks(token) == 0 && pl_hold_release(token));
    end(members, 2);
}

/* Taking as a group's thread must. */

static int (*take)(pl_hold *, pl_group *);

static void *take_in_thread(void *argument) {
    struct member *self = argument;
    self->result = take(lock, self->group);
    return NULL;
}

static uint64_t paused(void) {
    pl_waits waits;
    pl_shared_waits(shared, &waits);
    return waits.paused;
}

static int stop_now(struct member *self) {
    (void)self;
    return 1;
}

static int (*const takes[])(pl_hold *, pl_group *) = {pl_hold_read_as, pl_hold_write_as,
                                                      pl_hold_acquire_as};

static void occupy(int which, pl_hold *hold) {
    CHECK((which == 2 ? pl_hold_acquire(hold) : pl_hold_write(hold)) == PL_ACQUIRED);
}

static void test_what_is_free_is_had_at_once(void) {
    for (int i = 0; i < 3; i++) {
        struct member one;
        begin(&one, 1);
        CHECK(takes[i](lock, one.group) == PL_ACQUIRED && paused() == 0 && pl_hold_release(lock));
        end(&one, 1);
    }
}

static void test_waiter_backs_off_until_it_gets_it(void) {
    for (int i = 0; i < 3; i++) {
        struct member members[2];
        begin(members, 2);
        occupy(i, other);
        take = takes[i];
        pthread_t thread = thread_start(take_in_thread, &members[1]);
        AWAIT(paused() > PL_BACKOFF_SPINS + PL_BACKOFF_YIELDS + PL_BACKOFF_DOUBLINGS);
        CHECK(pl_hold_kind(lock) == PL_HOLDS_NOTHING && pl_hold_release(other));
        thread_join(thread);
        CHECK(members[1].result == PL_ACQUIRED && pl_hold_release(lock));
        end(members, 2);
    }
}

static void test_waiter_ends_with_the_linker(void) {
    for (int i = 0; i < 3; i++) {
        struct member members[2];
        begin(members, 2);
        occupy(i, other);
        take = takes[i];
        pthread_t thread = thread_start(take_in_thread, &members[1]);
        AWAIT(paused() > 2);
        pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
        thread_join(thread);
        CHECK(members[1].result == PL_CANCELLED && pl_hold_kind(lock) == PL_HOLDS_NOTHING);
        CHECK(takes[i](lock, members[1].group) == PL_CANCELLED);
        end(members, 2);
    }
}

static void test_waiter_calls_its_check(void) {
    for (int i = 0; i < 3; i++) {
        struct member members[2];
        begin(members, 2);
        occupy(i, other);
        members[1].on_check = stop_now;
        CHECK(takes[i](lock, members[1].group) == PL_SIGNALLED &&
              pl_hold_kind(lock) == PL_HOLDS_NOTHING && members[1].checks == 1);
        CHECK(pl_hold_release(other));
        end(members, 2);
    }
}

static void test_poison_ends_the_wait_for_the_lock(void) {
    for (int i = 0; i < 2; i++) {
        struct member members[2];
        begin(members, 2);
        occupy(i, other);
        take = takes[i];
        pthread_t thread = thread_start(take_in_thread, &members[1]);
        AWAIT(paused() > 2);
        pl_hold_poison(other);
        thread_join(thread);
        CHECK(members[1].result == PL_POISONED && pl_hold_kind(lock) == PL_HOLDS_NOTHING);
        end(members, 2);
    }
}

/* The holder has the lock, and waits at its barrier for the very thread that waits for the lock. */
static void test_waiter_takes_part_in_what_is_pending(void) {
    for (int i = 0; i < 3; i++) {
        struct member members[2];
        begin(members, 2);
        pl_hold own;
        pl_hold_init(&own, shared, other);
        CHECK(pl_hold_exclusive(other, &own, members[0].group) == PL_ACQUIRED);
        pl_safepoint_run(pl_group_safepoint(members[1].group));
        take = takes[i];
        CHECK(pl_lead_open(members[0].group) == 1);
        pthread_t thread = thread_start(take_in_thread, &members[1]);
        uintptr_t late;
        CHECK(pl_lead_meet(members[0].group, -1, &late) == PL_ACQUIRED);
        append(5);
        CHECK(pl_hold_publish(&own, members[0].group) == 1 &&
              pl_hold_finish(&own, members[0].group) == PL_ACQUIRED);
        CHECK(pl_hold_release(other));
        thread_join(thread);
        CHECK(members[1].result == PL_ACQUIRED && pl_group_applied(members[1].group) == 1 &&
              members[1].replays == 1);
        CHECK(pl_hold_release(lock));
        end(members, 2);
    }
}

static void publish_one(struct member *leader) { CHECK(lead(leader, 7, -1) == PL_ACQUIRED); }

static void test_group_has_replayed_everything_when_it_has_the_lock(void) {
    for (int i = 0; i < 2; i++) {
        struct member members[2];
        begin(members, 2);
        publish_one(&members[0]); /* the other is parked */
        CHECK((i == 0 ? pl_hold_read_now : pl_hold_write_now)(lock, members[1].group) == PL_BUSY &&
              pl_rwlock_readers(the_lock()) == 0);
        CHECK(takes[i](lock, members[1].group) == PL_ACQUIRED &&
              pl_group_applied(members[1].group) == 1 && pl_hold_release(lock));
        CHECK((i == 0 ? pl_hold_read_now : pl_hold_write_now)(lock, members[1].group) ==
              PL_ACQUIRED);
        CHECK((i == 0 ? pl_hold_read_now : pl_hold_write_now)(other, members[0].group) ==
              (i == 0 ? PL_ACQUIRED : PL_BUSY));
        pl_hold_release(other);
        CHECK(pl_hold_release(lock));
        end(members, 2);
    }
}

static void test_group_that_cannot_replay_gets_no_lock(void) {
    for (int i = 0; i < 2; i++) {
        struct member members[2];
        begin(members, 2);
        publish_one(&members[0]);
        members[1].on_replay = fail;
        CHECK(takes[i](lock, members[1].group) == PL_CANCELLED && cause() == PL_CAUSE_REPLAY &&
              pl_hold_kind(lock) == PL_HOLDS_NOTHING);
        CHECK(pl_hold_read(other) == (i == 0 ? PL_ACQUIRED : PL_POISONED));
        pl_hold_release(other);
        end(members, 2);
    }
}

int main(void) {
    check_begin(0);
    RUN(test_each_kind_is_released_once);
    RUN(test_destroying_releases);
    RUN(test_both_or_none);
    RUN(test_only_a_writer_poisons);
    RUN(test_publishing_and_finishing_happen_once);
    RUN(test_token_counts_the_locks_under_it);
    RUN(test_what_is_free_is_had_at_once);
    RUN(test_waiter_backs_off_until_it_gets_it);
    RUN(test_waiter_ends_with_the_linker);
    RUN(test_waiter_calls_its_check);
    RUN(test_poison_ends_the_wait_for_the_lock);
    RUN(test_waiter_takes_part_in_what_is_pending);
    RUN(test_group_has_replayed_everything_when_it_has_the_lock);
    RUN(test_group_that_cannot_replay_gets_no_lock);
    return 0;
}
