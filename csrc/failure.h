/* failure: the error of a call into wasmtime, and the Python exception that caused it.
 *
 * Protocol. A host function in Python that fails stores its exception under a number, passes the
 * number to pl_raise, and traps. The call that entered the guest stores the number with the trap in
 * its pl_failure. Each call has its own place for the number: pl_calling saves the thread's place,
 * pl_called restores it. So the exception of one call cannot reach another, even if a signal
 * handler calls a guest at any moment between the raise and the trap, or between the return and the
 * read.
 *
 * Protects: nothing; each thread has its own place.
 * Requires: pl_failures_set before the first guest.
 * Blocks: never, except for `forget`, which may wait for the GIL.
 * Threads: any.
 *
 *     pl_hosted before = pl_calling();
 *     int status = call_the_guest(&failure);
 *     pl_called(before, status != PL_OK, &failure); */
#ifndef PL_FAILURE_H
#define PL_FAILURE_H

#include "api.h"

/* The error of a call into wasmtime. At most one of trap and error is set; the receiver owns it,
 * and `raised`. */
typedef struct pl_failure {
    pl_trap *trap;
    pl_error *error;
    uint64_t raised;  /* the number of the exception of a host function, or 0 */
    uint64_t stopped; /* the number of the call if it was stopped (cancel.h), else 0 */
} pl_failure;

/* The state that host functions leave for the running call of the thread. */
typedef struct pl_hosted {
    uint64_t raised;
    int genuine; /* callback.h */
} pl_hosted;

typedef void (*pl_forget)(uint64_t raised);

/* Sets the function that drops the exception with a number; it must not fail. */
void pl_failures_set(pl_forget forget);

/* Stores a number for the running call unless it has one; returns the number that the call has
 * now. */
uint64_t pl_raise(uint64_t raised);
/* Returns the number of the running call, or 0, and keeps it. */
uint64_t pl_raised(void);
/* Marks the next result of the callback as genuine or not, for the running call (callback.h). */
void pl_set_genuine(int genuine);
/* Returns that mark, and clears it. */
int pl_take_genuine(void);

pl_hosted pl_calling(void);
void pl_called(pl_hosted before, int failed, pl_failure *failure);

/* Moves a failure; `to` owns nothing before. */
void pl_failure_move(pl_failure *to, pl_failure *from);
/* Frees what a failure owns; a second call does nothing. */
void pl_failure_release(pl_failure *failure);

#endif
