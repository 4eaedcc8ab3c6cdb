/* hold: the call that takes a lock notes it, and it is released once. */
#include "../hold.h"
#include "program.h"

static pl_hold *token, *lock, *other;

static void begin(struct member *members, size_t count) {
    set_up_with(members, count);
    token = pl_hold_new(shared);
    lock = pl_hold_new(shared);
    other = pl_hold_new(shared);
    CHECK(token != NULL && lock != NULL && other != NULL);
}

static void end(struct member *members, size_t count) {
    pl_hold_free(token);
    pl_hold_free(lock);
    pl_hold_free(other);
    tear_down(members, count);
}

static uint64_t token_out(void) {
    return pl_gate_holder(pl_shared_gate(shared));
}

static void test_each_kind_is_released_once(void) {
    struct member one;
    begin(&one, 1);
    CHECK(pl_hold_kind(lock) == PL_HOLDS_NOTHING && !pl_hold_release(lock) && pl_hold_token(token) == 0);
    CHECK(pl_hold_read(lock) == PL_ACQUIRED && pl_hold_kind(lock) == PL_HOLDS_READ && pl_rwlock_readers(the_lock()) == 1);
    CHECK(pl_hold_write(other) == PL_BUSY && pl_hold_kind(other) == PL_HOLDS_NOTHING);
    CHECK(pl_hold_release(lock) && !pl_hold_release(lock) && pl_rwlock_readers(the_lock()) == 0);
    CHECK(pl_hold_write(lock) == PL_ACQUIRED && pl_hold_kind(lock) == PL_HOLDS_WRITE && pl_rwlock_readers(the_lock()) == -1);
    CHECK(pl_hold_read(other) == PL_BUSY && pl_hold_write_wait(other, 0) == PL_TIMEOUT && pl_hold_kind(other) == PL_HOLDS_NOTHING);
    CHECK(pl_hold_release(lock) && !pl_hold_release(lock) && pl_rwlock_readers(the_lock()) == 0);
    CHECK(pl_hold_write_wait(lock, -1) == PL_ACQUIRED && pl_hold_release(lock));
    CHECK(pl_hold_acquire(token) == PL_ACQUIRED && pl_hold_kind(token) == PL_HOLDS_TOKEN && token_out() == pl_hold_token(token));
    CHECK(pl_hold_acquire(other) == PL_BUSY && pl_hold_kind(other) == PL_HOLDS_NOTHING);
    uint64_t number = pl_hold_token(token);
    CHECK(pl_hold_release(token) && !pl_hold_release(token) && token_out() == 0 && pl_hold_token(token) == number);
    end(&one, 1);
}

static void test_freeing_releases(void) {
    struct member one;
    begin(&one, 1);
    for (int kind = PL_HOLDS_READ; kind <= PL_HOLDS_TOKEN; kind++) {
        pl_hold *hold = pl_hold_new(shared);
        int result = kind == PL_HOLDS_READ ? pl_hold_read(hold) : kind == PL_HOLDS_WRITE ? pl_hold_write(hold) : pl_hold_acquire(hold);
        CHECK(result == PL_ACQUIRED && (pl_rwlock_readers(the_lock()) != 0 || token_out() != 0));
        pl_hold_free(hold);
        CHECK(pl_rwlock_readers(the_lock()) == 0 && token_out() == 0);
    }
    pl_hold_free(NULL);
    end(&one, 1);
}

static void test_both_or_none(void) {
    struct member members[2];
    begin(members, 2);
    CHECK(pl_hold_exclusive(token, lock, members[0].group) == PL_ACQUIRED);
    CHECK(token_out() == pl_hold_token(token) && pl_rwlock_readers(the_lock()) == -1);
    pl_hold *second = pl_hold_new(shared);
    CHECK(pl_hold_exclusive(second, other, members[1].group) == PL_BUSY);
    CHECK(pl_hold_kind(second) == PL_HOLDS_NOTHING && pl_hold_kind(other) == PL_HOLDS_NOTHING);
    CHECK(pl_hold_release(lock) && pl_hold_release(token) && token_out() == 0);
    pl_hold_free(second);
    end(members, 2);
}

static void test_only_a_writer_poisons(void) {
    struct member one;
    begin(&one, 1);
    CHECK(pl_hold_read(other) == PL_ACQUIRED);
    pl_hold_poison(other); /* it does not write */
    CHECK(pl_hold_release(other) && pl_hold_write(lock) == PL_ACQUIRED);
    pl_hold_poison(lock);
    CHECK(!pl_hold_release(lock) && pl_hold_read(lock) == PL_POISONED && pl_hold_write(lock) == PL_POISONED);
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

int main(void) {
    check_begin(0);
    RUN(test_each_kind_is_released_once);
    RUN(test_freeing_releases);
    RUN(test_both_or_none);
    RUN(test_only_a_writer_poisons);
    RUN(test_publishing_and_finishing_happen_once);
    return 0;
}
