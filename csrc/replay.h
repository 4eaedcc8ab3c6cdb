/* replay: operations as data, and their execution in a group.
 *
 * An operation is a record of decisions (library.h): its execution decides nothing, needs no lock
 * besides the one that the caller holds, and has the same result in every group. The leader
 * executes it before it publishes it, a new group executes the snapshot of all loaded libraries, a
 * follower replays it in the rendezvous (pl_follower), under a read lock, without the GIL.
 *
 * A follower that was parked may replay the load of a library that has been unloaded since
 * (pl_library_is_unloaded): the memory of the library may be reused by now, so its load is skipped,
 * with everything else that concerns it.
 *
 * Protects: nothing.
 * Requires: the write lock or a read lock of the linker.
 * Blocks: as long as start functions and initializers of guest modules run.
 * Returns: 0, or -1 with the error record in `instances`.
 * Threads: the group's. */
#ifndef PL_REPLAY_H
#define PL_REPLAY_H

#include "instances.h"
#include "log.h"

/* Slot `slot` holds export `export_index` of `library`. */
typedef struct pl_patch {
    pl_library *library;
    uint32_t slot;
    uint32_t export_index;
} pl_patch;

/* Slot `slot` holds a host function of the group. */
typedef struct pl_filling {
    pl_source source;
    uint64_t slot;
} pl_filling;

/* The thread-local block of `library` for group `group` (its handle in the rendezvous) is at
 * `address`; or PL_BLOCK_OWN: the library creates it, which calls functions of other libraries, so
 * it is done after all are loaded. */
#define PL_BLOCK_OWN UINT64_MAX
typedef struct pl_block {
    pl_library *library;
    uintptr_t group;
    uint64_t address;
} pl_block;

/* Trampoline `index` of `library` becomes unbound. */
typedef struct pl_unbinding {
    pl_library *library;
    uint64_t index;
} pl_unbinding;

/* Slots [first, first + count). */
typedef struct pl_slots {
    uint32_t first;
    uint32_t count;
} pl_slots;

/* The steps in their order: the table grows to `table_size` slots (a table that a library exports
 * grows once it exists), `emptied` are cleared, `unbound` unbound, `dropped` dropped; then `loaded`
 * are loaded in this order, `patches` applied, `fillings`, and `closures` prepared. */
typedef struct pl_operation {
    uint64_t table_size;
    pl_slots *emptied;
    size_t emptied_count;
    pl_unbinding *unbound;
    size_t unbound_count;
    pl_library **dropped;
    size_t dropped_count;
    pl_library **loaded;
    size_t loaded_count;
    pl_block *blocks;
    size_t block_count;
    pl_patch *patches;
    size_t patch_count;
    pl_filling *fillings;
    size_t filling_count;
    pl_slots *noted; /* slots reserved for closures */
    size_t noted_count;
    pl_closure *closures;
    size_t closure_count;
} pl_operation;

/* Executes `operation` for the group with handle `group`. With `replaying`, slots to be filled must
 * be empty, as the leader found them. Returns 0, or -1 with the error record in `instances`. */
int pl_replay_operation(pl_instances *instances, const pl_operation *operation, uintptr_t group,
                        int replaying);

/* A group that replays in C. Its address must not change as long as the group exists. */
typedef struct pl_follower {
    pl_instances *instances;
    const pl_log *log;
    uintptr_t group; /* its handle in the rendezvous */
    /* called with `group` when an operation failed, before the linker is cancelled for it */
    pl_check failed;
} pl_follower;

/* Makes the rendezvous replay operations in this way; before the group has anything to follow. */
void pl_follower_install(pl_follower *follower);

#endif
