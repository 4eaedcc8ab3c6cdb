/* lead: one operation in one call, and the state of token, lock, log and other groups after each
 * outcome. */
#include "../lead.h"
#include "program.h"

enum { OWNER = 0x1234 };

static pl_hold token, lock;
static int wakes, commits, result_of_wake, result_of_commit;
static uint64_t operation; /* of the log of program.h */

static int wake(pl_leading *leading) {
    CHECK(leading->argument == &operation && pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST) &&
          published() == leading->number - 1);
    wakes++;
    return result_of_wake;
}

static int commit(pl_leading *leading) {
    CHECK(leading->argument == &operation && pl_rwlock_readers(the_lock()) == -1 &&
          pl_hold_locks(&token) == 1);
    commits++;
    if (result_of_commit == PL_DONE && pl_bus_receivers(pl_shared_operations(shared)) > 1) {
        append(operation);
    }
    return result_of_commit;
}

static pl_leading leading;

static void begin(struct member *members, size_t count) {
    set_up_with(members, count);
    pl_hold_init(&token, shared, NULL);
    pl_hold_init(&lock, shared, &token);
    CHECK(count == 0 || pl_hold_exclusive(&token, &lock, members[0].group) == PL_ACQUIRED);
    wakes = commits = 0;
    result_of_wake = result_of_commit = PL_DONE;
    operation = 5;
    leading = (pl_leading){.token = &token,
                           .lock = &lock,
                           .owner = (void *)OWNER,
                           .timeout = -1,
                           .wake = wake,
                           .commit = commit,
                           .argument = &operation};
}

static void end(struct member *members, size_t count) {
    CHECK(pl_hold_kind(&token) == PL_HOLDS_NOTHING && pl_hold_kind(&lock) == PL_HOLDS_NOTHING &&
          pl_hold_locks(&token) == 0);
    CHECK(pl_topology_holder(pl_shared_topology(shared)) == 0 &&
          pl_rwlock_readers(the_lock()) == 0);
    pl_hold_destroy(&lock);
    pl_hold_destroy(&token);
    tear_down(members, count);
}

static int is_poisoned(void) {
    int result = pl_rwlock_try_read(the_lock());
    if (result == PL_ACQUIRED) {
        pl_rwlock_release_read(the_lock());
    }
    return result == PL_POISONED;
}

static void test_alone_there_is_only_the_commit(void) {
    const int results[] = {PL_DONE, PL_FAILED, PL_BROKEN};
    for (int i = 0; i < 3; i++) {
        struct member one;
        begin(&one, 1);
        result_of_commit = results[i];
        CHECK(pl_lead(one.group, &leading) == results[i] && commits == 1 && wakes == 0);
        CHECK(leading.number == 0 && !leading.is_logged && published() == 0 && cause() == 0 &&
              pl_log_last(pl_shared_log(shared)) == 0);
        CHECK(is_poisoned() == (results[i] == PL_BROKEN));
        end(&one, 1);
    }
}

static void test_all_replay_before_it_returns(void) {
    struct member members[3];
    begin(members, 3);
    pthread_t threads[2] = {start_guest(&members[1]), start_guest(&members[2])};
    CHECK(pl_lead(members[0].group, &leading) == PL_ACQUIRED && wakes == 1 && commits == 1);
    CHECK(leading.number == 1 && leading.is_logged && leading.breach == PL_BREACH_NONE);
    CHECK(pl_group_applied(members[1].group) == 1 && pl_group_applied(members[2].group) == 1 &&
          members[1].replays == 1);
    CHECK(pl_log_at(pl_shared_log(shared), 1)->owner == (void *)OWNER &&
          pl_log_last(pl_shared_log(shared)) == 1);
    stop_guest(&members[1], threads[0]);
    stop_guest(&members[2], threads[1]);
    end(members, 3);
}

static void test_parked_group_is_not_waited_for(void) {
    struct member members[2];
    begin(members, 2);
    leading.wake = leading.commit = NULL;
    append(operation);
    CHECK(pl_lead(members[0].group, &leading) == PL_ACQUIRED && published() == 1 &&
          pl_group_applied(members[1].group) == 0);
    CHECK(pl_follow(members[1].group) == PL_ACQUIRED && pl_group_applied(members[1].group) == 1);
    end(members, 2);
}

static void check_withdrawn(struct member *members) {
    CHECK(published() == 1 && leading.number == 1 && !leading.is_logged &&
          pl_log_last(pl_shared_log(shared)) == 1);
    CHECK(pl_log_count(pl_shared_log(shared)) == 0 && cause() == 0 && !is_poisoned() &&
          !pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST));
    CHECK(commits == 0 && pl_group_applied(members[0].group) == 1);
}

static void test_one_that_does_not_come_in_time_is_told_and_the_operation_withdrawn(void) {
    struct member members[2];
    begin(members, 2);
    pl_safepoint_run(pl_group_safepoint(members[1].group)); /* and never looks */
    append(NOTHING);
    leading.timeout = MILLISECOND;
    CHECK(pl_lead(members[0].group, &leading) == PL_TIMEOUT &&
          leading.late == (uintptr_t)&members[1]);
    check_withdrawn(members);
    end(members, 2);
}

static int stop_now(struct member *self) {
    (void)self;
    return 1;
}

static void test_leader_whose_check_says_so_withdraws(void) {
    struct member members[2];
    begin(members, 2);
    pl_safepoint_run(pl_group_safepoint(members[1].group));
    append(NOTHING);
    members[0].on_check = stop_now;
    CHECK(pl_lead(members[0].group, &leading) == PL_SIGNALLED);
    check_withdrawn(members);
    end(members, 2);
}

static void test_wake_that_fails_withdraws(void) {
    struct member members[2];
    begin(members, 2);
    append(NOTHING);
    result_of_wake = PL_FAILED;
    CHECK(pl_lead(members[0].group, &leading) == PL_FAILED);
    check_withdrawn(members);
    end(members, 2);
}

static void test_wake_that_breaks_an_invariant_gives_the_linker_up(void) {
    struct member members[2];
    begin(members, 2);
    result_of_wake = PL_BROKEN;
    CHECK(pl_lead(members[0].group, &leading) == PL_BROKEN && cause() == PL_CAUSE_BUS &&
          is_poisoned() && commits == 0);
    end(members, 2);
}

static void test_commit_that_fails_gives_the_linker_up_and_wakes_the_others(void) {
    for (int broken = 0; broken < 2; broken++) {
        struct member members[2];
        begin(members, 2);
        pthread_t thread = start_guest(&members[1]);
        result_of_commit = broken ? PL_BROKEN : PL_FAILED;
        CHECK(pl_lead(members[0].group, &leading) == result_of_commit && published() == 0 &&
              !leading.is_logged);
        thread_join(thread);
        CHECK(members[1].result == PL_CANCELLED && members[1].replays == 0 && is_poisoned());
        CHECK(cause() == (broken ? PL_CAUSE_BUS : PL_CAUSE_LEADER));
        end(members, 2);
    }
}

static void test_replay_that_fails_is_the_leaders_failure_too(void) {
    struct member members[2];
    begin(members, 2);
    pthread_t thread = start_guest(&members[1]);
    members[1].on_replay = fail;
    CHECK(pl_lead(members[0].group, &leading) == PL_CANCELLED && leading.is_logged &&
          leading.breach == PL_BREACH_NONE);
    CHECK(cause() == PL_CAUSE_REPLAY);
    thread_join(thread);
    end(members, 2);
}

static void test_linker_that_was_given_up_carries_nothing_out(void) {
    for (size_t count = 1; count <= 2; count++) {
        struct member members[2];
        begin(members, count);
        pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
        CHECK(pl_lead(members[0].group, &leading) == PL_CANCELLED && commits == 0 && wakes == 0 &&
              leading.number == 0);
        CHECK(!is_poisoned());
        end(members, count);
    }
}

static void test_broken_protocol_is_told_by_its_part(void) {
    struct member members[2];
    begin(members, 2);
    CHECK(pl_lead_open(members[0].group) == 1);
    CHECK(pl_lead(members[0].group, &leading) == PL_CANCELLED && leading.breach == PL_BREACH_OPEN &&
          is_poisoned());
    CHECK(cause() == PL_CAUSE_BUS && commits == 0);
    end(members, 2);

    begin(members, 2);
    pl_log_append(pl_shared_log(shared), NULL, NULL); /* announced by no leader */
    CHECK(pl_lead(members[0].group, &leading) == PL_CANCELLED && leading.breach == PL_BREACH_LOG &&
          is_poisoned());
    CHECK(published() == 0 && leading.is_logged);
    end(members, 2);

    for (int withdraws = 0; withdraws < 2; withdraws++) {
        begin(members, 2);
        pl_receiver silent; /* it has to acknowledge the next message, and never does */
        pl_bus_subscribe(pl_shared_operations(shared), &silent);
        silent.unacknowledged = 1;
        result_of_wake = withdraws ? PL_FAILED : PL_DONE;
        CHECK(pl_lead(members[0].group, &leading) == PL_CANCELLED && is_poisoned() &&
              cause() == PL_CAUSE_BUS);
        CHECK(leading.breach == (withdraws ? PL_BREACH_WITHDRAW : PL_BREACH_PUBLISH) &&
              published() == 0);
        pl_bus_unsubscribe(pl_shared_operations(shared), &silent);
        end(members, 2);
    }
}

static void test_lack_of_memory_is_told_before_anything_happens(void) {
    struct member members[2];
    begin(members, 2);
    atomic_store(&inject_memory, 0);
    CHECK(pl_lead(members[0].group, &leading) == PL_BUSY && wakes == 0 && leading.number == 0);
    atomic_store(&inject_memory, -1);
    CHECK(cause() == 0 && !is_poisoned() && !pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST));
    end(members, 2);
}

/* At every moment of an operation: the lock is not held, for reading or writing, without the
 * token. */

static int token_was_out;
static int64_t readers_were;

static void look_at_token_and_lock(void) {
    token_was_out = pl_topology_holder(pl_shared_topology(shared)) != 0;
    readers_were = pl_rwlock_readers(the_lock());
}

static void test_the_token_is_given_back_after_the_lock(void) {
    for (size_t count = 1; count <= 2; count++) {
        for (int failing = 0; failing < 3; failing++) {
            int seen = 0;
            for (unsigned steps = 0, is_over = 0; !is_over; steps++) {
                struct member members[2];
                begin(members, count);
                result_of_commit = failing == 1 ? PL_FAILED : PL_DONE;
                result_of_wake = failing == 2 ? PL_FAILED : PL_DONE;
                leading.wake = count > 1 ? wake : NULL;
                inject_between(steps, look_at_token_and_lock);
                pl_lead(members[0].group, &leading);
                is_over = inject_is_over();
                CHECK(is_over || readers_were == 0 || token_was_out);
                seen |= !is_over && readers_were != 0;
                end(members, count);
            }
            CHECK(seen);
        }
    }
}

int main(void) {
    check_begin(0);
    RUN(test_alone_there_is_only_the_commit);
    RUN(test_all_replay_before_it_returns);
    RUN(test_parked_group_is_not_waited_for);
    RUN(test_one_that_does_not_come_in_time_is_told_and_the_operation_withdrawn);
    RUN(test_leader_whose_check_says_so_withdraws);
    RUN(test_wake_that_fails_withdraws);
    RUN(test_wake_that_breaks_an_invariant_gives_the_linker_up);
    RUN(test_commit_that_fails_gives_the_linker_up_and_wakes_the_others);
    RUN(test_replay_that_fails_is_the_leaders_failure_too);
    RUN(test_linker_that_was_given_up_carries_nothing_out);
    RUN(test_broken_protocol_is_told_by_its_part);
    RUN(test_lack_of_memory_is_told_before_anything_happens);
    RUN(test_the_token_is_given_back_after_the_lock);
    return 0;
}
