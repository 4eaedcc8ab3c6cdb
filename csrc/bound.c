/* Discipline: `open` is atomic; all else in a pl_bound is read-only. The thread's record is its own. */
#include "bound.h"

#include <stdatomic.h>

/* What the last call of this thread came to. */
static _Thread_local struct {
    int status;
    int argument;
    pl_failure failure;
} last;

static const int64_t failed = INT64_MIN + 1;
static const double failed_double = -0x1.8a3c5f7e9b2d4p-987;

static int is_open(const pl_bound *bound) {
    return __atomic_load_n(&bound->open, __ATOMIC_SEQ_CST);
}

void pl_bound_close(pl_bound *bound) {
    __atomic_store_n(&bound->open, 0, __ATOMIC_SEQ_CST);
}

/* The thread may run guest code of the group. */
static int enter(const pl_bound *bound, pl_value *values) {
    int before;
    int status = pl_call_begin(bound->group, &before);
    /* What was replayed just now may have been the unload of the library. */
    if (status == PL_OK && (!is_open(bound) || pl_instances_serial(bound->instances, bound->library) != bound->serial)) {
        status = PL_CLOSED;
    }
    if (status == PL_OK) {
        pl_failure failure; /* not the thread's record: the guest may call the host, and the host the guest */
        status = pl_instances_invoke(bound->instances, &bound->func, values, bound->count, &failure);
        if (status != PL_OK) {
            last.failure = failure;
        }
    }
    pl_safepoint_restore(pl_group_safepoint(bound->group), before);
    return status;
}

static int run(const pl_bound *bound, pl_value *values) {
    const pl_group *own = pl_group_of_thread();
    if (own == bound->group) {
        return is_open(bound) ? enter(bound, values) : PL_CLOSED;
    }
    /* A thread of another program is a stranger here like any other. */
    if (bound->turn == NULL || (own != NULL && pl_group_shared(own) == pl_group_shared(bound->group))) {
        return PL_ELSEWHERE;
    }
    if (!pl_turn_try(bound->turn)) {
        return PL_TAKEN;
    }
    int status = is_open(bound) ? enter(bound, values) : PL_CLOSED;
    pl_turn_leave(bound->turn);
    return status;
}

/* Puts an integer argument where the guest takes it; 0, or -1 if it does not fit. What is meant unsigned may be given so. */
static int put(const pl_bound *bound, unsigned index, int64_t argument, pl_value *values) {
    if (bound->params[index] == PL_BOUND_I64) {
        values[index].i64 = argument;
        return 0;
    }
    if (argument < INT32_MIN || argument > (int64_t)UINT32_MAX) {
        last.argument = (int)index;
        last.status = PL_RANGE;
        return -1;
    }
    values[index].i64 = 0;
    values[index].i32 = (int32_t)(uint32_t)argument;
    return 0;
}

static int64_t integer(const pl_bound *bound, pl_value *values) {
    last.status = run(bound, values);
    if (last.status != PL_OK) {
        return failed;
    }
    return bound->result == PL_BOUND_I32 ? values[0].i32 : bound->result == PL_BOUND_I64 ? values[0].i64 : 0;
}

int64_t pl_bound_call0(pl_bound *bound) {
    pl_value values[1];
    return integer(bound, values);
}

int64_t pl_bound_call1(pl_bound *bound, int64_t a) {
    pl_value values[1];
    return put(bound, 0, a, values) ? failed : integer(bound, values);
}

int64_t pl_bound_call2(pl_bound *bound, int64_t a, int64_t b) {
    pl_value values[2];
    return put(bound, 0, a, values) || put(bound, 1, b, values) ? failed : integer(bound, values);
}

int64_t pl_bound_call3(pl_bound *bound, int64_t a, int64_t b, int64_t c) {
    pl_value values[3];
    return put(bound, 0, a, values) || put(bound, 1, b, values) || put(bound, 2, c, values) ? failed : integer(bound, values);
}

int64_t pl_bound_call4(pl_bound *bound, int64_t a, int64_t b, int64_t c, int64_t d) {
    pl_value values[4];
    int refused = put(bound, 0, a, values) || put(bound, 1, b, values) || put(bound, 2, c, values) || put(bound, 3, d, values);
    return refused ? failed : integer(bound, values);
}

int64_t pl_bound_call5(pl_bound *bound, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e) {
    pl_value values[5];
    int refused = put(bound, 0, a, values) || put(bound, 1, b, values) || put(bound, 2, c, values) || put(bound, 3, d, values) ||
                  put(bound, 4, e, values);
    return refused ? failed : integer(bound, values);
}

int64_t pl_bound_call6(pl_bound *bound, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f) {
    pl_value values[6];
    int refused = put(bound, 0, a, values) || put(bound, 1, b, values) || put(bound, 2, c, values) || put(bound, 3, d, values) ||
                  put(bound, 4, e, values) || put(bound, 5, f, values);
    return refused ? failed : integer(bound, values);
}

static void put_double(const pl_bound *bound, unsigned index, double argument, pl_value *values) {
    if (bound->params[index] == PL_BOUND_F32) {
        values[index].f32 = (float)argument;
    } else {
        values[index].f64 = argument;
    }
}

static double number(const pl_bound *bound, pl_value *values) {
    last.status = run(bound, values);
    if (last.status != PL_OK) {
        return failed_double;
    }
    return bound->result == PL_BOUND_F32 ? (double)values[0].f32 : values[0].f64;
}

double pl_bound_double1(pl_bound *bound, double a) {
    pl_value values[1];
    put_double(bound, 0, a, values);
    return number(bound, values);
}

double pl_bound_double2(pl_bound *bound, double a, double b) {
    pl_value values[2];
    put_double(bound, 0, a, values);
    put_double(bound, 1, b, values);
    return number(bound, values);
}

double pl_bound_double3(pl_bound *bound, double a, double b, double c) {
    pl_value values[3];
    put_double(bound, 0, a, values);
    put_double(bound, 1, b, values);
    put_double(bound, 2, c, values);
    return number(bound, values);
}

int pl_bound_raw(pl_bound *bound, pl_value *values) {
    last.status = run(bound, values);
    return last.status;
}

int64_t pl_bound_failed(void) {
    return failed;
}

double pl_bound_failed_double(void) {
    return failed_double;
}

int pl_bound_status(void) {
    return last.status;
}

int pl_bound_argument(void) {
    return last.argument;
}

void pl_bound_failure(pl_failure *failure) {
    *failure = last.failure;
    last.failure = (pl_failure){0};
}
