/* wasi: a guest's WASI call, forwarded to the one store that has the process.
 *
 * wasmtime keeps a WASI process (its files, its clocks) in one store, and finds the guest's memory through the caller. So each function that
 * a guest imports is a pl_wasi_call: it calls the function of a shim module, in the store with the process, that has the guest's memory.
 * In a threaded program that is another store than the caller's, and a mutex makes the threads take turns; the memory is shared, so the
 * raw arguments mean the same there.
 *
 * What would keep others waiting does not hold the mutex: a sleep (poll_oneoff on clocks alone) and the wait for standard input are done
 * here, interruptibly. What a guest may ask for in a loop (the time, to yield) is answered here, too, without the mutex and without parking:
 * such a call is a safepoint. During all others the group is PARKED.
 *
 * The monotonic clock begins with the process, as wasmtime's does, so that a guest may use both.
 *
 * Blocking: as the function does. Threads: any number of callers; what a process provides is fixed before a library is made that calls it,
 * by the leader of its load, and so are its targets if the memory is there already.
 *
 *     pl_process_provide(process, index, type, PL_WASI_PLAIN);
 *     pl_process_join(process, linker, "wasi_snapshot_preview1", names, count, shim, &memory, &failure);
 *     pl_wasi_call call = {.process = process, .group = group, .context = context};
 *     pl_wasi_connect(&call, index, &memory);
 *     pl_wasi_new(context, pl_process_type(process, index), &call, &call.self);
 */
#ifndef PL_WASI_H
#define PL_WASI_H

#include "call.h"
#include "object.h"

typedef struct pl_process pl_process;

enum pl_wasi_kind {
    PL_WASI_PLAIN = 0,
    PL_WASI_POLL = 1, /* poll_oneoff */
    PL_WASI_READ = 2, /* fd_read: descriptor 0 may have to wait */
    PL_WASI_CLOCK = 3, /* clock_time_get */
    PL_WASI_YIELD = 4, /* sched_yield */
    PL_WASI_WRITE = 5, /* fd_write: of several buffers, all are written */
    PL_WASI_RESOLUTION = 6 /* clock_res_get */
};

enum { PL_WASI_FUNCTIONS = 64 }; /* room for all of preview 1 */

typedef struct pl_wasi_call {
    pl_process *process;
    pl_group *group;     /* of the caller */
    pl_context *context; /* of the caller: where `memory` is */
    pl_check check;      /* gets `handle` now and then during a wait; not 0 ends it with a trap. May be NULL */
    uintptr_t handle;
    int kind;            /* enum pl_wasi_kind; this and what follows: by pl_wasi_connect */
    pl_extern memory;
    pl_func target;      /* of the shim */
    pl_func self;        /* what the guest imports */
} pl_wasi_call;

/* The process of the store behind `context`, whose clock begins now. `waits` says that descriptor 0 is this process's own standard input, to be waited for. NULL
 * if there is no memory. */
pl_process *pl_process_new(pl_context *context, int waits);
void pl_process_free(pl_process *process);

/* What wasmtime refuses, it does with an error that makes the guest trap. From now on such a call answers an error number, as WASIX has
 * it: `number` for a pointer that leads out of the guest's memory, else EINVAL. Before any guest runs. */
void pl_process_set_fault(pl_process *process, int32_t number);

/* Sets the guest's clock `id` to `now`, in nanoseconds, for this process alone. 0 if there is no such clock, else 1. Any thread, never
 * blocks. */
int pl_process_set_clock(pl_process *process, uint32_t id, uint64_t now);

/* Function `index` (below PL_WASI_FUNCTIONS) has `type`, a wasm_functype_t that lives as long as the process, and is of `kind`. */
void pl_process_provide(pl_process *process, uint32_t index, const pl_type *type, int kind);
/* It is the shim's function `target`. */
void pl_process_connect(pl_process *process, uint32_t index, const pl_func *target);
/* Instantiates the shim, which imports the memory and then the functions with these names, of that space of the linker's, and exports
 * functions of the same names: they are functions 0 to `count` (at most PL_WASI_FUNCTIONS). A pl_status; PL_ERROR with an empty `failure` if one
 * of them is missing. */
int pl_process_join(pl_process *process, const pl_linker *linker, const char *space, const char *const *names, uint32_t count,
                    const pl_module *shim, const pl_extern *memory, pl_failure *failure);
const pl_type *pl_process_type(const pl_process *process, uint32_t index);

/* `call` is function `index` of its process, for a guest with this memory. If the process is not connected yet, calls trap. */
void pl_wasi_connect(pl_wasi_call *call, uint32_t index, const pl_extern *memory);

/* Makes `call` callable in the store of `context`. `type` is a wasm_functype_t; the store copies it. */
void pl_wasi_new(pl_context *context, const pl_type *type, pl_wasi_call *call, pl_func *result);

#endif
