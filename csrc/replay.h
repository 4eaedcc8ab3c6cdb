/* replay: operations as data, and how a group carries one out.
 *
 * An operation is a record of outcomes (library.h): carrying it out decides nothing, needs no
 * lock but the one the caller has, and gives the same in every group. The leader carries it out
 * before it publishes it, a new group to catch up with all that is loaded, a follower when the
 * rendezvous asks for it (pl_follower), under a read lock, without the GIL.
 *
 * A follower that was parked may come to the load of a library that has been unloaded since
 * (pl_library_is_unloaded): its memory may be another's by now, so it is skipped, with all else that
 * concerns it.
 *
 * Blocking: as long as start functions and initialisers of guest modules run. */
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

/* Slot `slot` holds a host function, of the group itself. */
typedef struct pl_filling {
    pl_source source;
    uint64_t slot;
} pl_filling;

/* The thread-local block of `library` for group `group` (its handle in the rendezvous) is at
 * `address`, or PL_BLOCK_OWN: the library makes it itself, which takes functions of others, so
 * that is done once all are loaded. */
#define PL_BLOCK_OWN UINT64_MAX
typedef struct pl_block {
    pl_library *library;
    uintptr_t group;
    uint64_t address;
} pl_block;

/* Trampoline `index` of `library` is lazy again. */
typedef struct pl_unbinding {
    pl_library *library;
    uint64_t index;
} pl_unbinding;

/* Slots [first, first + count). */
typedef struct pl_slots {
    uint32_t first;
    uint32_t count;
} pl_slots;

/* First the table grows to `table_size` slots (one that comes with a library does as soon as it
 * is there), `emptied` are emptied, `unbound` unbound, `dropped` dropped; then `loaded` are
 * loaded in this order, `patches` made, `fillings`, and `closures` prepared. */
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
    pl_slots *noted; /* that are for closures from now on */
    size_t noted_count;
    pl_closure *closures;
    size_t closure_count;
} pl_operation;

/* Carries `operation` out for the group with handle `group`: 0, or -1 with the error record in
 * `instances`. With `replaying`, slots that are to be filled must be empty: the leader found
 * them so. */
int pl_replay_operation(pl_instances *instances, const pl_operation *operation, uintptr_t group,
                        int replaying);

/* A group that follows in C. It stays where it is as long as the group. */
typedef struct pl_follower {
    pl_instances *instances;
    const pl_log *log;
    uintptr_t group; /* its handle in the rendezvous */
    /* gets `group` when an operation could not be carried out, before the linker is cancelled
     * for it */
    pl_check failed;
} pl_follower;

/* Has the rendezvous carry operations out this way; before the group has anything to follow. */
void pl_follower_install(pl_follower *follower);

#endif
