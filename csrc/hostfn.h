/* hostfn: the guest calls a host function.
 *
 * A pl_hostfn is what stands behind one imported function: a C callback and a handle that tells the callback which Python object
 * is meant. It must stay where it is until its store is gone; wasmtime keeps its address.
 *
 * The callback answers 0, or anything else after writing a message: the guest then traps with that message, and every frame
 * between the host call and the host's own call is unwound. A guest therefore never sees a half-done host call.
 *
 * Blocking: as the callback does. Threads: called on the thread that runs the store; `entries` is written by that thread only.
 *
 *     pl_hostfn resolve = {.callback = my_callback, .handle = 7};
 *     pl_hostfn_new(context, type, &resolve, &func);
 */
#ifndef PL_HOSTFN_H
#define PL_HOSTFN_H

#include "call.h"

/* Longest message a callback may write, in bytes with the terminating NUL. */
enum { PL_MESSAGE_CAPACITY = 1024 };

typedef int (*pl_host_callback)(uintptr_t handle, pl_value *values, size_t count, char *message, size_t capacity);

typedef struct pl_hostfn {
    pl_host_callback callback;
    uintptr_t handle;
    uint64_t entries; /* how often the guest came in */
} pl_hostfn;

/* Makes `function` callable in the store of `context`. `type` is a wasm_functype_t; the store copies it. */
void pl_hostfn_new(pl_context *context, const pl_type *type, pl_hostfn *function, pl_func *result);

#endif
