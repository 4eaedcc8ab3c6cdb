/* flag: set and clear, the orders of loads, and that two threads cannot both miss each other. */
#include "check.h"
#include "made.h"

#include "flag.h"

enum { ROUNDS = 20000 };

static const int orders[] = {PL_RELAXED, PL_ACQUIRE, PL_SEQ_CST};

static void check_all(const pl_flag *flag, int expected) {
    for (int i = 0; i < 3; i++) {
        CHECK(pl_flag_load(flag, orders[i]) == expected);
    }
}

static void test_new_flag_is_clear_and_changes_are_idempotent(void) {
    pl_flag *flag = new_flag();
    check_all(flag, 0);
    pl_flag_clear(flag);
    check_all(flag, 0);
    pl_flag_set(flag);
    check_all(flag, 1);
    pl_flag_set(flag);
    check_all(flag, 1);
    pl_flag_clear(flag);
    check_all(flag, 0);
    free_flag(flag);
}

static void test_flags_do_not_share(void) {
    pl_flag *one = new_flag(), *other = new_flag();
    pl_flag_set(one);
    check_all(other, 0);
    free_flag(one);
    free_flag(other);
}

static pl_flag *ready, *taken;
static int message; /* a plain one: ThreadSanitizer sees it if a load does not acquire */
static int order_of_reader;

static void *write_message(void *unused) {
    message = 42;
    pl_flag_set(ready);
    AWAIT(pl_flag_load(taken, PL_ACQUIRE));
    message = 0;
    return unused;
}

static void test_load_that_acquires_sees_what_was_done_before_the_change(void) {
    for (int i = 1; i < 3; i++) {
        ready = new_flag();
        taken = new_flag();
        order_of_reader = orders[i];
        pthread_t writer = thread_start(write_message, NULL);
        AWAIT(pl_flag_load(ready, order_of_reader));
        CHECK(message == 42);
        pl_flag_set(taken);
        thread_join(writer);
        CHECK(message == 0);
        free_flag(ready);
        free_flag(taken);
    }
}

static void *write_message_and_clear(void *unused) {
    message = 42;
    pl_flag_clear(ready);
    return unused;
}

static void test_load_that_acquires_sees_what_was_done_before_the_flag_was_cleared(void) {
    for (int i = 1; i < 3; i++) {
        ready = new_flag();
        pl_flag_set(ready);
        message = 0;
        pthread_t writer = thread_start(write_message_and_clear, NULL);
        AWAIT(!pl_flag_load(ready, orders[i]));
        CHECK(message == 42);
        thread_join(writer);
        free_flag(ready);
    }
}

static void test_changes_are_seq_cst_and_a_load_is_what_it_is_asked_for(void) {
    pl_flag *flag = new_flag();
    unsigned steps;
    INJECT_STEPS(steps, pl_flag_set(flag));
    CHECK(steps == 1);
    INJECT_STEPS(steps, pl_flag_clear(flag));
    CHECK(steps == 1);
    for (int i = 0; i < 3; i++) {
        INJECT_STEPS(steps, pl_flag_load(flag, orders[i]));
        CHECK(steps == (orders[i] == PL_SEQ_CST));
    }
    free_flag(flag);
}

static void *set_it(void *flag) {
    pl_flag_set(flag);
    return NULL;
}

static void test_relaxed_load_sees_a_change_in_the_end(void) {
    pl_flag *flag = new_flag();
    pthread_t setter = thread_start(set_it, flag);
    AWAIT(pl_flag_load(flag, PL_RELAXED));
    thread_join(setter);
    free_flag(flag);
}

/* Each sets its own and looks at the other's: in any total order of the four steps, at least one
 * sees the other. */

static pl_flag *flags[2];
static int seen[2];
static atomic_int started, finished;

static void set_and_look(int mine, int round) {
    start_together(&started, 2 * round);
    pl_flag_set(flags[mine]);
    seen[mine] = pl_flag_load(flags[1 - mine], PL_SEQ_CST);
    start_together(&finished, 2 * round);
}

static void *second(void *unused) {
    for (int round = 1; round <= ROUNDS; round++) {
        set_and_look(1, round);
    }
    return unused;
}

static void test_two_that_set_and_look_do_not_both_miss(void) {
    flags[0] = new_flag();
    flags[1] = new_flag();
    pthread_t thread = thread_start(second, NULL);
    for (int round = 1; round <= ROUNDS; round++) {
        set_and_look(0, round);
        CHECK(seen[0] || seen[1]);
        pl_flag_clear(flags[0]); /* the other one waits for the next round */
        pl_flag_clear(flags[1]);
    }
    thread_join(thread);
    free_flag(flags[0]);
    free_flag(flags[1]);
}

int main(void) {
    check_begin(0);
    RUN(test_new_flag_is_clear_and_changes_are_idempotent);
    RUN(test_flags_do_not_share);
    RUN(test_load_that_acquires_sees_what_was_done_before_the_change);
    RUN(test_load_that_acquires_sees_what_was_done_before_the_flag_was_cleared);
    RUN(test_changes_are_seq_cst_and_a_load_is_what_it_is_asked_for);
    RUN(test_relaxed_load_sees_a_change_in_the_end);
    RUN(test_two_that_set_and_look_do_not_both_miss);
    return 0;
}
