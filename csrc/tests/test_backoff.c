/* backoff: the schedule, pause by pause. */
#include "check.h"

#include "backoff.h"
#include "event.h"

enum { SPIN = 0, YIELD = -1 };

static void test_schedule(void) {
    static const int64_t sleeps[] = {48000,   96000,   192000,   384000,   768000,  1536000,
                                     3072000, 6144000, 10000000, 10000000, 10000000};
    uint32_t pause = 0;
    for (; pause < 64; pause++) {
        CHECK(pl_backoff_kind(pause) == SPIN);
    }
    for (; pause < 64 + 24; pause++) {
        CHECK(pl_backoff_kind(pause) == YIELD);
    }
    for (size_t i = 0; i < sizeof sleeps / sizeof *sleeps; i++, pause++) {
        CHECK(pl_backoff_kind(pause) == sleeps[i]);
    }
    CHECK(pl_backoff_kind(1u << 31) == 10000000);
    CHECK(pl_backoff_kind(UINT32_MAX) == 10000000);
}

static void test_doubling_ends_with_the_eighth(void) {
    /* The cap hides it: without the cap the ninth sleep and all after it would be 48 us * 2^8. */
    CHECK((PL_BACKOFF_FIRST_SLEEP << 7) < PL_BACKOFF_CAP &&
          (PL_BACKOFF_FIRST_SLEEP << 8) > PL_BACKOFF_CAP);
    CHECK(PL_BACKOFF_DOUBLINGS == 8);
}

static void test_fresh_one_is_all_zeros_and_counts_its_pauses(void) {
    pl_backoff backoff = {0};
    for (uint32_t pause = 0; pause < 92; pause++) {
        CHECK(backoff.pauses == pause);
        int64_t before = pl_now();
        pl_backoff_pause(&backoff);
        /* a sleep is at least as long as it says */
        CHECK(pl_now() - before >= pl_backoff_kind(pause));
    }
    CHECK(backoff.pauses == 92);
}

static void test_yields_are_yields_and_nothing_else_is(void) {
    pl_backoff backoff = {0};
    for (uint32_t pause = 0; pause < 90; pause++) {
        unsigned before = inject_yields;
        pl_backoff_pause(&backoff);
        CHECK(inject_yields - before == (pl_backoff_kind(pause) == YIELD));
    }
}

static void test_count_does_not_wrap(void) {
    pl_backoff backoff = {.pauses = UINT32_MAX - 1};
    pl_backoff_pause(&backoff);
    CHECK(backoff.pauses == UINT32_MAX);
    pl_backoff_pause(&backoff);
    CHECK(backoff.pauses == UINT32_MAX);
}

int main(void) {
    check_begin(0);
    RUN(test_schedule);
    RUN(test_doubling_ends_with_the_eighth);
    RUN(test_fresh_one_is_all_zeros_and_counts_its_pauses);
    RUN(test_yields_are_yields_and_nothing_else_is);
    RUN(test_count_does_not_wrap);
    return 0;
}
