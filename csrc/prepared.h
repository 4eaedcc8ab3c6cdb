/* prepared: a guest function that the host calls, with all that does not change from call to call
 * looked up before.
 *
 * One entry point for each number of integer arguments, and for doubles; from Python a call is
 * then one call through cffi, with no object made and nothing looked up.
 *
 * Outcomes. A result below pl_prepared_limit(), or below pl_prepared_limit_double() and finite, is no
 * result but a token: it names the outcome of this very call, which pl_prepared_take hands over. A
 * call that fails returns a token, and so does one whose own result is in that range; no i32 and
 * no f32 is. A token is never used twice by a thread, as long as fewer than 2^32 are made
 * between return and read. So other calls of the thread may come between return and read (a
 * signal handler, a finalizer), and may be interrupted there themselves.
 *
 * An outcome whose reader was interrupted is dropped at the next failure of a call that comes
 * from no deeper on the stack than the one that left it, or by pl_prepared_forget. A thread keeps
 * 16; then the oldest is dropped, and pl_prepared_take says so to its reader.
 *
 * Who may call. A function is prepared in one group. The thread of that group calls it as it is
 * (pl_group_enter_thread has made it known); a thread that is none of this guest's takes the
 * turn of the main group for the duration (recursive.h), and gives up at once if another has it
 * (PL_BUSY): to wait is Python's business. Any other thread gets PL_ELSEWHERE.
 *
 * States: open, then closed for good, by pl_prepared_close from any thread that has the main_lock, or
 * because its library was dropped from the group. A call looks twice: before it touches
 * anything, and again after it has replayed what was pending.
 *
 * Blocking: as long as the guest runs.
 *
 *     int64_t sum = pl_prepared_call2(&add, 1, 2);
 *     pl_outcome outcome;
 *     if (sum < pl_prepared_limit() && pl_prepared_take(sum, &outcome)) explain(&outcome); */
#ifndef PL_PREPARED_H
#define PL_PREPARED_H

#include "thread.h"
#include "recursive.h"

/* More than pl_status, of a prepared call. */
enum pl_prepared_status {
    PL_CLOSED = 16,    /* it is closed, or its library is gone */
    PL_TAKEN = 17,     /* another thread has the turn */
    PL_ELSEWHERE = 18, /* it is another group's */
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

/* Filled in by its maker; it stays where it is as long as somebody may call. */
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

/* Closes it: nobody gets in from now on. */
void pl_prepared_close(pl_prepared *prepared);

/* All parameters are i32 or i64, the result is one of them or there is none (0). */
int64_t pl_prepared_call0(pl_prepared *prepared);
int64_t pl_prepared_call1(pl_prepared *prepared, int64_t a);
int64_t pl_prepared_call2(pl_prepared *prepared, int64_t a, int64_t b);
int64_t pl_prepared_call3(pl_prepared *prepared, int64_t a, int64_t b, int64_t c);
int64_t pl_prepared_call4(pl_prepared *prepared, int64_t a, int64_t b, int64_t c, int64_t d);
int64_t pl_prepared_call5(pl_prepared *prepared, int64_t a, int64_t b, int64_t c, int64_t d,
                          int64_t e);
int64_t pl_prepared_call6(pl_prepared *prepared, int64_t a, int64_t b, int64_t c, int64_t d,
                          int64_t e, int64_t f);
/* All parameters and the result are f32 or f64. */
double pl_prepared_double1(pl_prepared *prepared, double a);
double pl_prepared_double2(pl_prepared *prepared, double a, double b);
double pl_prepared_double3(pl_prepared *prepared, double a, double b, double c);
/* Any type: `values` has room for `count` raw values. Returns the status; `failure`, which owns
 * nothing before, is filled in. */
int pl_prepared_raw(pl_prepared *prepared, pl_value *values, pl_failure *failure);

/* What one call came to. */
typedef struct pl_outcome {
    int status;   /* enum pl_status or pl_prepared_status; PL_OK: `value` is the result */
    int argument; /* of PL_RANGE: the argument's number, from 0 */
    pl_failure failure;
    pl_value value;
} pl_outcome;

/* Results below these may be tokens. */
int64_t pl_prepared_limit(void);
double pl_prepared_limit_double(void);
/* Hands over the outcome of the calling thread's call that returned `result`; 0 if there is
 * none. `outcome` owns nothing before. */
int pl_prepared_take(int64_t result, pl_outcome *outcome);
int pl_prepared_take_double(double result, pl_outcome *outcome);
/* Frees what an outcome owns; a second time does nothing. */
void pl_outcome_release(pl_outcome *outcome);
/* Drops the outcomes of the calls that the caller's frame, or a deeper one, has made and not
 * read: they were interrupted. */
void pl_prepared_forget(void);

#endif
