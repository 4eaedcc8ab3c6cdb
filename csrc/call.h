/* call: what every call of a guest function by the host is made of.
 *
 * States: entering is RUNNING and a safepoint, leaving puts back what was before (rendezvous.h).
 * A group that is behind replays before the first instruction of the guest; one whose linker is
 * cancelled does not get in.
 *
 * Values travel raw, as wasmtime keeps them: 16 bytes each, arguments in, results out, in one
 * array. Nothing is checked and nothing is allocated: the caller has matched the number and the
 * types of the values with the function's type.
 *
 * Blocking: pl_call_begin, as pl_follow. Threads: the group's own.
 *
 *     int before, status = pl_call_begin(group, &before);
 *     if (status == PL_OK) status = call_the_guest();
 *     pl_safepoint_restore(pl_group_safepoint(group), before); */
#ifndef PL_CALL_H
#define PL_CALL_H

#include "api.h"
#include "failure.h"
#include "group.h"

/* wasmtime_val_raw_t */
typedef union pl_value {
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    uint8_t v128[16];
    void *ref;
} pl_value;

/* wasmtime_func_t */
typedef struct pl_func {
    uint64_t store;
    void *body;
} pl_func;

enum pl_status {
    PL_OK = 0,
    PL_TRAP = 1,   /* guest code trapped: failure->trap */
    PL_ERROR = 2,  /* wasmtime refused, or a host function failed: failure->error */
    PL_ABORTED = 3 /* the linker is cancelled: the guest was not called */
};

/* Whether an error came up in guest code or in a host function that it called: wasmtime gives
 * only such an error a backtrace. */
int pl_error_is_of_guest(const pl_error *error);

/* The thread is about to run guest code of the group: RUNNING, and with everything replayed.
 * PL_OK, or PL_ABORTED; `before` goes to pl_safepoint_restore either way. */
int pl_call_begin(pl_group *group, int *before);

#endif
