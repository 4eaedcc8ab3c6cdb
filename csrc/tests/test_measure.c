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

int main(void) {
    check_begin(0);
    RUN(test_each_has_what_it_wants_every_time);
    RUN(test_what_is_not_to_be_had_is_not_counted);
    return 0;
}
