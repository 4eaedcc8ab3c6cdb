/* dynamic: WASIX's calls of functions whose type only the host looks at.
 *
 * call_dynamic       (function, values, values_size, results, results_size, strict) -> errno
 * reflect_signature  (function, params, params_limit, results, results_limit, signature) ->
 * errno
 *
 * Which type the function in a table slot has is Python's to say: it knows which module gave it
 * its slot. What it says is kept in the group's pl_calls, as good as the count of changes it was
 * said under (as in dlsym_cache.h), so a function is asked about once. It is never trusted: a guest
 * can put what it likes into its table, so a call goes through a function of wasm
 * (pl_signature's `invoke`) that takes the slot besides the values, and whose own call traps if
 * the function there has another type.
 *
 * Values lie one after the other, without padding, little endian: 4 bytes for i32 and f32, 8 for
 * i64 and f64, 16 for v128. Types are bytes, enum pl_value_type. Errors: 28 (inval) if there is
 * no function, or with `strict` 1 if the sizes are not those of the values; 61 (overflow) if the
 * lists of types are too short; 78 (memviolation) for a pointer out of the memory that is used.
 *
 * What the called function does passes through: a trap, an exit. Both calls are safepoints. The
 * called function runs in the caller's state, RUNNING.
 *
 * Blocking: as the called function. Threads: the group's. */
#ifndef PL_DYNAMIC_H
#define PL_DYNAMIC_H

#include "instances.h"

enum pl_value_type {
    PL_VALUE_I32 = 0,
    PL_VALUE_I64 = 1,
    PL_VALUE_F32 = 2,
    PL_VALUE_F64 = 3,
    PL_VALUE_V128 = 4
};

/* A type in one group. It and its list stay as long as the group. */
typedef struct pl_signature {
    /* takes the parameters and a slot, gives the results; store 0: there are values that are no
     * numbers */
    pl_func invoke;
    uint32_t param_count;
    uint32_t result_count;
    const uint8_t *types; /* enum pl_value_type of all parameters, then of all results */
} pl_signature;

/* What a group knows of its slots. Bounded: when it is full it is emptied. NULL if there is no
 * memory. */
pl_calls *pl_calls_new(void);
void pl_calls_free(pl_calls *calls);
/* The function in `slot` has this type, as of `changes`; NULL: there is none that anybody knows. */
void pl_calls_put(pl_calls *calls, uint64_t changes, uint32_t slot, const pl_signature *signature);
/* Answers 1 and what was put under the same `changes`, else 0. */
int pl_calls_get(const pl_calls *calls, uint64_t changes, uint32_t slot,
                 const pl_signature **signature);

/* The two functions; `environment` is a pl_import. Its handle is a function of Python's that is
 * given a slot and puts its type. */
pl_trap *pl_dynamic_call(void *environment, pl_caller *caller, pl_value *values, size_t count);
pl_trap *pl_dynamic_reflect(void *environment, pl_caller *caller, pl_value *values, size_t count);

#endif
