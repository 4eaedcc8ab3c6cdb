/* clone: a group gets its store and an instance of everything that is loaded, in one step.
 *
 * What a new group needs is known: the memory all share, a table, a stack pointer, and the
 * operation that loads what there is. All of it is made here, without Python and without the
 * GIL, on the thread of the parent: the child finds its group ready, and a failure is the
 * parent's to report.
 *
 * Blocking: as long as initialisers of guest modules run. The caller holds topology token and
 * write lock, and nobody else knows the group. */
#ifndef PL_CLONE_H
#define PL_CLONE_H

#include "epoch.h"
#include "replay.h"

typedef struct pl_clone {
    pl_engine *engine;
    pl_group *group;
    uintptr_t handle; /* of the group, for `callback` and `check` */
    pl_process *process;
    pl_host_callback callback;
    pl_check check;
    pl_watch *watch;
    int64_t memory_limit; /* of each memory and table of the store, negative for none */
    int64_t table_limit;
    const pl_extern *memory;
    const pl_type *table;         /* wasm_tabletype_t; NULL if the main module brings it */
    const pl_type *stack_pointer; /* wasm_globaltype_t; NULL if the main module brings it */
    uint32_t stack_top;
    const pl_operation *snapshot;
    const pl_block *blocks; /* thread-local blocks of this group, in place of the operation's own */
    size_t block_count;
    /* What came of it: NULL or the caller's, also if it failed. */
    pl_store *store;
    pl_instances *instances;
} pl_clone;

/* Answers 0, or -1 with the error record in `instances` (NULL: there is no memory). */
int pl_clone_group(pl_clone *clone);

#endif
