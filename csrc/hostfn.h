/* hostfn: calls of host functions that are written in Python.
 *
 * A pl_hostfn is the environment of one imported function: a C callback and a handle that
 * identifies the Python object. Its address must not change until its store is freed, because
 * wasmtime keeps it.
 *
 * The callback returns 0, or nonzero after writing a message: the guest then traps with that
 * message, and every frame between the host call and the host's own call is unwound. A guest
 * therefore never observes a partial host call.
 *
 * States: the group is PARKED while the callback runs, so Python, the GIL and any wait of the
 * callback delay no other group; on the way back the group replays pending operations, and if its
 * linker was cancelled meanwhile the guest traps. If the group was nudged, the signal is delivered.
 *
 * Protects: nothing.
 * Blocks: as long as the callback does.
 * Threads: called on the thread that runs the store; only that thread writes `entries`.
 *
 *     pl_hostfn resolve = {.callback = my_callback, .group = group, .handle = 7};
 *     pl_hostfn_new(context, type, &resolve, &func); */
#ifndef PL_HOSTFN_H
#define PL_HOSTFN_H

#include "call.h"

/* The capacity of a message in bytes, with the terminating NUL. */
enum { PL_MESSAGE_CAPACITY = 1024 };

typedef int (*pl_host_callback)(uintptr_t handle, pl_value *values, size_t count, char *message,
                                size_t capacity);

typedef struct pl_hostfn {
    pl_host_callback callback;
    pl_group *group; /* of the store, or NULL if there is no linker to follow */
    uintptr_t handle;
    uint64_t entries; /* the number of calls by the guest */
} pl_hostfn;

/* Returns a trap with this text. */
pl_trap *pl_trap_of(const char *text);

/* The function that wasmtime calls: `environment` is the pl_hostfn. */
pl_trap *pl_host_enter(void *environment, pl_caller *caller, pl_value *values, size_t count);

/* Ends a host call of `group` that trapped with `trap` or not (NULL): restores the group's state,
 * replays pending operations, and delivers a nudge (group.h). Returns `trap`, or a new trap if
 * there was none and the linker is cancelled or the guest is to stop. */
pl_trap *pl_host_return(pl_group *group, int before, pl_trap *trap);

/* The same at the end of a host call that did not park: the group is RUNNING. */
pl_trap *pl_host_poll(pl_group *group);

/* Makes `function` callable in the store of `context`. `type` is a wasm_functype_t, which the store
 * copies. */
void pl_hostfn_new(pl_context *context, const pl_type *type, pl_hostfn *function, pl_func *result);

#endif
