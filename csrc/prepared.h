/* prepared: calls of guest functions whose lookups and signature checks are done once.
 *
 * There is one entry point for each number of integer arguments, and for doubles; a call from
 * Python is then one call through cffi, which creates no object and looks nothing up.
 *
 * Outcomes. A result below pl_prepared_limit(), or below pl_prepared_limit_double() and finite, is
 * a token for the outcome of this call; pl_prepared_take returns the outcome. A call that fails
 * returns a token, and so does a call whose own result is in that range; no i32 and no f32 is. A
 * thread does not reuse a token as long as fewer than 2^32 are made between return and read. So the
 * thread may make other calls between return and read (in a signal handler, in a finalizer), and
 * those may be interrupted there themselves.
 *
 * If an interrupt prevents the read of an outcome, the outcome is dropped at the next failure of a
 * call that comes from no deeper on the stack than the call that left it, or by pl_prepared_forget.
 * A thread keeps 16 outcomes; then the oldest is dropped, and pl_prepared_take returns 0 for it.
 *
 * Callers. A prepared call belongs to one group. The thread of that group calls it directly
 * (pl_group_enter_thread has registered it). A thread that has no group of this program takes the
 * main lock (recursive.h) for the duration, and returns PL_TAKEN at once if another thread holds
 * it: waiting is done in Python. Any other thread gets PL_ELSEWHERE.
 *
 * States: open, then closed for good, by pl_prepared_close from a thread that holds the main lock,
 * or because its library was dropped from the group. A call checks twice: before it touches
 * anything, and after it has replayed pending operations.
 *
 * Protects: nothing.
 * Requires: the struct stays valid as long as a thread may call.
 * Blocks: as long as the guest runs.
 * Memory order: `open` is SeqCst.
 * Threads: as above.
 *
 *     int64_t sum = pl_prepared_call2(&add, 1, 2);
 *     pl_outcome outcome;
 *     if (sum < pl_prepared_limit() && pl_prepared_take(sum, &outcome)) explain(&outcome); */
#ifndef PL_PREPARED_H
#define PL_PREPARED_H

#include "thread.h"
#include "recursive.h"

/* The statuses of a prepared call besides those of pl_status. */
enum pl_prepared_status {
    PL_CLOSED = 16,    /* the call is closed, or its library is unloaded */
    PL_TAKEN = 17,     /* another thread holds the main lock */
    PL_ELSEWHERE = 18, /* the calling thread belongs to another group */
    PL_RANGE = 19      /* an argument does not fit into 32 bits */
};

enum { PL_PREPARED_ARGUMENTS = 8 };

enum pl_prepared_kind {
    PL_PREPARED_NONE = 0,
    PL_PREPARED_I32 = 1,
    PL_PREPARED_I64 = 2,
    PL_PREPARED_F32 = 3,
    PL_PREPARED_F64 = 4,
    PL_PREPARED_OTHER = 5
};

/* Filled in by its creator. Its address must not change as long as a thread may call. */
typedef struct pl_prepared {
    int open;
    pl_recursive *main_lock; /* of the main group; NULL for a group with a thread of its own */
    pl_instances *instances;
    pl_group *group;
    const pl_library *library;
    uint64_t serial; /* of the library in the group */
    pl_func func;
    uint32_t count;                        /* the larger of the numbers of parameters and results */
    uint8_t params[PL_PREPARED_ARGUMENTS]; /* enum pl_prepared_kind */
    uint8_t result;                        /* enum pl_prepared_kind */
} pl_prepared;

/* Closes the call: later calls return PL_CLOSED. */
void pl_prepared_close(pl_prepared *prepared);

/* For parameters that are all i32 or i64, and a result that is one of them, or none (0). */
int64_t pl_prepared_call0(pl_prepared *prepared);
int64_t pl_prepared_call1(pl_prepared *prepared, int64_t a);
int64_t pl_prepared_call2(pl_prepared *prepared, int64_t a, int64_t b);
int64_t pl_prepared_call3(pl_prepared *prepared, int64_t a, int64_t b, int64_t c);
int64_t pl_prepared_call4(pl_prepared *prepared, int64_t a, int64_t b, int64_t c, int64_t d);
int64_t pl_prepared_call5(pl_prepared *prepared, int64_t a, int64_t b, int64_t c, int64_t d,
                          int64_t e);
int64_t pl_prepared_call6(pl_prepared *prepared, int64_t a, int64_t b, int64_t c, int64_t d,
                          int64_t e, int64_t f);
/* For parameters and a result that are f32 or f64. */
double pl_prepared_double1(pl_prepared *prepared, double a);
double pl_prepared_double2(pl_prepared *prepared, double a, double b);
double pl_prepared_double3(pl_prepared *prepared, double a, double b, double c);
/* For any type: `values` has room for `count` raw values. Returns the status and fills in
 * `failure`, which owns nothing before. */
int pl_prepared_raw(pl_prepared *prepared, pl_value *values, pl_failure *failure);

/* The outcome of one call. */
typedef struct pl_outcome {
    int status;   /* enum pl_status or pl_prepared_status; PL_OK: `value` is the result */
    int argument; /* for PL_RANGE: the number of the argument, from 0 */
    pl_failure failure;
    pl_value value;
} pl_outcome;

/* Results below these limits may be tokens. */
int64_t pl_prepared_limit(void);
double pl_prepared_limit_double(void);
/* Moves the outcome of the calling thread's call that returned `result` to `outcome`, which owns
 * nothing before. Returns 0 if there is no such outcome. */
int pl_prepared_take(int64_t result, pl_outcome *outcome);
int pl_prepared_take_double(double result, pl_outcome *outcome);
/* Frees what an outcome owns; a second call does nothing. */
void pl_outcome_release(pl_outcome *outcome);
/* Drops the unread outcomes of calls from the caller's frame or a deeper one, whose readers were
 * interrupted. */
void pl_prepared_forget(void);

#endif
