/* call: the common part of every call of a guest function by the host.
 *
 * States: entering sets the group RUNNING and is a safepoint, leaving restores the previous state
 * (rendezvous.h). A group that is behind replays before the first instruction of the guest; a group
 * whose linker is cancelled does not enter.
 *
 * Values are passed in wasmtime's raw format: 16 bytes each, arguments in and results out in one
 * array. Nothing is checked and nothing is allocated.
 *
 * Protects: nothing.
 * Requires: the number and types of the values match the type of the function.
 * Blocks: pl_call_begin, as pl_follow.
 * Threads: the group's own.
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

/* Returns whether an error was raised in guest code or in a host function that it called: wasmtime
 * gives only such an error a backtrace. */
int pl_error_is_of_guest(const pl_error *error);

/* Sets the group RUNNING and replays pending operations, before guest code. Returns PL_OK or
 * PL_ABORTED; in both cases `before` is to be passed to pl_safepoint_restore. */
int pl_call_begin(pl_group *group, int *before);

#endif
