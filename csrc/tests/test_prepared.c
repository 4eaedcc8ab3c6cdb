/* prepared: callers, argument ranges, results, and that no call enters after it is closed. */
#include "fake.h"

#include "prepared.h"
#include "replay.h"
#include "rendezvous.h"

#include <float.h>
#include <math.h>

enum { GROUP = 40, OWN = 41, LEADER = 42, ROUNDS = 3000, CALLERS = 3 };

static pl_shared *shared;
static pl_group *group;
static pl_instances *instances;
static pl_recursive *main_lock;
static pl_library *library;

static fake_module a = {.name = "A", .exports = {{"f", PL_EXTERN_FUNC}}};

/* The guest's function: it records its arguments, calls `inside`, and returns `answer`. */
static pl_value arguments[PL_PREPARED_ARGUMENTS], answer;
static size_t argument_count;
static int calls, wanted, state_inside, is_mine_inside;
static void (*inside)(void);

static int guest(const char *name, pl_value *values, size_t count) {
    CHECK(strcmp(name, "A.f") == 0 && count <= PL_PREPARED_ARGUMENTS);
    int result = wanted;
    calls++;
    argument_count = count;
    for (size_t i = 0; i < count; i++) {
        arguments[i] = values[i];
    }
    state_inside = pl_safepoint_state(pl_group_safepoint(group));
    is_mine_inside = pl_recursive_is_mine(main_lock);
    globals[1990] -= 100;
    if (inside != NULL) {
        void (*act)(void) = inside;
        inside = NULL;
        act();
    }
    if (count > 0) {
        values[0] = answer;
    }
    journal[journal_length = 0] = '\0';
    return result;
}

static int no_replay(uintptr_t handle, uint64_t from, uint64_t to) {
    return handle == 0 || from > to;
}

static int no_host(uintptr_t handle, pl_value *values, size_t count, char *message,
                   size_t capacity) {
    (void)handle, (void)values, (void)count, (void)message, (void)capacity;
    return 0;
}

static void set_up(void) {
    fake_reset(4);
    shared = pl_shared_new();
    group = pl_group_new(shared, GROUP, no_replay, NULL);
    instances = pl_instances_new(group, context, NULL, no_host, NULL, GROUP);
    main_lock = pl_recursive_new();
    library = fake_library(&a, &(pl_library_parts){.place = 0});
    CHECK(pl_instances_load(instances, library, 0, 0) == 0);
    pl_extern stack_pointer = {.kind = PL_EXTERN_GLOBAL, .of = {.handle = {FAKE_STORE, 1990, 0}}};
    pl_instances_set_stack_pointer(instances, &stack_pointer);
    globals[1990] = 1000;
    on_call = guest;
    inside = NULL;
    calls = wanted = 0;
    memset(&answer, 0, sizeof answer);
}

static void tear_down(void) {
    pl_instances_free(instances);
    pl_group_free(group);
    pl_shared_free(shared);
    pl_recursive_free(main_lock);
    pl_library_release(library);
    CHECK(fake_alive == 0);
}

/* A function of these parameters; `result` is its kind, or none. */
static pl_prepared prepared_of(uint32_t count, const uint8_t *params, uint8_t result) {
    pl_prepared prepared = {.open = 1,
                            .main_lock = main_lock,
                            .instances = instances,
                            .group = group,
                            .library = library,
                            .serial = pl_instances_serial(instances, library),
                            .func = fake_func(0, 0),
                            .count = count ? count : result != PL_PREPARED_NONE,
                            .result = result};
    for (uint32_t i = 0; i < count; i++) {
        prepared.params[i] = params[i];
    }
    return prepared;
}

static int64_t call_integers(pl_prepared *prepared, unsigned count, const int64_t *v) {
    switch (count) {
    case 0:
        return pl_prepared_call0(prepared);
    case 1:
        return pl_prepared_call1(prepared, v[0]);
    case 2:
        return pl_prepared_call2(prepared, v[0], v[1]);
    case 3:
        return pl_prepared_call3(prepared, v[0], v[1], v[2]);
    case 4:
        return pl_prepared_call4(prepared, v[0], v[1], v[2], v[3]);
    case 5:
        return pl_prepared_call5(prepared, v[0], v[1], v[2], v[3], v[4]);
    default:
        return pl_prepared_call6(prepared, v[0], v[1], v[2], v[3], v[4], v[5]);
    }
}

static double call_doubles(pl_prepared *prepared, unsigned count, const double *v) {
    return count == 1   ? pl_prepared_double1(prepared, v[0])
           : count == 2 ? pl_prepared_double2(prepared, v[0], v[1])
                        : pl_prepared_double3(prepared, v[0], v[1], v[2]);
}

static pl_outcome taken(int64_t result) {
    pl_outcome outcome;
    CHECK(result < pl_prepared_limit() && pl_prepared_take(result, &outcome));
    pl_outcome again;
    CHECK(!pl_prepared_take(result, &again)); /* once */
    return outcome;
}

static void check_failed_call(int64_t result, int status) {
    pl_outcome outcome = taken(result);
    CHECK(outcome.status == status);
    pl_outcome_release(&outcome);
    pl_outcome_release(&outcome);
}

static void check_failed_double(double result, int status) {
    pl_outcome outcome;
    CHECK(result < pl_prepared_limit_double() && pl_prepared_take_double(result, &outcome) &&
          outcome.status == status);
    CHECK(!pl_prepared_take_double(result, &outcome));
    pl_outcome_release(&outcome);
}

/* Values */

static void test_each_integer_goes_to_its_place(void) {
    set_up();
    for (unsigned count = 0; count <= 6; count++) {
        for (unsigned wide = 0; wide < 1u << count; wide++) { /* which of them are i64 */
            uint8_t params[6];
            int64_t values[6];
            for (unsigned i = 0; i < count; i++) {
                params[i] = wide >> i & 1 ? PL_PREPARED_I64 : PL_PREPARED_I32;
                values[i] = wide >> i & 1 ? INT64_MIN + 10 * i : -1 - (int64_t)i;
            }
            pl_prepared prepared = prepared_of(count, params, PL_PREPARED_I64);
            memset(arguments, 0xee, sizeof arguments);
            answer.i64 = INT64_C(0x123456789abcdef) + wide;
            CHECK(call_integers(&prepared, count, values) == answer.i64);
            CHECK(argument_count == (count ? count : 1));
            for (unsigned i = 0; i < count; i++) {
                CHECK(wide >> i & 1 ? arguments[i].i64 == values[i]
                                    : arguments[i].i64 == (int64_t)(uint32_t)values[i]);
            }
        }
    }
    tear_down();
}

static void test_narrow_argument_may_be_signed_or_not(void) {
    set_up();
    static const int64_t good[] = {0, 1, -1, INT32_MIN, INT32_MAX, INT64_C(0x80000000), UINT32_MAX},
                         bad[] = {INT64_C(0x100000000), (int64_t)INT32_MIN - 1, INT64_MAX,
                                  INT64_MIN, INT64_MIN + 1};
    static const uint8_t params[] = {PL_PREPARED_I32, PL_PREPARED_I32, PL_PREPARED_I32,
                                     PL_PREPARED_I32, PL_PREPARED_I32, PL_PREPARED_I32};
    for (unsigned count = 1; count <= 6; count++) {
        pl_prepared prepared = prepared_of(count, params, PL_PREPARED_NONE);
        for (unsigned index = 0; index < count; index++) {
            int64_t values[6] = {0};
            for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                values[index] = good[i];
                CHECK(call_integers(&prepared, count, values) == 0);
                CHECK(arguments[index].i32 == (int32_t)good[i]);
            }
            for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                int before = calls;
                values[index] = bad[i];
                pl_outcome outcome = taken(call_integers(&prepared, count, values));
                CHECK(outcome.status == PL_RANGE && outcome.argument == (int)index &&
                      calls == before);
            }
        }
    }
    tear_down();
}

static void test_result_is_of_its_kind(void) {
    set_up();
    pl_prepared narrow = prepared_of(0, NULL, PL_PREPARED_I32),
                wide = prepared_of(0, NULL, PL_PREPARED_I64),
                none = prepared_of(0, NULL, PL_PREPARED_NONE);
    answer.i64 = INT64_C(0x1234567880000000); /* above an i32 there may be anything */
    CHECK(pl_prepared_call0(&narrow) == INT32_MIN && pl_prepared_call0(&wide) == answer.i64 &&
          pl_prepared_call0(&none) == 0);
    const int64_t limit = pl_prepared_limit();
    CHECK(limit <= INT32_MIN);
    answer.i64 = limit;
    CHECK(pl_prepared_call0(&wide) == limit);
    const int64_t looks[] = {INT64_MIN, INT64_MIN + 1, INT64_MIN + 2, INT64_MIN + 3, limit - 1};
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) { /* like a token */
        answer.i64 = looks[i];
        pl_outcome outcome = taken(pl_prepared_call0(&wide));
        CHECK(outcome.status == PL_OK && outcome.value.i64 == looks[i]);
    }
    tear_down();
}

static void test_each_double_goes_to_its_place(void) {
    set_up();
    static const double values[] = {0.1, -1e300, 16777217.0};
    for (unsigned count = 1; count <= 3; count++) {
        for (unsigned wide = 0; wide < 1u << count; wide++) {
            uint8_t params[3];
            for (unsigned i = 0; i < count; i++) {
                params[i] = wide >> i & 1 ? PL_PREPARED_F64 : PL_PREPARED_F32;
            }
            pl_prepared prepared = prepared_of(count, params, PL_PREPARED_F64);
            answer.f64 = 0.1;
            CHECK(call_doubles(&prepared, count, values) == 0.1 && argument_count == count);
            for (unsigned i = 0; i < count; i++) {
                CHECK(wide >> i & 1 ? arguments[i].f64 == values[i]
                                    : arguments[i].f32 == (float)values[i]);
            }
            prepared.result = PL_PREPARED_F32;
            answer.f32 = 0.1f;
            CHECK(call_doubles(&prepared, count, values) == (double)0.1f);
        }
    }
    pl_prepared prepared = prepared_of(1, (uint8_t[]){PL_PREPARED_F64}, PL_PREPARED_F64);
    answer.f64 = NAN;
    CHECK(isnan(pl_prepared_double1(&prepared, 0)));
    const double limit = pl_prepared_limit_double();
    CHECK(limit < (double)-FLT_MAX && !isinf(limit));
    const double as_they_are[] = {-INFINITY, INFINITY, limit, 0};
    for (size_t i = 0; i < sizeof as_they_are / sizeof *as_they_are; i++) {
        answer.f64 = as_they_are[i];
        CHECK(pl_prepared_double1(&prepared, 0) == as_they_are[i]);
    }
    const double looks[] = {-DBL_MAX, -DBL_MAX * (1 - DBL_EPSILON)};
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) { /* like a token */
        answer.f64 = looks[i];
        pl_outcome outcome;
        double result = pl_prepared_double1(&prepared, 0);
        CHECK(result < limit && pl_prepared_take_double(result, &outcome) &&
              outcome.status == PL_OK && outcome.value.f64 == looks[i]);
    }
    answer.f64 = 1;
    wanted = TRAPS;
    check_failed_double(pl_prepared_double1(&prepared, 0), PL_TRAP);
    pl_outcome outcome;
    CHECK(!pl_prepared_take_double(-INFINITY, &outcome) && !pl_prepared_take_double(1, &outcome) &&
          !pl_prepared_take(1, &outcome));
    tear_down();
}

static void test_raw_values_go_through(void) {
    set_up();
    pl_prepared prepared =
        prepared_of(PL_PREPARED_ARGUMENTS, (uint8_t[PL_PREPARED_ARGUMENTS]){0}, PL_PREPARED_OTHER);
    pl_value values[PL_PREPARED_ARGUMENTS];
    memset(values, 0x5a, sizeof values);
    memset(&answer, 0xa5, sizeof answer);
    pl_failure failure;
    CHECK(pl_prepared_raw(&prepared, values, &failure) == PL_OK && failure.trap == NULL &&
          failure.error == NULL && failure.raised == 0);
    CHECK(memcmp(&arguments[7], &values[7], sizeof *values) == 0 &&
          memcmp(&values[0], &answer, sizeof answer) == 0);
    tear_down();
}

/* Failures */

static void test_stack_pointer_comes_back_only_after_a_failure(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    static const int statuses[] = {PL_OK, PL_TRAP, PL_ERROR};
    for (wanted = 0; wanted < 3; wanted++) {
        globals[1990] = 1000;
        int64_t result = pl_prepared_call0(&prepared);
        CHECK((result < pl_prepared_limit()) == (wanted != 0));
        CHECK(globals[1990] == (wanted ? 1000 : 900));
        CHECK(state_inside == PL_RUNNING &&
              pl_safepoint_state(pl_group_safepoint(group)) == PL_PARKED);
        if (wanted) {
            pl_outcome outcome = taken(result);
            CHECK(outcome.status == statuses[wanted] && fake_take(&outcome.failure) == wanted);
        }
    }
    tear_down();
}

static pl_prepared *nested;

static void trap_inside(void) {
    wanted = TRAPS;
    check_failed_call(pl_prepared_call0(nested), PL_TRAP);
    CHECK(pl_recursive_is_mine(main_lock)); /* the outer call still has it */
    wanted = 0;
}

static void test_failure_of_an_inner_call_is_not_the_outer_ones(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    nested = &prepared;
    inside = trap_inside;
    answer.i32 = 5;
    CHECK(pl_prepared_call0(&prepared) == 5 && calls == 2 && !pl_recursive_is_mine(main_lock));
    CHECK(!pl_instances_is_running(instances));
    tear_down();
}

/* Between return and read: */

/* Lets the compiler assume that the array is read and written, so that it cannot shrink it. */
#define KEEP(array) __asm__ volatile("" : : "r"(array) : "memory")

/* As from a handler that the interpreter calls: at least one frame of it is in between. */
static __attribute__((noinline)) int64_t deeper(pl_prepared *prepared) {
    char frame[1024] = {0};
    KEEP(frame);
    int64_t result = pl_prepared_call0(prepared);
    return frame[0] + result;
}

static void test_outcome_waits_for_its_reader(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    wanted = TRAPS;
    int64_t outer = pl_prepared_call0(&prepared);
    wanted = FAILS;
    check_failed_call(deeper(&prepared), PL_ERROR); /* read before, */
    deeper(&prepared);                              /* or not at all */
    wanted = 0;
    CHECK(deeper(&prepared) == 0);
    check_failed_call(outer, PL_TRAP);
    pl_prepared_forget();
    tear_down();
}

static void test_outcome_that_is_not_read_goes_with_the_next(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    wanted = TRAPS;
    const int before = fake_alive;
    int64_t lost = deeper(&prepared), first = pl_prepared_call0(&prepared);
    CHECK(fake_alive == before + 1); /* the trap of the newer one */
    int64_t second = pl_prepared_call0(&prepared);
    CHECK(fake_alive == before + 1 && lost != first && first != second);
    pl_outcome outcome;
    CHECK(!pl_prepared_take(lost, &outcome) && !pl_prepared_take(first, &outcome));
    pl_prepared_forget();
    CHECK(fake_alive == before && !pl_prepared_take(second, &outcome));
    tear_down();
}

static void fill(pl_prepared *prepared, int depth, int *found) {
    char frame[1024] = {0};
    KEEP(frame);
    int64_t result = frame[0] + pl_prepared_call0(prepared);
    if (depth > 1) {
        fill(prepared, depth - 1, found);
    }
    pl_outcome outcome;
    if (pl_prepared_take(result, &outcome)) {
        pl_outcome_release(&outcome);
        ++*found;
    }
}

static void test_thread_keeps_sixteen(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    wanted = TRAPS;
    int found = 0;
    fill(&prepared, 40, &found);
    CHECK(found == 16);
    tear_down();
}

static uint64_t forgotten;

static void forget(uint64_t raised) { forgotten = 10 * forgotten + raised; }

static void raise_inside(void) {
    CHECK(pl_raised() == 0);
    CHECK(pl_raise(1) == 1 && pl_raise(2) == 1 && pl_raised() == 1); /* the first counts */
    pl_set_genuine(1);
    wanted = 0;
    /* a handler calls a guest before the trap */
    CHECK(pl_prepared_call0(nested) == 0 && pl_raised() == 1);
    CHECK(pl_take_genuine() && !pl_take_genuine());
    wanted = TRAPS;
}

static void raise_for_nothing(void) { pl_raise(3); }

static void test_exception_goes_with_the_failure(void) {
    set_up();
    pl_failures_set(forget);
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    nested = &prepared;
    inside = raise_inside;
    wanted = TRAPS;
    pl_outcome outcome = taken(pl_prepared_call0(&prepared));
    CHECK(outcome.failure.raised == 1 && pl_raised() == 0 && forgotten == 0);
    pl_outcome_release(&outcome);
    pl_outcome_release(&outcome);
    CHECK(forgotten == 1);
    inside = raise_for_nothing; /* the guest goes on */
    wanted = 0;
    CHECK(pl_prepared_call0(&prepared) == 0 && pl_raised() == 0 && forgotten == 13);
    pl_failures_set(NULL);
    tear_down();
}

static void look_inside(void) {
    CHECK(pl_instances_is_running(instances));
    int before = pl_safepoint_park(pl_group_safepoint(group));
    CHECK(pl_prepared_call0(nested) == 6 && pl_instances_is_running(instances));
    pl_safepoint_restore(pl_group_safepoint(group), before);
}

static void test_store_is_in_use_until_the_outermost_call_returns(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    nested = &prepared;
    answer.i32 = 6;
    CHECK(!pl_instances_is_running(instances));
    for (wanted = 0; wanted < 2; wanted++) {
        inside = wanted ? NULL : look_inside;
        int64_t result = pl_prepared_call0(&prepared);
        CHECK(!pl_instances_is_running(instances));
        if (wanted) {
            check_failed_call(result, PL_TRAP);
        }
    }
    tear_down();
}

static atomic_int is_over;

static void *look_from_outside(void *unused) {
    (void)unused;
    while (!atomic_load(&is_over)) {
        (void)pl_instances_is_running(instances);
    }
    return NULL;
}

static void test_other_threads_look_whether_the_store_is_in_use(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    answer.i32 = 6;
    atomic_store(&is_over, 0);
    pthread_t thread = thread_start(look_from_outside, NULL);
    for (int i = 0; i < 1000; i++) {
        CHECK(pl_prepared_call0(&prepared) == 6);
    }
    atomic_store(&is_over, 1);
    thread_join(thread);
    tear_down();
}

/* Who may call */

static void *call_elsewhere(void *prepared) {
    pl_outcome outcome;
    /* it has called nothing yet, whatever others have */
    CHECK(!pl_prepared_take(INT64_MIN + 1, &outcome));
    check_failed_call(pl_prepared_call0(prepared), PL_TAKEN);
    return NULL;
}

static void *call_well(void *prepared) {
    CHECK(pl_prepared_call0(prepared) == 7 && is_mine_inside && !pl_recursive_is_mine(main_lock));
    return NULL;
}

static void test_strangers_take_turns(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    answer.i32 = 7;
    CHECK(pl_prepared_call0(&prepared) == 7 && is_mine_inside && !pl_recursive_is_mine(main_lock));
    thread_join(thread_start(call_well, &prepared));
    CHECK(pl_recursive_try(main_lock));
    pl_prepared narrow = prepared_of(1, (uint8_t[]){PL_PREPARED_I32}, PL_PREPARED_NONE);
    int64_t refused = pl_prepared_call1(&narrow, INT64_MAX);
    thread_join(thread_start(call_elsewhere, &prepared));
    CHECK(calls == 2);
    check_failed_call(refused, PL_RANGE);
    CHECK(pl_prepared_call0(&prepared) == 7 &&
          pl_recursive_is_mine(main_lock)); /* the holder keeps it */
    pl_recursive_release(main_lock);
    thread_join(thread_start(call_well, &prepared));
    tear_down();
}

static void test_thread_with_a_group_of_its_own_calls_there_and_nowhere_else(void) {
    set_up();
    pl_group *own = pl_group_new(shared, OWN, no_replay, NULL);
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    answer.i32 = 7;
    pl_group_enter_thread(own);
    check_failed_call(pl_prepared_call0(&prepared), PL_ELSEWHERE); /* main's */
    /* which is another thread's business */
    thread_join(thread_start(call_well, &prepared));
    pl_prepared there = prepared;
    there.group = own;
    there.main_lock = NULL;
    CHECK(pl_prepared_call0(&there) == 7 && !is_mine_inside);
    pl_group_enter_thread(NULL);
    check_failed_call(pl_prepared_call0(&there), PL_ELSEWHERE); /* no stranger calls there */
    CHECK(pl_prepared_call0(&prepared) == 7);
    pl_group_enter_thread(group);
    /* the group's own thread needs no main lock */
    CHECK(pl_prepared_call0(&prepared) == 7 && !is_mine_inside);
    pl_shared *another = pl_shared_new();
    pl_group *foreign = pl_group_new(another, OWN, no_replay, NULL);
    pl_group_enter_thread(foreign);
    /* a thread of another program is a stranger */
    CHECK(pl_prepared_call0(&prepared) == 7 && is_mine_inside);
    check_failed_call(pl_prepared_call0(&there), PL_ELSEWHERE);
    pl_group_enter_thread(NULL);
    pl_group_free(foreign);
    pl_shared_free(another);
    pl_group_free(own);
    tear_down();
}

/* The end */

static void test_closed_one_lets_nobody_in(void) {
    set_up();
    pl_prepared prepared = prepared_of(1, (uint8_t[]){PL_PREPARED_I32}, PL_PREPARED_I32);
    pl_prepared_close(&prepared);
    pl_prepared_close(&prepared);
    prepared.instances = NULL; /* it may be gone */
    prepared.group = (pl_group *)0x1000;
    check_failed_call(pl_prepared_call1(&prepared, 1), PL_CLOSED);
    /* what does not fit never does */
    check_failed_call(pl_prepared_call1(&prepared, INT64_MAX), PL_RANGE);
    pl_value value = {.i32 = 1};
    pl_failure failure;
    CHECK(pl_prepared_raw(&prepared, &value, &failure) == PL_CLOSED && calls == 0);
    CHECK(!pl_recursive_is_mine(main_lock));
    prepared.main_lock = NULL;
    prepared.group = group;
    pl_group_enter_thread(group);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED); /* that comes second */
    check_failed_call(pl_prepared_call1(&prepared, 1), PL_CLOSED);
    pl_group_enter_thread(NULL);
    tear_down();
}

static void test_library_that_is_not_the_same_any_more_is_not_called(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    pl_instances_drop(instances, library);
    check_failed_call(pl_prepared_call0(&prepared), PL_CLOSED);
    CHECK(pl_instances_load(instances, library, 0, 0) == 0); /* another instance of it */
    check_failed_call(pl_prepared_call0(&prepared), PL_CLOSED);
    CHECK(calls == 0 && pl_safepoint_state(pl_group_safepoint(group)) == PL_PARKED);
    tear_down();
}

static void test_cancelled_program_is_not_called(void) {
    set_up();
    pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    pl_outcome outcome = taken(pl_prepared_call0(&prepared));
    CHECK(outcome.status == PL_ABORTED && outcome.failure.trap == NULL &&
          outcome.failure.error == NULL);
    CHECK(calls == 0 && !pl_recursive_is_mine(main_lock));
    CHECK(pl_safepoint_state(pl_group_safepoint(group)) == PL_PARKED);
    tear_down();
}

/* What the call replays on its way in may be the end of the library. */

static pl_follower follower;
static pl_log *log_; /* of `shared` */

static int never(uintptr_t handle) {
    (void)handle;
    CHECK(!"a follower that fails");
    return 0;
}

static void lead(const pl_operation *operation) {
    uintptr_t late;
    pl_group *leader = pl_group_new(shared, LEADER, no_replay, NULL);
    CHECK(pl_rwlock_try_write(pl_shared_lock(shared)) == PL_ACQUIRED);
    CHECK(pl_lead_open(leader) != 0 && pl_lead_meet(leader, -1, &late) == PL_ACQUIRED);
    pl_log_append(log_, operation, NULL);
    CHECK(pl_lead_publish(leader) != 0 && pl_lead_finish(leader) == PL_ACQUIRED);
    pl_group_free(leader);
}

static void test_library_that_is_dropped_on_the_way_in_is_not_called(void) {
    for (int again = 0; again < 2; again++) {
        set_up();
        log_ = pl_shared_log(shared);
        follower =
            (pl_follower){.instances = instances, .log = log_, .group = GROUP, .failed = never};
        pl_follower_install(&follower);
        pl_prepared prepared = prepared_of(0, NULL, PL_PREPARED_I32);
        pl_operation nothing = {.table_size = 1};
        pl_operation unload = {.dropped = &library,
                               .dropped_count = 1,
                               .loaded = again ? &library : NULL,
                               .loaded_count = (size_t)again};
        lead(&nothing);
        CHECK(pl_prepared_call0(&prepared) == 0 && calls == 1 && pl_group_applied(group) == 1);
        lead(&unload);
        check_failed_call(pl_prepared_call0(&prepared), PL_CLOSED);
        CHECK(calls == 1 && pl_group_applied(group) == 2 &&
              pl_safepoint_state(pl_group_safepoint(group)) == PL_PARKED);
        CHECK(!pl_recursive_is_mine(main_lock));
        tear_down();
    }
}

static pl_prepared target;

static int close_it(uintptr_t handle, uint64_t from, uint64_t to) {
    pl_prepared_close(&target);
    return handle == 0 || from > to;
}

static void test_one_that_is_closed_on_the_way_in_is_not_called(void) {
    set_up();
    log_ = pl_shared_log(shared);
    target = prepared_of(0, NULL, PL_PREPARED_I32);
    pl_group_set_replay(group, close_it, GROUP);
    lead(NULL);
    check_failed_call(pl_prepared_call0(&target), PL_CLOSED);
    CHECK(calls == 0 && !pl_recursive_is_mine(main_lock));
    tear_down();
}

/* Threads without a group call at random, and one of them closes it: calls in progress finish
 * first, and no call enters afterwards. */

static atomic_int may_close;
static int closed; /* a plain one: ThreadSanitizer sees it if a call overlaps the close */

static int guest_of_many(const char *name, pl_value *values, size_t count) {
    (void)name, (void)values, (void)count;
    CHECK(!closed);
    calls++;
    journal[journal_length = 0] = '\0';
    return 0;
}

static void *call_often(void *seed) {
    inject_delays(random_seed(21, (uintptr_t)seed), 16);
    int status, done = 0;
    do {
        int64_t result = pl_prepared_call0(&target);
        status = result < pl_prepared_limit() ? taken(result).status : PL_OK;
        CHECK(status == PL_OK || status == PL_TAKEN || status == PL_CLOSED);
        if (++done == 50) {
            atomic_fetch_add(&may_close, 1);
        }
    } while (status != PL_CLOSED);
    return NULL;
}

static void test_nobody_is_in_when_it_is_closed(void) {
    for (int round = 0; round < 20; round++) {
        set_up();
        on_call = guest_of_many;
        target = prepared_of(0, NULL, PL_PREPARED_NONE);
        closed = 0;
        atomic_store(&may_close, 0);
        pthread_t threads[CALLERS];
        for (uintptr_t i = 0; i < CALLERS; i++) {
            threads[i] = thread_start(call_often, (void *)(i + 1 + CALLERS * (uintptr_t)round));
        }
        AWAIT(atomic_load(&may_close) == CALLERS);
        CHECK(pl_recursive_wait(main_lock, -1));
        pl_prepared_close(&target);
        closed = 1;
        pl_instances_drop(instances, library);
        pl_recursive_release(main_lock);
        for (int i = 0; i < CALLERS; i++) {
            thread_join(threads[i]);
        }
        CHECK(calls > 0);
        tear_down();
    }
}

int main(void) {
    check_begin(0);
    fake_install();
    RUN(test_each_integer_goes_to_its_place);
    RUN(test_narrow_argument_may_be_signed_or_not);
    RUN(test_result_is_of_its_kind);
    RUN(test_each_double_goes_to_its_place);
    RUN(test_raw_values_go_through);
    RUN(test_stack_pointer_comes_back_only_after_a_failure);
    RUN(test_failure_of_an_inner_call_is_not_the_outer_ones);
    RUN(test_outcome_waits_for_its_reader);
    RUN(test_outcome_that_is_not_read_goes_with_the_next);
    RUN(test_thread_keeps_sixteen);
    RUN(test_exception_goes_with_the_failure);
    RUN(test_store_is_in_use_until_the_outermost_call_returns);
    RUN(test_other_threads_look_whether_the_store_is_in_use);
    RUN(test_strangers_take_turns);
    RUN(test_thread_with_a_group_of_its_own_calls_there_and_nowhere_else);
    RUN(test_closed_one_lets_nobody_in);
    RUN(test_library_that_is_not_the_same_any_more_is_not_called);
    RUN(test_cancelled_program_is_not_called);
    RUN(test_library_that_is_dropped_on_the_way_in_is_not_called);
    RUN(test_one_that_is_closed_on_the_way_in_is_not_called);
    RUN(test_nobody_is_in_when_it_is_closed);
    fake_reset(0);
    return 0;
}
