/* guest: access to the guest's memory, and the final safepoint, of the core's own host functions.
 * Internal to the core: cffi does not see it.
 *
 * Protects: nothing.
 * Requires: the group is RUNNING.
 * Blocks: pl_guest_look, as pl_group_safepoint_poll.
 * Memory order: relaxed.
 * Threads: the group's. */
#ifndef PL_GUEST_H
#define PL_GUEST_H

#include "instances.h"

/* Returns whether a RUNNING group has nothing to do: no operation is pending, the linker is not
 * cancelled, and the group was not nudged. Relaxed: a recent change may be missed, so it is for
 * callers that check again soon. (A running group is behind only while the flag is set: the leader
 * waits for it.) */
static inline int pl_is_quiet(const pl_flag *flag, const pl_cancel *cancel, const pl_flag *nudge) {
    return atomic_load_explicit(&flag->set, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&cancel->cause, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&nudge->set, memory_order_relaxed) == 0;
}

/* Returns the guest's memory [address, address + size), or NULL if that is out of bounds. Other
 * threads may write it meanwhile; it never shrinks, and does not move. */
static inline uint8_t *pl_guest_bytes(const pl_import *import, uint64_t address, uint64_t size) {
    return pl_instances_bytes(import->instances, address, size);
}

/* The safepoint at the end of a host function that did not park: two or three relaxed loads if
 * there is nothing to do. */
static inline pl_trap *pl_guest_look(const pl_import *import) {
    return pl_is_quiet(import->flag, import->cancel, import->nudge)
               ? NULL
               : pl_host_poll(import->function.group);
}

#endif
