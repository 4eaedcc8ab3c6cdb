/* log: numbers of operations, truncation, and bounded growth. */
#include "check.h"

#include "replay.h"

enum { STEPS = 100000, MANY = 20000 };

static pl_operation operations[MANY + 1];
static pl_log the_log, *log_ = &the_log;

static const pl_operation *at(uint64_t number) {
    const pl_log_entry *entry = pl_log_at(log_, number);
    return entry != NULL ? entry->operation : NULL;
}

static void set_up(void) { pl_log_init(log_, NULL); }

static void tear_down(void) { pl_log_destroy(log_); }

static void test_numbers_begin_with_one_and_go_on(void) {
    set_up();
    CHECK(at(0) == NULL && at(1) == NULL);
    for (uint64_t number = 1; number <= 50; number++) {
        CHECK(pl_log_append(log_, operations + number, NULL) == number);
    }
    for (uint64_t number = 1; number <= 50; number++) {
        CHECK(at(number) == operations + number);
    }
    CHECK(at(0) == NULL && at(51) == NULL && at(UINT64_MAX) == NULL);
    tear_down();
}

static void test_withdrawn_one_has_a_number(void) {
    set_up();
    CHECK(pl_log_append(log_, operations + 1, NULL) == 1);
    CHECK(pl_log_append(log_, NULL, NULL) == 2);
    CHECK(pl_log_append(log_, operations + 3, NULL) == 3);
    CHECK(at(1) == operations + 1 && at(2) == NULL && at(3) == operations + 3);
    tear_down();
}

static void test_what_is_forgotten_leaves_the_numbers_of_the_rest(void) {
    set_up();
    for (uint64_t number = 1; number <= 10; number++) {
        pl_log_append(log_, operations + number, NULL);
    }
    pl_log_forget(log_, 0);
    CHECK(at(1) == operations + 1);
    pl_log_forget(log_, 4);
    pl_log_forget(log_, 2); /* it was already */
    CHECK(at(4) == NULL && at(1) == NULL && at(0) == NULL);
    CHECK(at(5) == operations + 5 && at(10) == operations + 10);
    CHECK(pl_log_append(log_, operations + 11, NULL) == 11 && at(11) == operations + 11);
    pl_log_forget(log_, 1000); /* all there is, and no number that is to come */
    CHECK(at(11) == NULL);
    CHECK(pl_log_append(log_, operations + 12, NULL) == 12 && at(12) == operations + 12 &&
          at(13) == NULL);
    tear_down();
}

static const pl_operation *expected[STEPS + 1]; /* by number */

static void test_at_random(void) {
    uint64_t chance = random_seed(11, 1), first = 1, next = 1;
    set_up();
    for (int i = 0; i < STEPS; i++) {
        if (random_below(&chance, 3) != 0) {
            expected[next] = random_below(&chance, 5) ? operations + next % MANY : NULL;
            CHECK(pl_log_append(log_, expected[next], NULL) == next);
            next++;
        } else if (random_below(&chance, 2) == 0 && next - first > 0) {
            first += random_below(&chance, (unsigned)(next - first) + 1);
            pl_log_forget(log_, first - 1);
        }
        uint64_t number = random_below(&chance, (unsigned)next + 3);
        CHECK(at(number) == (number >= first && number < next ? expected[number] : NULL));
    }
    CHECK(next > STEPS / 2 && first > STEPS / 4);
    tear_down();
}

/* A program that runs long opens and closes without end; its log has only what some group has
 * yet to replay. */
static void test_erased_one_is_nothing_and_the_rest_stays(void) {
    set_up();
    pl_log_erase(log_, 1); /* of an empty log */
    for (uint64_t number = 1; number <= 10; number++) {
        pl_log_append(log_, operations + number, NULL);
    }
    pl_log_forget(log_, 2);
    pl_log_erase(log_, 2); /* it was forgotten */
    pl_log_erase(log_, 3); /* the oldest */
    pl_log_erase(log_, 6);
    pl_log_erase(log_, 6);  /* it was already */
    pl_log_erase(log_, 10); /* the newest */
    pl_log_erase(log_, 11); /* one that is to come */
    for (uint64_t number = 0; number <= 11; number++) {
        int gone = number < 4 || number == 6 || number >= 10;
        CHECK(at(number) == (gone ? NULL : operations + number));
    }
    CHECK(pl_log_append(log_, operations + 11, NULL) == 11 && at(11) == operations + 11);
    pl_log_forget(log_, 7);
    CHECK(at(7) == NULL && at(8) == operations + 8);
    tear_down();
}

static void test_long_run_with_a_short_log_needs_no_more_memory(void) {
    set_up();
    uint64_t number = 0;
    for (int i = 0; i < 12; i++) {
        number = pl_log_append(log_, operations + i, NULL);
    }
    atomic_store(&inject_memory, 0); /* from here on there is none */
    for (int i = 0; i < MANY; i++) {
        pl_log_forget(log_, number - 2);
        number = pl_log_append(log_, operations + i, NULL);
        CHECK(number != 0 && at(number) == operations + i &&
              (i == 0 || at(number - 1) == operations + i - 1));
    }
    atomic_store(&inject_memory, -1);
    tear_down();
}

static void test_lack_of_memory_is_told_and_changes_nothing(void) {
    set_up();
    int refused = 0;
    for (uint64_t number = 1; number <= 100;) {
        atomic_store(&inject_memory, number % 2 ? 0 : -1);
        uint64_t got = pl_log_append(log_, operations + number, NULL);
        atomic_store(&inject_memory, -1);
        if (got == 0) {
            refused++;
            got = pl_log_append(log_, operations + number, NULL);
        }
        CHECK(got == number && at(number) == operations + number && at(1) == operations + 1);
        number++;
    }
    CHECK(refused > 0);
    tear_down();
}

/* Owners: each is released once, with its entry, when the log has it no more. */

static int released[20];

static void release(void *owner) {
    int *count = owner;
    ++*count;
    CHECK(at((uint64_t)(count - released)) == NULL &&
          pl_log_last(log_) >= (uint64_t)(count - released));
}

static void test_owner_is_released_once_with_its_entry(void) {
    pl_log_init(log_, release);
    for (int number = 1; number <= 12; number++) {
        CHECK(pl_log_append(log_, number % 2 ? operations + number : NULL, released + number) ==
              (uint64_t)number);
    }
    CHECK(pl_log_count(log_) == 12);
    pl_log_forget(log_, 4);
    pl_log_erase(log_, 7);
    pl_log_erase(log_, 8); /* one without an operation */
    pl_log_erase(log_, 8);
    for (int number = 1; number <= 12; number++) {
        CHECK(released[number] == (number <= 4 || number == 7 || number == 8));
    }
    CHECK(pl_log_count(log_) == 6 && log_->first == 5);
    CHECK(pl_log_from(log_, 1)->number == 5 && pl_log_from(log_, 7)->number == 9 &&
          pl_log_from(log_, 13) == NULL);
    CHECK(pl_log_at(log_, 9)->owner == released + 9 && pl_log_at(log_, 10)->operation == NULL);
    tear_down();
    for (int number = 1; number <= 12; number++) {
        CHECK(released[number] == 1);
    }
}

static void test_one_that_has_room_cannot_fail(void) {
    set_up();
    for (uint64_t number = 1; number <= 100; number++) {
        CHECK(pl_log_reserve(log_) == 0);
        atomic_store(&inject_memory, 0);
        CHECK(pl_log_append(log_, operations + number, NULL) == number);
        CHECK(pl_log_append(log_, NULL, NULL) == ++number); /* needs none */
        atomic_store(&inject_memory, -1);
    }
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
    RUN(test_owner_is_released_once_with_its_entry);
    RUN(test_one_that_has_room_cannot_fail);
    return 0;
}
