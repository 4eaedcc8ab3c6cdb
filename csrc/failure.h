/* failure: what a call into wasmtime failed with, and what the host function raised that failed
 * it.
 *
 * Protocol. A host function of Python's that fails keeps its exception under a number, tells the
 * number with pl_raise, and traps. The call that entered the guest takes the number along with
 * the trap, in its pl_failure. Each call has a place of its own for it: pl_calling puts the
 * thread's place aside, pl_called puts it back. So the exception of one call can get into no
 * other, even if a signal handler calls a guest at any moment between the raise and the trap, or
 * between the return and the read.
 *
 * Blocking: never, but for `forget`, which may wait for the GIL. Threads: each thread has a
 * place of its own; pl_failures_set before the first guest.
 *
 *     pl_hosted before = pl_calling();
 *     int status = call_the_guest(&failure);
 *     pl_called(before, status != PL_OK, &failure); */
#ifndef PL_FAILURE_H
#define PL_FAILURE_H

#include "api.h"

/* What a call into wasmtime came back with. At most one of trap and error is set, and then the
 * receiver owns it, as it owns `raised`. */
typedef struct pl_failure {
    pl_trap *trap;
    pl_error *error;
    uint64_t raised;  /* the number of the exception that a host function raised, or 0 */
    uint64_t stopped; /* the number of the call if it was stopped (cancel.h), else 0 */
} pl_failure;

/* What host functions have left for the call that is running on the thread. */
typedef struct pl_hosted {
    uint64_t raised;
    int meant; /* callback.h */
} pl_hosted;

typedef void (*pl_forget)(uint64_t raised);

/* Says what drops the exception of a number; it must not fail. */
void pl_failures_set(pl_forget forget);

/* Keeps a number for the running call, if it has none yet; returns the number that it has now. */
uint64_t pl_raise(uint64_t raised);
/* The number that the running call has, or 0. It stays there. */
uint64_t pl_raised(void);
/* For the running call: whether the result that the callback returns next is meant as it is
 * (callback.h). */
void pl_mean(int meant);
/* Returns that, and clears it. */
int pl_was_meant(void);

pl_hosted pl_calling(void);
void pl_called(pl_hosted before, int failed, pl_failure *failure);

/* Moves a failure; `to` owns nothing before. */
void pl_failure_move(pl_failure *to, pl_failure *from);
/* Frees what a failure owns; a second time does nothing. */
void pl_failure_release(pl_failure *failure);

#endif
