/* callback: arguments and results of the Python functions, and how a failure is told from a
 * number. */
#include "fake.h"

#include "callback.h"

#include <math.h>

enum {
    GROUP = 40,
    HANDLE = 77,
    NONE = PL_RESULT_NONE,
    NARROW = PL_RESULT_NARROW,
    WIDE = PL_RESULT_WIDE
};

static pl_shared *shared;
static pl_group *group;
static pl_import import;

/* The Python function: its arguments and results. */
static int64_t given[PL_CALLBACK_INTEGERS], integer;
static double given_doubles[PL_CALLBACK_DOUBLES], number;
static int count, result_kind, state_inside, genuine, explained, failure_of;
static int64_t wrong_integer;
static double wrong_number;

static void enter(uintptr_t handle, int kind, int parameters) {
    CHECK(handle == HANDLE);
    count = parameters;
    result_kind = kind;
    state_inside = pl_safepoint_state(pl_group_safepoint(group));
    if (genuine) {
        pl_callback_set_genuine(1);
    }
}

#define KEEP(...)                                                                                  \
    do {                                                                                           \
        const int64_t all[] = {__VA_ARGS__};                                                       \
        memcpy(given, all, sizeof all);                                                            \
        enter(handle, RESULT, (int)(sizeof all / sizeof *all));                                    \
        return integer;                                                                            \
    } while (0)

#define DEFINE(name)                                                                               \
    static int64_t name##0(uintptr_t handle) {                                                     \
        enter(handle, RESULT, 0);                                                                  \
        return integer;                                                                            \
    }                                                                                              \
    static int64_t name##1(uintptr_t handle, int64_t a) { KEEP(a); }                               \
    static int64_t name##2(uintptr_t handle, int64_t a, int64_t b) { KEEP(a, b); }                 \
    static int64_t name##3(uintptr_t handle, int64_t a, int64_t b, int64_t c) { KEEP(a, b, c); }   \
    static int64_t name##4(uintptr_t handle, int64_t a, int64_t b, int64_t c, int64_t d) {         \
        KEEP(a, b, c, d);                                                                          \
    }                                                                                              \
    static int64_t name##5(uintptr_t handle, int64_t a, int64_t b, int64_t c, int64_t d,           \
                           int64_t e) {                                                            \
        KEEP(a, b, c, d, e);                                                                       \
    }                                                                                              \
    static int64_t name##6(uintptr_t handle, int64_t a, int64_t b, int64_t c, int64_t d,           \
                           int64_t e, int64_t f) {                                                 \
        KEEP(a, b, c, d, e, f);                                                                    \
    }

#define RESULT NONE
DEFINE(nothing)
#undef RESULT
#define RESULT NARROW
DEFINE(narrow)
#undef RESULT
#define RESULT WIDE
DEFINE(wide)
#undef RESULT

static double double1(uintptr_t handle, double a) {
    given_doubles[0] = a;
    enter(handle, -1, 1);
    return number;
}

static double double2(uintptr_t handle, double a, double b) {
    given_doubles[0] = a;
    given_doubles[1] = b;
    enter(handle, -1, 2);
    return number;
}

static double double3(uintptr_t handle, double a, double b, double c) {
    given_doubles[0] = a;
    given_doubles[1] = b;
    given_doubles[2] = c;
    enter(handle, -1, 3);
    return number;
}

static void explain(uintptr_t handle, int failure, int64_t was, double was_double, char *message,
                    size_t capacity) {
    CHECK(handle == HANDLE && capacity == PL_MESSAGE_CAPACITY);
    CHECK(pl_safepoint_state(pl_group_safepoint(group)) == PL_PARKED);
    explained++;
    failure_of = failure;
    wrong_integer = was;
    wrong_number = was_double;
    memset(message, 'x', capacity); /* not terminated */
}

static const pl_callbacks callbacks = {.integers0 = {nothing0, narrow0, wide0},
                                       .integers1 = {nothing1, narrow1, wide1},
                                       .integers2 = {nothing2, narrow2, wide2},
                                       .integers3 = {nothing3, narrow3, wide3},
                                       .integers4 = {nothing4, narrow4, wide4},
                                       .integers5 = {nothing5, narrow5, wide5},
                                       .integers6 = {nothing6, narrow6, wide6},
                                       .double1 = double1,
                                       .double2 = double2,
                                       .double3 = double3,
                                       .explain = explain};

static int no_replay(uintptr_t handle, uint64_t from, uint64_t to) {
    return handle == 0 || from > to;
}

static void set_up(void) {
    fake_reset(1);
    pl_callbacks_set(&callbacks);
    shared = pl_shared_new();
    group = pl_group_new(shared, GROUP, no_replay, NULL);
    import = (pl_import){.function = {.group = group, .handle = HANDLE}};
    pl_safepoint_run(pl_group_safepoint(group));
    genuine = explained = 0;
}

static void tear_down(void) {
    pl_group_free(group);
    pl_shared_free(shared);
    CHECK(fake_alive == 0);
}

static uint32_t type_of(uint32_t form, uint32_t parameters, uint32_t result, uint32_t wide_ones) {
    return form + 16 * parameters + 256 * result + 65536 * wide_ones;
}

/* The guest's call; the group runs before and after. */
static pl_trap *call(uint32_t type, pl_value *values) {
    import.type = type;
    pl_trap *trap = pl_callback(type)(&import, NULL, values, 8);
    CHECK(state_inside == PL_PARKED && pl_safepoint_state(pl_group_safepoint(group)) == PL_RUNNING);
    return trap;
}

static void expect_failure(pl_trap *trap, int failure) {
    CHECK(trap != NULL && explained == 1 && failure_of == failure);
    CHECK(strlen(trap_text) == PL_MESSAGE_CAPACITY - 1 && trap_text[0] == 'x');
    fake_free(trap);
    explained = 0;
}

static void test_each_number_of_integers_and_each_result_has_its_function(void) {
    set_up();
    for (uint32_t parameters = 0; parameters <= PL_CALLBACK_INTEGERS; parameters++) {
        for (uint32_t result = NONE; result <= WIDE; result++) {
            pl_value values[8];
            for (int i = 0; i < 8; i++) {
                values[i].i64 = INT64_C(0x100000000) * (i + 1) - 1 - i; /* as i32: -1 - i */
            }
            uint32_t wide_ones = 0x2a; /* every other one */
            integer = 5;
            CHECK(call(type_of(PL_FORM_INTEGERS, parameters, result, wide_ones), values) == NULL);
            CHECK(count == (int)parameters && result_kind == (int)result && explained == 0);
            for (int i = 0; i < (int)parameters; i++) {
                CHECK(given[i] == (i % 2 ? INT64_C(0x100000000) * (i + 1) - 1 - i : -1 - i));
            }
            CHECK(result == NONE     ? values[0].i32 == -1
                  : result == NARROW ? values[0].i32 == 5
                                     : values[0].i64 == 5);
        }
    }
    CHECK(import.function.entries == 21);
    tear_down();
}

static void test_results_fit_or_are_refused(void) {
    set_up();
    static const struct {
        int64_t result;
        int fits;
        int32_t as;
    } cases[] = {{0, 1, 0},
                 {-1, 1, -1},
                 {INT32_MIN, 1, INT32_MIN},
                 {UINT32_MAX, 1, -1},
                 {INT32_MAX, 1, INT32_MAX},
                 {(int64_t)INT32_MIN - 1, 0, 0},
                 {(int64_t)UINT32_MAX + 1, 0, 0},
                 {INT64_MAX, 0, 0},
                 {INT64_MIN, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pl_value value = {.i64 = 0};
        integer = cases[i].result;
        pl_trap *trap = call(type_of(PL_FORM_INTEGERS, 0, NARROW, 0), &value);
        if (cases[i].fits) {
            CHECK(trap == NULL && value.i32 == cases[i].as);
        } else {
            CHECK(wrong_integer == cases[i].result);
            expect_failure(trap, PL_CALLBACK_TOO_WIDE);
        }
        CHECK(call(type_of(PL_FORM_INTEGERS, 0, WIDE, 0), &value) == NULL &&
              value.i64 == cases[i].result);
    }
    tear_down();
}

static void test_failure_is_a_number_that_may_be_meant(void) {
    set_up();
    pl_value values[3] = {{.i64 = 0}};
    integer = pl_callback_failed();
    number = pl_callback_failed_double();
    for (uint32_t result = NONE; result <= WIDE; result++) {
        expect_failure(call(type_of(PL_FORM_INTEGERS, 1, result, 0), values), PL_CALLBACK_RAISED);
    }
    expect_failure(call(type_of(PL_FORM_DOUBLES, 1, WIDE, 1), values), PL_CALLBACK_RAISED);
    genuine = 1;
    CHECK(call(type_of(PL_FORM_INTEGERS, 1, WIDE, 0), values) == NULL && values[0].i64 == integer);
    CHECK(call(type_of(PL_FORM_DOUBLES, 1, WIDE, 1), values) == NULL && values[0].f64 == number);
    genuine = 0; /* it was for one result each */
    expect_failure(call(type_of(PL_FORM_INTEGERS, 1, WIDE, 0), values), PL_CALLBACK_RAISED);
    tear_down();
}

static void test_doubles_and_floats(void) {
    set_up();
    for (uint32_t parameters = 1; parameters <= PL_CALLBACK_DOUBLES; parameters++) {
        pl_value values[3];
        memset(values, 0, sizeof values);
        values[0].f32 = 1.5f;
        values[1].f64 = -0x1.23456789abcdep+9;
        values[2].f32 = -3;
        number = 0.1;
        CHECK(call(type_of(PL_FORM_DOUBLES, parameters, WIDE, 2), values) == NULL);
        CHECK(count == (int)parameters && given_doubles[0] == 1.5 && values[0].f64 == 0.1);
        CHECK(parameters < 2 || given_doubles[1] == -0x1.23456789abcdep+9);
        CHECK(parameters < 3 || given_doubles[2] == -3);
    }
    pl_value value = {.i64 = 0};
    CHECK(call(type_of(PL_FORM_DOUBLES, 1, NARROW, 0), &value) == NULL && value.f32 == 0.1f);
    number = INFINITY;
    CHECK(call(type_of(PL_FORM_DOUBLES, 1, NARROW, 0), &value) == NULL && isinf(value.f32));
    number = NAN;
    CHECK(call(type_of(PL_FORM_DOUBLES, 1, NARROW, 0), &value) == NULL && isnan(value.f32));
    number = -1e39;
    pl_trap *trap = call(type_of(PL_FORM_DOUBLES, 1, NARROW, 0), &value);
    CHECK(wrong_number == -1e39);
    expect_failure(trap, PL_CALLBACK_TOO_LARGE);
    CHECK(call(type_of(PL_FORM_DOUBLES, 1, WIDE, 0), &value) == NULL && value.f64 == -1e39);
    tear_down();
}

static void test_other_types_take_the_long_way(void) {
    CHECK(pl_callback(PL_FORM_RAW) == pl_host_enter &&
          pl_callback(type_of(PL_FORM_RAW, 3, WIDE, 7)) == pl_host_enter);
}

static void test_cancelled_linker_stops_the_guest_after_the_call(void) {
    set_up();
    pl_value value = {.i64 = 0};
    integer = 3;
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    import.type = type_of(PL_FORM_INTEGERS, 0, NARROW, 0);
    pl_trap *trap = pl_callback(import.type)(&import, NULL, &value, 1);
    CHECK(trap != NULL && explained == 0);
    fake_free(trap);
    tear_down();
}

int main(void) {
    check_begin(0);
    fake_install();
    RUN(test_each_number_of_integers_and_each_result_has_its_function);
    RUN(test_results_fit_or_are_refused);
    RUN(test_failure_is_a_number_that_may_be_meant);
    RUN(test_doubles_and_floats);
    RUN(test_other_types_take_the_long_way);
    RUN(test_cancelled_linker_stops_the_guest_after_the_call);
    return 0;
}
