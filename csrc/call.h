/* call: the host calls a guest function, as the thread of a group.
 *
 * States: entering is RUNNING and a safepoint, leaving puts back what was before (shared.h). A group that is behind replays before the
 * first instruction of the guest; one whose linker is cancelled does not get in.
 *
 * Values travel raw, as wasmtime keeps them: 16 bytes each, arguments in, results out, in one array. Nothing is checked here and
 * nothing is allocated: the caller has matched the number and the types of the values with the function's type.
 *
 * Blocking: as long as the guest runs. Threads: the store behind `context` belongs to the calling thread for the duration.
 *
 *     pl_value values[2] = {{.i32 = 1}, {.i32 = 2}};
 *     pl_failure failure;
 *     if (pl_call(group, context, &add, values, 2, &failure) == PL_OK) use(values[0].i32);
 */
#ifndef PL_CALL_H
#define PL_CALL_H

#include "api.h"
#include "shared.h"

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

/* What a call into wasmtime came back with. At most one of the two is set, and then the receiver owns it. */
typedef struct pl_failure {
    pl_trap *trap;
    pl_error *error;
} pl_failure;

enum pl_status {
    PL_OK = 0,
    PL_TRAP = 1, /* guest code trapped: failure->trap */
    PL_ERROR = 2,  /* wasmtime refused, or a host function failed: failure->error */
    PL_ABORTED = 3 /* the linker is cancelled: the guest was not called */
};

/* Calls `func` with `count` values, where count is the larger of its numbers of parameters and results. */
int pl_call(pl_group *group, pl_context *context, const pl_func *func, pl_value *values, size_t count, pl_failure *failure);

#endif
