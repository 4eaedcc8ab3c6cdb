/* measure: each measurement does its operation `count` times, and releases all locks. */
#include "../measure.h"
#include "program.h"

static void test_each_has_what_it_wants_every_time(void) {
    struct member one;
    set_up_with(&one, 1);
    for (int what = PL_MEASURE_FLAG_RELAXED; what <= PL_MEASURE_YIELDS; what++) {
        CHECK(pl_measure(shared, one.group, what, 10) == 10 &&
              pl_measure(shared, one.group, what, 0) == 0);
        CHECK(pl_rwlock_readers(the_lock()) == 0 &&
              pl_topology_holder(pl_shared_topology(shared)) == 0);
    }
    tear_down(&one, 1);
}

static void test_what_is_not_to_be_had_is_not_counted(void) {
    struct member one;
    set_up_with(&one, 1);
    uint64_t token = pl_group_try_exclusive(one.group);
    CHECK(token != 0);
    for (int what = PL_MEASURE_TRY_WRITE; what <= PL_MEASURE_TOKEN; what++) {
        CHECK(pl_measure(shared, one.group, what, 10) == 0);
    }
    pl_flag_set(pl_shared_flag(shared));
    CHECK(pl_measure(shared, one.group, PL_MEASURE_FLAG_SEQ_CST, 10) == 0 &&
          pl_measure(shared, one.group, PL_MEASURE_FLAG_RELAXED, 10) == 0);
    pl_flag_clear(pl_shared_flag(shared));
    pl_rwlock_release_write(the_lock());
    release_token(token);
    tear_down(&one, 1);
}

static void *follow(void *group) {
    CHECK(pl_measure_follow(group, 1, 1) != 0);
    return NULL;
}

static void test_a_rendezvous_is_led_and_followed(void) {
    struct member members[3];
    set_up_with(members, 3);
    pthread_t threads[2] = {thread_start(follow, members[1].group),
                            thread_start(follow, members[2].group)};
    while (state_of(&members[1]) != PL_RUNNING || state_of(&members[2]) != PL_RUNNING) {
        sched_yield();
    }
    CHECK(pl_measure_lead(members[0].group, 100) == 100 && published() == 100);
    for (int i = 0; i < 3; i++) {
        CHECK(pl_group_applied(members[i].group) == 100 && members[i].replays == 0);
    }
    CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED));
    thread_join(threads[0]);
    thread_join(threads[1]);
    CHECK(pl_measure_lead(members[0].group, 2) == 0 && published() == 100);
    CHECK(state_of(&members[1]) == PL_PARKED);
    tear_down(members, 3);
}

static uint32_t words[2];

static void *answer(void *seen) {
    *(uint64_t *)seen = pl_measure_answer(words);
    return NULL;
}

static void test_every_change_is_answered(void) {
    uint64_t seen[2];
    pthread_t threads[2] = {thread_start(answer, &seen[0]), thread_start(answer, &seen[1])};
    while (atomic_load((_Atomic uint32_t *)&words[1]) != 2) {
        sched_yield();
    }
    CHECK(pl_measure_ask(words, 2, 100) == 100);
    atomic_store((_Atomic uint32_t *)&words[0], UINT32_MAX);
    thread_join(threads[0]);
    thread_join(threads[1]);
    CHECK(seen[0] == 100 && seen[1] == 100);
}

int main(void) {
    check_begin(0);
    RUN(test_each_has_what_it_wants_every_time);
    RUN(test_what_is_not_to_be_had_is_not_counted);
    RUN(test_a_rendezvous_is_led_and_followed);
    RUN(test_every_change_is_answered);
    return 0;
}
