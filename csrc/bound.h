/* bound: a guest function that the host calls, with all that does not change from call to call
 * looked up before.
 *
 * One entry point for each number of integer arguments, and for doubles; from Python a call is
 * then one call through cffi, with no object made and nothing looked up.
 *
 * Outcomes. A result below pl_bound_limit(), or below pl_bound_limit_double() and finite, is no
 * result but a token: it names the outcome of this very call, which pl_bound_take hands over. A
 * call that fails returns a token, and so does one whose own result is in that range; no i32 and
 * no f32 is. A token is never used twice by a thread, as long as fewer than 2^32 are made
 * between return and read. So other calls of the thread may come between return and read (a
 * signal handler, a finalizer), and may be interrupted there themselves.
 *
 * An outcome whose reader was interrupted is dropped at the next failure of a call that comes
 * from no deeper on the stack than the one that left it, or by pl_bound_forget. A thread keeps
 * 16; then the oldest is dropped, and pl_bound_take says so to its reader.
 *
 * Who may call. A function is bound in one group. The thread of that group calls it as it is
 * (pl_group_enter_thread has made it known); a thread that is none of this guest's takes the
 * turn of the main group for the duration (recursive.h), and gives up at once if another has it
 * (PL_BUSY): to wait is Python's business. Any other thread gets PL_ELSEWHERE.
 *
 * States: open, then closed for good, by pl_bound_close from any thread that has the main_lock, or
 * because its library was dropped from the group. A call looks twice: before it touches
 * anything, and again after it has replayed what was pending.
 *
 * Blocking: as long as the guest runs.
 *
 *     int64_t sum = pl_bound_call2(&add, 1, 2);
 *     pl_outcome outcome;
 *     if (sum < pl_bound_limit() && pl_bound_take(sum, &outcome)) explain(&outcome); */
#ifndef PL_BOUND_H
#define PL_BOUND_H

#include "thread.h"
#include "recursive.h"

/* More than pl_status, of a bound call. */
enum pl_bound_status {
    PL_CLOSED = 16,    /* it is closed, or its library is gone */
    PL_TAKEN = 17,     /* another thread has the turn */
    PL_ELSEWHERE = 18, /* it is another group's */
    PL_RANGE = 19      /* an argument does not fit into 32 bits */
};

enum { PL_BOUND_ARGUMENTS = 8 };

enum pl_bound_kind {
    PL_BOUND_NONE = 0,
    PL_BOUND_I32 = 1,
    PL_BOUND_I64 = 2,
    PL_BOUND_F32 = 3,
    PL_BOUND_F64 = 4,
    PL_BOUND_OTHER = 5
};

/* Filled in by its maker; it stays where it is as long as somebody may call. */
typedef struct pl_bound {
    int open;
    pl_recursive *main_lock; /* of the main group; NULL for a group with a thread of its own */
    pl_instances *instances;
    pl_group *group;
    const pl_library *library;
    uint64_t serial; /* of the library in the group */
    pl_func func;
    uint32_t count;                     /* the larger of the numbers of parameters and results */
    uint8_t params[PL_BOUND_ARGUMENTS]; /* enum pl_bound_kind */
    uint8_t result;                     /* enum pl_bound_kind */
} pl_bound;

/* Closes it: nobody gets in from now on. */
void pl_bound_close(pl_bound *bound);

/* All parameters are i32 or i64, the result is one of them or there is none (0). */
int64_t pl_bound_call0(pl_bound *bound);
int64_t pl_bound_call1(pl_bound *bound, int64_t a);
int64_t pl_bound_call2(pl_bound *bound, int64_t a, int64_t b);
int64_t pl_bound_call3(pl_bound *bound, int64_t a, int64_t b, int64_t c);
int64_t pl_bound_call4(pl_bound *bound, int64_t a, int64_t b, int64_t c, int64_t d);
int64_t pl_bound_call5(pl_bound *bound, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e);
int64_t pl_bound_call6(pl_bound *bound, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e,
                       int64_t f);
/* All parameters and the result are f32 or f64. */
double pl_bound_double1(pl_bound *bound, double a);
double pl_bound_double2(pl_bound *bound, double a, double b);
double pl_bound_double3(pl_bound *bound, double a, double b, double c);
/* Any type: `values` has room for `count` raw values. Returns the status; `failure`, which owns
 * nothing before, is filled in. */
int pl_bound_raw(pl_bound *bound, pl_value *values, pl_failure *failure);

/* What one call came to. */
typedef struct pl_outcome {
    int status;   /* enum pl_status or pl_bound_status; PL_OK: `value` is the result */
    int argument; /* of PL_RANGE: the argument's number, from 0 */
    pl_failure failure;
    pl_value value;
} pl_outcome;

/* Results below these may be tokens. */
int64_t pl_bound_limit(void);
double pl_bound_limit_double(void);
/* Hands over the outcome of the calling thread's call that returned `result`; 0 if there is
 * none. `outcome` owns nothing before. */
int pl_bound_take(int64_t result, pl_outcome *outcome);
int pl_bound_take_double(double result, pl_outcome *outcome);
/* Frees what an outcome owns; a second time does nothing. */
void pl_outcome_release(pl_outcome *outcome);
/* Drops the outcomes of the calls that the caller's frame, or a deeper one, has made and not
 * read: they were interrupted. */
void pl_bound_forget(void);

#endif
