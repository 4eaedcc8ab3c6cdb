/* flag: one bit that many threads read often and one thread changes rarely: `dl_operation_pending`.
 *
 * States: clear, set. All zeros is a clear flag.
 * Protects: nothing.
 * Blocks: never.
 * Memory order: changes are SeqCst; a load has the given order. A relaxed load may miss a recent
 * change, so it is only for callers that load again soon; PL_SEQ_CST is for callers that were woken
 * because of a change.
 * Threads: any.
 *
 *     if (pl_flag_load(pending, PL_RELAXED)) follow(); */
#ifndef PL_FLAG_H
#define PL_FLAG_H

#include <stdatomic.h>

enum pl_order { PL_RELAXED = 0, PL_ACQUIRE = 1, PL_SEQ_CST = 2 };

typedef struct pl_flag {
    atomic_int set;
} pl_flag;

/* Returns 1 if set, else 0. `order` is an enum pl_order. */
int pl_flag_load(const pl_flag *flag, int order);
void pl_flag_set(pl_flag *flag);
void pl_flag_clear(pl_flag *flag);

#endif
