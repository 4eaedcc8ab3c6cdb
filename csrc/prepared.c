/* Discipline: `open` is atomic; all else in a pl_prepared is read-only. `outcomes` is
 * thread-local. */
#include "prepared.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Unread outcomes, oldest first. An entry is removed by its reader, or by a call from a frame that
 * is not deeper, because its reader was interrupted then. So `frame`, the address of the call's
 * stack frame, decreases from entry to entry. */
enum { KEPT = 16 };

/* C frames on the way from the interpreter to here differ by less between two entry points; a
 * frame of the interpreter is larger. */
enum { SLACK = 256 };

static _Thread_local struct {
    uint32_t made;
    uint32_t count;
    struct entry {
        uint32_t token;
        uintptr_t frame;
        pl_outcome outcome;
    } kept[KEPT];
} outcomes;

static const int64_t first_token = INT64_MIN;
static const int64_t tokens = INT64_C(1) << 32;
/* the double nearest to 0; the last one is -DBL_MAX */
static const uint64_t first_double_token = UINT64_C(0xFFEFFFFF00000000);

#define HERE ((uintptr_t)__builtin_frame_address(0))

/* Drops the outcomes of calls that came from no frame above `frame`. */
static void forget_down_from(uintptr_t frame) {
    while (outcomes.count > 0 && outcomes.kept[outcomes.count - 1].frame <= frame + SLACK) {
        pl_failure_release(&outcomes.kept[--outcomes.count].outcome.failure);
    }
}

static uint32_t keep(uintptr_t frame, const pl_outcome *outcome) {
    forget_down_from(frame);
    if (outcomes.count == KEPT) {
        pl_failure oldest = outcomes.kept[0].outcome.failure;
        memmove(outcomes.kept, outcomes.kept + 1, --outcomes.count * sizeof *outcomes.kept);
        pl_failure_release(&oldest);
    }
    outcomes.kept[outcomes.count++] =
        (struct entry){.token = ++outcomes.made, .frame = frame, .outcome = *outcome};
    return outcomes.made;
}

static int64_t keep_for_integer(uintptr_t frame, const pl_outcome *outcome) {
    return first_token + (int64_t)keep(frame, outcome);
}

static double keep_for_double(uintptr_t frame, const pl_outcome *outcome) {
    uint64_t bits = first_double_token + keep(frame, outcome);
    double token;
    memcpy(&token, &bits, sizeof token);
    return token;
}

static int take(uint32_t token, pl_outcome *outcome) {
    for (uint32_t i = outcomes.count; i-- > 0;) {
        if (outcomes.kept[i].token == token) {
            *outcome = outcomes.kept[i].outcome;
            outcomes.count--;
            memmove(outcomes.kept + i, outcomes.kept + i + 1,
                    (outcomes.count - i) * sizeof *outcomes.kept);
            return 1;
        }
    }
    return 0;
}

static int is_open(const pl_prepared *prepared) {
    return __atomic_load_n(&prepared->open, __ATOMIC_SEQ_CST);
}

void pl_prepared_close(pl_prepared *prepared) {
    __atomic_store_n(&prepared->open, 0, __ATOMIC_SEQ_CST);
}

/* Calls on a thread that may run guest code of the group. */
static int enter(const pl_prepared *prepared, pl_value *values, pl_failure *failure) {
    int before;
    int status = pl_call_begin(prepared->group, &before);
    /* The replay above may have unloaded the library. */
    if (status == PL_OK &&
        (!is_open(prepared) ||
         pl_instances_serial(prepared->instances, prepared->library) != prepared->serial)) {
        status = PL_CLOSED;
    }
    if (status == PL_OK) {
        status = pl_instances_invoke(prepared->instances, &prepared->func, values, prepared->count,
                                     failure);
    }
    pl_safepoint_restore(pl_group_safepoint(prepared->group), before);
    return status;
}

/* Requires that `failure` is empty. */
static int run(const pl_prepared *prepared, pl_value *values, pl_failure *failure) {
    const pl_group *own = pl_group_of_thread();
    if (own == prepared->group) {
        return is_open(prepared) ? enter(prepared, values, failure) : PL_CLOSED;
    }
    /* A thread of a group of another program is treated like one without a group. */
    if (prepared->main_lock == NULL ||
        (own != NULL && pl_group_shared(own) == pl_group_shared(prepared->group))) {
        return PL_ELSEWHERE;
    }
    if (!pl_recursive_try(prepared->main_lock)) {
        return PL_TAKEN;
    }
    int status = is_open(prepared) ? enter(prepared, values, failure) : PL_CLOSED;
    pl_recursive_release(prepared->main_lock);
    return status;
}

/* Stores an integer argument. Returns 0; or its number from 1 on if it is out of range. Accepts
 * unsigned values, too. */
static int put(const pl_prepared *prepared, unsigned index, int64_t argument, pl_value *values) {
    if (prepared->params[index] == PL_PREPARED_I64) {
        values[index].i64 = argument;
        return 0;
    }
    if (argument < INT32_MIN || argument > (int64_t)UINT32_MAX) {
        return (int)index + 1;
    }
    values[index].i64 = 0;
    values[index].i32 = (int32_t)(uint32_t)argument;
    return 0;
}

static int64_t refused(uintptr_t frame, int argument) {
    pl_outcome outcome = {.status = PL_RANGE, .argument = argument - 1};
    return keep_for_integer(frame, &outcome);
}

static int64_t integer(uintptr_t frame, const pl_prepared *prepared, pl_value *values) {
    pl_failure failure = {0};
    int status = run(prepared, values, &failure);
    if (status == PL_OK) {
        int64_t result = prepared->result == PL_PREPARED_I32   ? values[0].i32
                         : prepared->result == PL_PREPARED_I64 ? values[0].i64
                                                               : 0;
        if (result >= first_token + tokens) {
            return result;
        }
    }
    pl_outcome outcome = {.status = status, .failure = failure, .value = values[0]};
    return keep_for_integer(frame, &outcome);
}

int64_t pl_prepared_call0(pl_prepared *prepared) {
    pl_value values[1];
    return integer(HERE, prepared, values);
}

int64_t pl_prepared_call1(pl_prepared *prepared, int64_t a) {
    pl_value values[1];
    int wrong = put(prepared, 0, a, values);
    return wrong ? refused(HERE, wrong) : integer(HERE, prepared, values);
}

int64_t pl_prepared_call2(pl_prepared *prepared, int64_t a, int64_t b) {
    pl_value values[2];
    int wrong = put(prepared, 0, a, values);
    wrong = wrong ? wrong : put(prepared, 1, b, values);
    return wrong ? refused(HERE, wrong) : integer(HERE, prepared, values);
}

int64_t pl_prepared_call3(pl_prepared *prepared, int64_t a, int64_t b, int64_t c) {
    pl_value values[3];
    int wrong = put(prepared, 0, a, values);
    wrong = wrong ? wrong : put(prepared, 1, b, values);
    wrong = wrong ? wrong : put(prepared, 2, c, values);
    return wrong ? refused(HERE, wrong) : integer(HERE, prepared, values);
}

int64_t pl_prepared_call4(pl_prepared *prepared, int64_t a, int64_t b, int64_t c, int64_t d) {
    pl_value values[4];
    int wrong = put(prepared, 0, a, values);
    wrong = wrong ? wrong : put(prepared, 1, b, values);
    wrong = wrong ? wrong : put(prepared, 2, c, values);
    wrong = wrong ? wrong : put(prepared, 3, d, values);
    return wrong ? refused(HERE, wrong) : integer(HERE, prepared, values);
}

int64_t pl_prepared_call5(pl_prepared *prepared, int64_t a, int64_t b, int64_t c, int64_t d,
                          int64_t e) {
    pl_value values[5];
    int wrong = put(prepared, 0, a, values);
    wrong = wrong ? wrong : put(prepared, 1, b, values);
    wrong = wrong ? wrong : put(prepared, 2, c, values);
    wrong = wrong ? wrong : put(prepared, 3, d, values);
    wrong = wrong ? wrong : put(prepared, 4, e, values);
    return wrong ? refused(HERE, wrong) : integer(HERE, prepared, values);
}

int64_t pl_prepared_call6(pl_prepared *prepared, int64_t a, int64_t b, int64_t c, int64_t d,
                          int64_t e, int64_t f) {
    pl_value values[6];
    int wrong = put(prepared, 0, a, values);
    wrong = wrong ? wrong : put(prepared, 1, b, values);
    wrong = wrong ? wrong : put(prepared, 2, c, values);
    wrong = wrong ? wrong : put(prepared, 3, d, values);
    wrong = wrong ? wrong : put(prepared, 4, e, values);
    wrong = wrong ? wrong : put(prepared, 5, f, values);
    return wrong ? refused(HERE, wrong) : integer(HERE, prepared, values);
}

static void put_double(const pl_prepared *prepared, unsigned index, double argument,
                       pl_value *values) {
    if (prepared->params[index] == PL_PREPARED_F32) {
        values[index].f32 = (float)argument;
    } else {
        values[index].f64 = argument;
    }
}

static int is_double_token(double result) {
    return result < pl_prepared_limit_double() && !isinf(result);
}

static double number(uintptr_t frame, const pl_prepared *prepared, pl_value *values) {
    pl_failure failure = {0};
    int status = run(prepared, values, &failure);
    if (status == PL_OK) {
        double result = prepared->result == PL_PREPARED_F32 ? (double)values[0].f32 : values[0].f64;
        if (!is_double_token(result)) {
            return result;
        }
    }
    pl_outcome outcome = {.status = status, .failure = failure, .value = values[0]};
    return keep_for_double(frame, &outcome);
}

double pl_prepared_double1(pl_prepared *prepared, double a) {
    pl_value values[1];
    put_double(prepared, 0, a, values);
    return number(HERE, prepared, values);
}

double pl_prepared_double2(pl_prepared *prepared, double a, double b) {
    pl_value values[2];
    put_double(prepared, 0, a, values);
    put_double(prepared, 1, b, values);
    return number(HERE, prepared, values);
}

double pl_prepared_double3(pl_prepared *prepared, double a, double b, double c) {
    pl_value values[3];
    put_double(prepared, 0, a, values);
    put_double(prepared, 1, b, values);
    put_double(prepared, 2, c, values);
    return number(HERE, prepared, values);
}

int pl_prepared_raw(pl_prepared *prepared, pl_value *values, pl_failure *failure) {
    *failure = (pl_failure){0};
    return run(prepared, values, failure);
}

int64_t pl_prepared_limit(void) { return first_token + tokens; }

double pl_prepared_limit_double(void) {
    uint64_t bits = first_double_token - 1; /* the next double towards 0 */
    double limit;
    memcpy(&limit, &bits, sizeof limit);
    return limit;
}

int pl_prepared_take(int64_t result, pl_outcome *outcome) {
    return result < first_token + tokens && take((uint32_t)(uint64_t)result, outcome);
}

int pl_prepared_take_double(double result, pl_outcome *outcome) {
    uint64_t bits;
    memcpy(&bits, &result, sizeof bits);
    return is_double_token(result) && take((uint32_t)bits, outcome);
}

void pl_outcome_release(pl_outcome *outcome) { pl_failure_release(&outcome->failure); }

void pl_prepared_forget(void) { forget_down_from(HERE); }
