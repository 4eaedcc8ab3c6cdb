/* measure: costs of the protocol's primitives in C alone, the lower bound for the same calls
 * through Python; for benchmarks.
 *
 * Each measurement does one operation `count` times and returns how often it succeeded, so that the
 * compiler cannot remove it.
 *
 * Protects: nothing.
 * Requires: a universe that no other thread uses.
 * Blocks: never, except for the pauses.
 * Threads: one.
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

#endif
