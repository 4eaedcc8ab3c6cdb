/* measure: costs of the protocol's primitives in C alone, the lower bound for the same calls
 * through Python; for benchmarks.
 *
 * pl_measure does one operation `count` times and returns how often it succeeded, so that the
 * compiler cannot remove it.
 *
 * Protects: nothing.
 * Requires: for pl_measure, a universe that no other thread uses.
 * Blocks: pl_measure never, except for the pauses; the others as documented.
 * Threads: one each.
 *
 *     uint64_t had = pl_measure(shared, group, PL_MEASURE_TRY_WRITE, 1000000); */
#ifndef PL_MEASURE_H
#define PL_MEASURE_H

#include "shared.h"

#include <stdint.h>

enum pl_measured {
    PL_MEASURE_FLAG_RELAXED = 0,
    PL_MEASURE_FLAG_SEQ_CST = 1,
    PL_MEASURE_TRY_WRITE = 2, /* and release, like the next two */
    PL_MEASURE_WRITE = 3,     /* for `group`, which is up to date */
    PL_MEASURE_TOKEN = 4,
    PL_MEASURE_YIELDS = 5 /* those of a back-off */
};

uint64_t pl_measure(pl_shared *shared, pl_group *group, int what, uint64_t count);

/* A rendezvous: one thread leads `count` operations that change nothing, each of the others
 * follows until the linker is cancelled. With `in_c` a follower's replay is a function in C that
 * does nothing; with `yields` it yields its processor between two safepoints. Return the
 * operations, or the safepoints passed. Block: as pl_lead and pl_follow. Threads: each group's
 * own. */
uint64_t pl_measure_lead(pl_group *group, uint64_t count);
uint64_t pl_measure_follow(pl_group *group, int in_c, int yields);

/* The lower bound of a rendezvous, without a protocol: one thread changes words[0] and waits until
 * all `threads` others have incremented words[1] for it, `count` times; each of the others does so,
 * and yields between two loads, until words[0] is UINT32_MAX. Return the changes seen. */
uint64_t pl_measure_ask(uint32_t *words, uint32_t threads, uint64_t count);
uint64_t pl_measure_answer(uint32_t *words);

#endif
