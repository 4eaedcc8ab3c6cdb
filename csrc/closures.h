/* closures: functions that a program creates at run time, in one group, each with a table slot.
 *
 * A closure is an instance of a small module (pylinker/wasm/closures.py) that is the same for all
 * closures of one type. The function behind a closure and the environment of that function are two
 * globals, so a closure is changed, or replaced by another of its type, by setting two numbers. An
 * instance that its slot no longer needs, because the closure there has another type now, is kept
 * for the next closure of its own type: wasmtime frees instances only with the store.
 *
 * States of a slot: noted (reserved for closures, but empty); with a closure. Operations (replay.h)
 * change both, identically in all groups.
 * Protects: nothing.
 * Blocks: never.
 * Threads: the group's own. */
#ifndef PL_CLOSURES_H
#define PL_CLOSURES_H

#include "wrappers.h"

typedef struct pl_instances pl_instances;

/* A closure of `code` in slot `slot`, which calls `backing` with `environment`. The module outlives
 * the program. */
typedef struct pl_closure {
    uint32_t slot;
    uint32_t backing;
    uint32_t environment;
    const pl_module *code;
} pl_closure;

typedef struct pl_closures pl_closures;

/* Returns NULL if out of memory. */
pl_closures *pl_closures_new(void);
void pl_closures_free(pl_closures *closures);
/* Reserves the slots [first, first + count) for closures; no other call has reserved them. Returns
 * 0, or -1 if out of memory. */
int pl_closures_note(pl_closures *closures, uint32_t first, uint32_t count);
/* Returns whether a slot is reserved for closures. */
int pl_closures_has(const pl_closures *closures, uint32_t slot);
/* Creates a closure, or changes the existing one, and puts it into its slot, which is reserved.
 * Returns 0, or -1 with the error record in `instances`. */
int pl_closures_prepare(pl_closures *closures, pl_instances *instances, const pl_closure *wanted);

#endif
