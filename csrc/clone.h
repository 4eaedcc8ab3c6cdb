/* clone: creates the store of a new group, with an instance of every loaded library, in one step.
 *
 * All inputs of a new group are known: the shared memory, a table, a stack pointer, and the
 * operation that loads all libraries (the snapshot). The group is built here without Python and
 * without the GIL, on the thread of the parent: the child finds its group ready, and the parent
 * reports a failure.
 *
 * Protects: nothing.
 * Requires: the topology token and the write lock; no other thread knows the group.
 * Blocks: as long as initializers of guest modules run.
 * Returns: pl_clone_group: 0, or -1 with the error record in `instances`.
 * Threads: the parent's. */
#ifndef PL_CLONE_H
#define PL_CLONE_H

#include "epoch.h"
#include "replay.h"

typedef struct pl_clone {
    pl_engine *engine;
    pl_group *group;
    uintptr_t handle; /* of the group: the argument of `callback` and `check` */
    pl_process *process;
    pl_host_callback callback;
    pl_check check;
    pl_watch *watch;
    int64_t memory_limit; /* of each memory and table of the store, negative for none */
    int64_t table_limit;
    const pl_extern *memory;
    const pl_type *table;         /* wasm_tabletype_t; NULL if the main module exports it */
    const pl_type *stack_pointer; /* wasm_globaltype_t; NULL if the main module exports it */
    uint32_t stack_top;
    const pl_operation *snapshot;
    const pl_block *blocks; /* thread-local blocks of this group, in place of the snapshot's own */
    size_t block_count;
    /* Results, owned by the caller, also after a failure; NULL if not created. */
    pl_store *store;
    pl_instances *instances;
} pl_clone;

/* Returns 0, or -1 with the error record in `instances` (NULL if out of memory). */
int pl_clone_group(pl_clone *clone);

#endif
