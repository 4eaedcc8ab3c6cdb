/* wasi: a guest's WASI call, forwarded to the one store that has the process.
 *
 * wasmtime keeps a WASI process (its files, its clocks) in one store, and finds the guest's memory through the caller. So each function that
 * a guest imports is a pl_wasi_call: it calls the function of a shim module, in the store with the process, that has the guest's memory.
 * In a threaded program that is another store than the caller's, and a mutex makes the threads take turns; the memory is shared, so the
 * raw arguments mean the same there.
 *
 * What would keep others waiting does not hold the mutex: a sleep (poll_oneoff on clocks alone) and the wait for standard input are done
 * here, interruptibly. The group is PARKED during every call.
 *
 * Blocking: as the function does. Threads: any number of callers; what a pl_wasi_call points to is fixed before its first call.
 *
 *     pl_wasi_call call = {.process = process, .group = group, .context = context, .kind = PL_WASI_PLAIN, .memory = memory};
 *     call.target = shim_function;
 *     pl_wasi_new(context, type, &call, &func);
 */
#ifndef PL_WASI_H
#define PL_WASI_H

#include "call.h"
#include "object.h"

typedef struct pl_process pl_process;

enum pl_wasi_kind {
    PL_WASI_PLAIN = 0,
    PL_WASI_POLL = 1, /* poll_oneoff */
    PL_WASI_READ = 2  /* fd_read: descriptor 0 may have to wait */
};

typedef struct pl_wasi_call {
    pl_process *process;
    pl_group *group;     /* of the caller */
    pl_context *context; /* of the caller: where `memory` is */
    int kind;            /* enum pl_wasi_kind */
    pl_check check;      /* gets `handle` now and then during a wait; not 0 ends it with a trap. May be NULL */
    uintptr_t handle;
    pl_extern memory;
    pl_func target; /* of the shim */
} pl_wasi_call;

/* The process of the store behind `context`. `waits` says that descriptor 0 is this process's own standard input, to be waited for. NULL
 * if there is no memory. */
pl_process *pl_process_new(pl_context *context, int waits);
void pl_process_free(pl_process *process);

/* Makes `call` callable in the store of `context`. `type` is a wasm_functype_t; the store copies it. */
void pl_wasi_new(pl_context *context, const pl_type *type, pl_wasi_call *call, pl_func *result);

#endif
