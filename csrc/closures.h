/* closures: the functions that a program makes at run time, in one group: each belongs to a
 * table slot.
 *
 * A closure is an instance of a small module (pylinker/wasm/closures.py) that is the same for
 * all closures of one type. What a single one is about, the function behind it and that one's
 * environment, are two globals. So to change a closure, or to make another of its type in its
 * place, is to set two numbers. An instance that its slot no longer needs, because the closure
 * there is of another type now, is kept for the next closure of its own type: wasmtime frees
 * instances only with the store.
 *
 * States of a slot: noted (it is one for closures, and has none); with a closure. Operations
 * (replay.h) change both, the same in all groups.
 *
 * Threads: the group's own. Blocking: never. */
#ifndef PL_CLOSURES_H
#define PL_CLOSURES_H

#include "wrappers.h"

typedef struct pl_instances pl_instances;

/* Slot `slot` holds a closure of `code`, whose module outlives the program: it calls `backing`
 * with `environment`. */
typedef struct pl_closure {
    uint32_t slot;
    uint32_t backing;
    uint32_t environment;
    const pl_module *code;
} pl_closure;

typedef struct pl_closures pl_closures;

/* NULL if there is no memory. */
pl_closures *pl_closures_new(void);
void pl_closures_free(pl_closures *closures);
/* The slots [first, first + count), which no other call has noted, are for closures. Answers 0,
 * or -1 if there is no memory. */
int pl_closures_note(pl_closures *closures, uint32_t first, uint32_t count);
/* Whether a slot is for closures. */
int pl_closures_has(const pl_closures *closures, uint32_t slot);
/* Makes a closure, or changes the one there is, and puts it into its slot, which is noted.
 * Answers 0, or -1 with the error record in `instances`. */
int pl_closures_prepare(pl_closures *closures, pl_instances *instances, const pl_closure *wanted);

#endif
