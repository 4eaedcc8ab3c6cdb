/* log: which operation has which number, what is forgotten, and that it grows only as far as it must. */
#include "check.h"

#include "replay.h"

enum { STEPS = 100000, MANY = 20000 };

static pl_operation operations[MANY + 1];
static pl_log *log_;

static void set_up(void) {
    log_ = pl_log_new();
    CHECK(log_ != NULL);
}

static void tear_down(void) {
    pl_log_free(log_);
}

static void test_numbers_begin_with_one_and_go_on(void) {
    set_up();
    CHECK(pl_log_at(log_, 0) == NULL && pl_log_at(log_, 1) == NULL);
    for (uint64_t number = 1; number <= 50; number++) {
        CHECK(pl_log_append(log_, operations + number) == number);
    }
    for (uint64_t number = 1; number <= 50; number++) {
        CHECK(pl_log_at(log_, number) == operations + number);
    }
    CHECK(pl_log_at(log_, 0) == NULL && pl_log_at(log_, 51) == NULL && pl_log_at(log_, UINT64_MAX) == NULL);
    tear_down();
    pl_log_free(NULL);
}

static void test_withdrawn_one_has_a_number(void) {
    set_up();
    CHECK(pl_log_append(log_, operations + 1) == 1);
    CHECK(pl_log_append(log_, NULL) == 2);
    CHECK(pl_log_append(log_, operations + 3) == 3);
    CHECK(pl_log_at(log_, 1) == operations + 1 && pl_log_at(log_, 2) == NULL && pl_log_at(log_, 3) == operations + 3);
    tear_down();
}

static void test_what_is_forgotten_leaves_the_numbers_of_the_rest(void) {
    set_up();
    for (uint64_t number = 1; number <= 10; number++) {
        pl_log_append(log_, operations + number);
    }
    pl_log_forget(log_, 0);
    CHECK(pl_log_at(log_, 1) == operations + 1);
    pl_log_forget(log_, 4);
    pl_log_forget(log_, 2); /* it was already */
    CHECK(pl_log_at(log_, 4) == NULL && pl_log_at(log_, 1) == NULL && pl_log_at(log_, 0) == NULL);
    CHECK(pl_log_at(log_, 5) == operations + 5 && pl_log_at(log_, 10) == operations + 10);
    CHECK(pl_log_append(log_, operations + 11) == 11 && pl_log_at(log_, 11) == operations + 11);
    pl_log_forget(log_, 1000); /* all there is, and no number that is to come */
    CHECK(pl_log_at(log_, 11) == NULL);
    CHECK(pl_log_append(log_, operations + 12) == 12 && pl_log_at(log_, 12) == operations + 12 && pl_log_at(log_, 13) == NULL);
    tear_down();
}

static const pl_operation *expected[STEPS + 1]; /* by number */

static void test_at_random(void) {
    uint64_t chance = random_seed(11, 1), first = 1, next = 1;
    set_up();
    for (int i = 0; i < STEPS; i++) {
        if (random_below(&chance, 3) != 0) {
            expected[next] = random_below(&chance, 5) ? operations + next % MANY : NULL;
            CHECK(pl_log_append(log_, expected[next]) == next);
            next++;
        } else if (random_below(&chance, 2) == 0 && next - first > 0) {
            first += random_below(&chance, (unsigned)(next - first) + 1);
            pl_log_forget(log_, first - 1);
        }
        uint64_t number = random_below(&chance, (unsigned)next + 3);
        CHECK(pl_log_at(log_, number) == (number >= first && number < next ? expected[number] : NULL));
    }
    CHECK(next > STEPS / 2 && first > STEPS / 4);
    tear_down();
}

/* A program that runs long opens and closes without end; its log has only what some group has yet to replay. */
static void test_erased_one_is_nothing_and_the_rest_stays(void) {
    set_up();
    pl_log_erase(log_, 1); /* of an empty log */
    for (uint64_t number = 1; number <= 10; number++) {
        pl_log_append(log_, operations + number);
    }
    pl_log_forget(log_, 2);
    pl_log_erase(log_, 2);  /* it was forgotten */
    pl_log_erase(log_, 3);  /* the oldest */
    pl_log_erase(log_, 6);
    pl_log_erase(log_, 6);  /* it was already */
    pl_log_erase(log_, 10); /* the newest */
    pl_log_erase(log_, 11); /* one that is to come */
    for (uint64_t number = 0; number <= 11; number++) {
        int gone = number < 4 || number == 6 || number >= 10;
        CHECK(pl_log_at(log_, number) == (gone ? NULL : operations + number));
    }
    CHECK(pl_log_append(log_, operations + 11) == 11 && pl_log_at(log_, 11) == operations + 11);
    pl_log_forget(log_, 7);
    CHECK(pl_log_at(log_, 7) == NULL && pl_log_at(log_, 8) == operations + 8);
    tear_down();
}

static void test_long_run_with_a_short_log_needs_no_more_memory(void) {
    set_up();
    uint64_t number = 0;
    for (int i = 0; i < 12; i++) {
        number = pl_log_append(log_, operations + i);
    }
    atomic_store(&inject_memory, 0); /* from here on there is none */
    for (int i = 0; i < MANY; i++) {
        pl_log_forget(log_, number - 2);
        number = pl_log_append(log_, operations + i);
        CHECK(number != 0 && pl_log_at(log_, number) == operations + i && (i == 0 || pl_log_at(log_, number - 1) == operations + i - 1));
    }
    atomic_store(&inject_memory, -1);
    tear_down();
}

static void test_lack_of_memory_is_told_and_changes_nothing(void) {
    atomic_store(&inject_memory, 0);
    CHECK(pl_log_new() == NULL);
    atomic_store(&inject_memory, -1);
    set_up();
    int refused = 0;
    for (uint64_t number = 1; number <= 100;) {
        atomic_store(&inject_memory, number % 2 ? 0 : -1);
        uint64_t got = pl_log_append(log_, operations + number);
        atomic_store(&inject_memory, -1);
        if (got == 0) {
            refused++;
            got = pl_log_append(log_, operations + number);
        }
        CHECK(got == number && pl_log_at(log_, number) == operations + number && pl_log_at(log_, 1) == operations + 1);
        number++;
    }
    CHECK(refused > 0);
    tear_down();
}

int main(void) {
    check_begin(0);
    RUN(test_numbers_begin_with_one_and_go_on);
    RUN(test_withdrawn_one_has_a_number);
    RUN(test_what_is_forgotten_leaves_the_numbers_of_the_rest);
    RUN(test_at_random);
    RUN(test_erased_one_is_nothing_and_the_rest_stays);
    RUN(test_long_run_with_a_short_log_needs_no_more_memory);
    RUN(test_lack_of_memory_is_told_and_changes_nothing);
    return 0;
}
