/* hostfn: the guest calls a host function that is written in Python.
 *
 * A pl_hostfn is what stands behind one imported function: a C callback and a handle that tells
 * the callback which Python object is meant. It must stay where it is until its store is gone;
 * wasmtime keeps its address.
 *
 * The callback answers 0, or anything else after writing a message: the guest then traps with
 * that message, and every frame between the host call and the host's own call is unwound. A
 * guest therefore never sees a half-done host call.
 *
 * The group is PARKED while the callback runs, so Python, the GIL and whatever the callback
 * waits for hold nobody up; on its way back the group replays what it missed, and if its linker
 * was cancelled meanwhile the guest traps. If the group was nudged, the signal is delivered.
 *
 * Blocking: as the callback does. Threads: called on the thread that runs the store; `entries`
 * is written by that thread only.
 *
 *     pl_hostfn resolve = {.callback = my_callback, .group = group, .handle = 7};
 *     pl_hostfn_new(context, type, &resolve, &func); */
#ifndef PL_HOSTFN_H
#define PL_HOSTFN_H

#include "call.h"

/* Longest message a callback may write, in bytes with the terminating NUL. */
enum { PL_MESSAGE_CAPACITY = 1024 };

typedef int (*pl_host_callback)(uintptr_t handle, pl_value *values, size_t count, char *message,
                                size_t capacity);

typedef struct pl_hostfn {
    pl_host_callback callback;
    pl_group *group; /* that of the store, or NULL if there is no linker to follow */
    uintptr_t handle;
    uint64_t entries; /* how often the guest came in */
} pl_hostfn;

/* A trap with this text. */
pl_trap *pl_trap_of(const char *text);

/* What the guest enters: `environment` is the pl_hostfn. */
pl_trap *pl_host_enter(void *environment, pl_caller *caller, pl_value *values, size_t count);

/* Ends a host call of `group` that trapped with `trap` or not (NULL): puts the group's state
 * back, replays what is pending, and hears what it was nudged for (group.h). Answers `trap`, or
 * one of its own if there was none and the linker is cancelled or the guest is to stop. */
pl_trap *pl_host_return(pl_group *group, int before, pl_trap *trap);

/* Ends a host call that did not park: the same, the group being RUNNING. */
pl_trap *pl_host_poll(pl_group *group);

/* Makes `function` callable in the store of `context`. `type` is a wasm_functype_t; the store
 * copies it. */
void pl_hostfn_new(pl_context *context, const pl_type *type, pl_hostfn *function, pl_func *result);

#endif
