/* call_dynamic: WASIX's calls of functions by a signature that is known at run time only.
 *
 *     call_dynamic       (function, values, values_size, results, results_size, strict) -> errno
 *     reflect_signature  (function, params, params_limit, results, results_limit, signature)
 *                        -> errno
 *
 * Python determines the type of the function in a table slot, because it knows which module
 * allocated the slot. The result is cached in the group's pl_calls and valid for the generation in
 * which it was stored (as in names.h), so each function is looked up once. The cached type is never
 * trusted: a guest can store any function into its table, so a call goes through a wasm function
 * (`invoke` of pl_signature) that takes the slot besides the values, and whose own call traps if
 * the function there has another type.
 *
 * Values are packed without padding, little endian: 4 bytes for i32 and f32, 8 for i64 and f64, 16
 * for v128. Types are bytes, enum pl_value_type. Errors: 28 (inval) if there is no function, or
 * with `strict` 1 if the sizes differ from those of the values; 61 (overflow) if the lists of types
 * are too short; 78 (memviolation) for a pointer out of bounds that is used.
 *
 * A trap or an exit of the called function passes through. Both calls are safepoints. The called
 * function runs in the caller's state, RUNNING.
 *
 * Protects: nothing.
 * Blocks: as long as the called function runs.
 * Threads: the group's. */
#ifndef PL_CALL_DYNAMIC_H
#define PL_CALL_DYNAMIC_H

#include "instances.h"

enum pl_value_type {
    PL_VALUE_I32 = 0,
    PL_VALUE_I64 = 1,
    PL_VALUE_F32 = 2,
    PL_VALUE_F64 = 3,
    PL_VALUE_V128 = 4
};

/* A type in one group. It and its list are valid as long as the group. */
typedef struct pl_signature {
    /* takes the parameters and a slot, returns the results; store 0 if a value is not a number */
    pl_func invoke;
    uint32_t param_count;
    uint32_t result_count;
    const uint8_t *types; /* enum pl_value_type of all parameters, then of all results */
} pl_signature;

/* The cache of a group: the types of its slots. Bounded; a full cache is cleared. NULL if out of
 * memory. */
pl_calls *pl_calls_new(void);
void pl_calls_free(pl_calls *calls);
/* Stores the type of the function in `slot` for generation `changes`; NULL if there is no known
 * function. */
void pl_calls_put(pl_calls *calls, uint64_t changes, uint32_t slot, const pl_signature *signature);
/* Returns 1 and the stored type if it was stored in the same generation `changes`, else 0. */
int pl_calls_get(const pl_calls *calls, uint64_t changes, uint32_t slot,
                 const pl_signature **signature);

/* The two functions; `environment` is a pl_import. Its handle is a Python function that takes a
 * slot and stores the type of the slot. */
pl_trap *pl_call_dynamic(void *environment, pl_caller *caller, pl_value *values, size_t count);
pl_trap *pl_reflect_signature(void *environment, pl_caller *caller, pl_value *values, size_t count);

#endif
