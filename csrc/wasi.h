/* wasi: WASI calls of guests, forwarded to the one store that has the process.
 *
 * wasmtime keeps a WASI process (its files, its clocks) in one store, and finds the guest's memory
 * through the caller. So each function that a guest imports is a pl_wasi_call: it calls the
 * function of a shim module, in the store of the process, that has the guest's memory. In a
 * threaded program that is not the caller's store, and a mutex serializes the threads; the memory
 * is shared, so the raw arguments are valid there.
 *
 * Calls that a guest may make in a loop (the time, to yield) are computed here, without the mutex
 * and without parking: such a call is a safepoint. During all others the group is PARKED.
 *
 * Waiting. wasmtime gets only calls that do not block; the waits are here, without the mutex, so a
 * call that waits delays no call of another thread. The waits are:
 *
 *   - fd_read and fd_write of standard input, output and error. The core owns these three streams:
 *     it reads and writes the host's descriptors itself, and wasmtime only keeps their numbers.
 *     pl_wasi_call follows fd_close and fd_renumber. A descriptor that was opened for this process
 *     has O_NONBLOCK; those of the host (0, 1, 2) are shared with other processes and keep their
 *     flags, so each transfer uses RWF_NOWAIT or MSG_DONTWAIT, or a descriptor reopened through
 *     /proc. If the system has none of them, poll is called first and at most PIPE_BUF bytes are
 *     written; then, and only then, another process that uses the same pipe at the same moment can
 *     make a transfer block.
 *   - poll_oneoff, all of it. For a descriptor that is not a stream wasmtime is called; that is a
 *     file, which is always ready.
 *   - Opening a FIFO, and devices such as terminals. wasmtime could not read them (it reads at
 *     offsets) and opens without O_NONBLOCK. So path_open, and path_filestat_set_times, which opens
 *     the file that it changes, check the type first and refuse them with NXIO. (Below a granted
 *     directory that is one fstatat; wasmtime is called only if it does not show a file or
 *     directory.) No guest can act between the check and the opening: the path is copied to a
 *     memory that no guest has (of the private shim), and a mutex excludes path_link, path_rename
 *     and path_symlink of all programs in this process meanwhile. Another process that renames a
 *     FIFO into a granted directory at that moment is not excluded.
 *
 * A wait ends when the linker is cancelled, when `check` returns nonzero on the main thread, and
 * when a delivered signal stops the group. It sleeps in poll for a slice (PL_SLICE) at most and
 * then checks all three; a signal of its own thread ends the slice. It has an absolute deadline, so
 * a signal whose handler returns does not extend it.
 *
 * The store of a program without threads is the guest's own. Its calls take no mutex. While the
 * private memory or the naming mutex is in use its epoch callback is deferred, because a signal
 * handler that runs there could call WASI as well.
 *
 * wasmtime executes calls on files in a runtime of threads that it creates at the first such call
 * of the process. It aborts the process if that fails. So before that call the core opens a few
 * descriptors and maps some memory, temporarily; if that fails the call returns MFILE or NOMEM.
 * Another thread of the host that takes the last descriptors between the two is not excluded.
 *
 * The monotonic clock begins with the process, as wasmtime's does, so that a guest may use both.
 *
 * Protects: the mutex of a process serializes its store. It is taken before the naming mutex.
 * Neither is held during a wait, or while `check` runs.
 * Requires: the leader of a load provides the functions of a process before the library that calls
 * them is created, and their targets if the memory exists already.
 * Blocks: as the called function does.
 * Memory order: the clocks and the places of streams are relaxed atomics.
 * Threads: any number of callers.
 *
 *     pl_process_provide(process, index, type, PL_WASI_PLAIN);
 *     pl_process_join(process, linker, "wasi_snapshot_preview1", names, count, shim, &memory,
 *                     &failure);
 *     pl_process_join_private(process, linker, "wasi_snapshot_preview1", private_shim, &failure);
 *     pl_wasi_call call = {.process = process, .group = group, .context = context};
 *     pl_wasi_connect(&call, index, &memory);
 *     pl_wasi_new(context, pl_process_type(process, index), &call, &call.self); */
#ifndef PL_WASI_H
#define PL_WASI_H

#include "call.h"
#include "wrappers.h"

typedef struct pl_process pl_process;

enum pl_wasi_kind {
    PL_WASI_PLAIN = 0,      /* wasmtime computes it from its state */
    PL_WASI_POLL = 1,       /* poll_oneoff */
    PL_WASI_READ = 2,       /* fd_read */
    PL_WASI_CLOCK = 3,      /* clock_time_get */
    PL_WASI_YIELD = 4,      /* sched_yield */
    PL_WASI_WRITE = 5,      /* fd_write: of several buffers, all are written */
    PL_WASI_RESOLUTION = 6, /* clock_res_get */
    PL_WASI_OPEN = 7,       /* path_open */
    PL_WASI_TIMES = 8,      /* path_filestat_set_times */
    PL_WASI_NAME = 9,       /* path_link, path_rename, path_symlink */
    PL_WASI_CLOSE = 10,     /* fd_close */
    PL_WASI_RENUMBER = 11,  /* fd_renumber */
    PL_WASI_FILE = 12       /* any other of a file or directory */
};

enum {
    PL_WASI_FUNCTIONS = 64, /* room for all of preview 1 */
    PL_WASI_PARAMETERS = 9, /* the maximum of one function */
    PL_WASI_STREAMS = 3,
    PL_WASI_MOST = 65536 /* buffers or subscriptions in one call */
};

/* The exports of the private shim, in this order: path_filestat_get, path_open,
 * path_filestat_set_times, poll_oneoff. */
enum pl_wasi_private {
    PL_WASI_PRIVATE_LOOK = 0,
    PL_WASI_PRIVATE_OPEN = 1,
    PL_WASI_PRIVATE_TIMES = 2,
    PL_WASI_PRIVATE_POLL = 3,
    PL_WASI_PRIVATE_FUNCTIONS = 4
};

typedef struct pl_wasi_call {
    pl_process *process;
    pl_group *group;     /* of the caller */
    pl_context *context; /* of the caller: where `memory` is */
    /* called with `handle` regularly during a wait; nonzero ends it with a trap. May be NULL */
    pl_check check;
    uintptr_t handle;
    int kind;               /* enum pl_wasi_kind; this and the next are set by pl_wasi_connect */
    const char *parameters; /* see pl_process_provide */
    pl_extern memory;
    pl_func target; /* of the shim */
    pl_func self;   /* the function that the guest imports */
} pl_wasi_call;

/* Creates the process of the store behind `context`, whose clock begins now. Its standard streams
 * are the host's descriptors 0, 1 and 2, also if the host replaces these later. NULL if out of
 * memory. */
pl_process *pl_process_new(pl_context *context);
/* Sets stream `index` to a duplicate of the host's `descriptor`, owned by the process, which
 * becomes non-blocking if it can block, together with all descriptors of its open file description.
 * Before any guest runs. Returns 0 or an errno. */
int pl_process_set_stream(pl_process *process, uint32_t index, int descriptor);
/* Sets the directory of the guest's descriptor `place`, which is granted, to that of the host's
 * `descriptor`; the process owns a duplicate. Without it, checks of paths below the directory take
 * longer. Before any guest runs. Returns 0 or an errno. */
int pl_process_add_directory(pl_process *process, uint32_t place, int descriptor);
/* Limits the descriptors that the guest may have open at one time to `most` besides its initial
 * ones (granted directories and standard streams); path_open then returns MFILE. Closing an initial
 * one allows one more. Unlimited without this call. Before any guest runs. */
void pl_process_set_descriptors(pl_process *process, uint32_t most);
void pl_process_free(pl_process *process);

/* wasmtime refuses some calls with an error that makes the guest trap. From now on such a call
 * returns an error number, as in WASIX: `number` for a pointer out of bounds of the guest's memory,
 * else EINVAL. Before any guest runs. */
void pl_process_set_fault(pl_process *process, int32_t number);

/* Sets the guest's clock `id` to `now`, in nanoseconds, for this process alone. Returns 0 if there
 * is no such clock, else 1. Any thread; never blocks. */
int pl_process_set_clock(pl_process *process, uint32_t id, uint64_t now);

/* Declares function `index` (below PL_WASI_FUNCTIONS) of `type`, a wasm_functype_t, and `kind`.
 * `parameters` has a letter for each parameter that describes its use of the guest's memory; it and
 * the type live as long as the process.
 *
 *     i l      a number of 32 or 64 bits
 *     2 4 8    a pointer to as many bytes
 *     t f      a pointer to a descriptor's or a file's status: 24 or 64 bytes
 *     b        a pointer to bytes; the next parameter is their count
 *     v        a pointer to buffers; the next parameter is their count
 *     s        a pointer to an array of pointers to strings, and the next parameter to the
 *              strings: of their own sizes */
void pl_process_provide(pl_process *process, uint32_t index, const pl_type *type, int kind,
                        const char *parameters);
/* Sets the shim's function of `index` to `target`. */
void pl_process_connect(pl_process *process, uint32_t index, const pl_func *target);
/* Instantiates the shim, which imports the memory and then the functions with these names from a
 * namespace of the linker, and exports functions of the same names: they are functions 0 to `count`
 * (at most PL_WASI_FUNCTIONS). Returns a pl_status; PL_ERROR with an empty `failure` if one of them
 * is missing. */
int pl_process_join(pl_process *process, const pl_linker *linker, const char *space,
                    const char *const *names, uint32_t count, const pl_module *shim,
                    const pl_extern *memory, pl_failure *failure);
/* Instantiates the private shim, which imports the functions of enum pl_wasi_private, exports them
 * by the same names, and exports its own memory of one page. Returns as pl_process_join. */
int pl_process_join_private(pl_process *process, const pl_linker *linker, const char *space,
                            const pl_module *shim, pl_failure *failure);
const pl_type *pl_process_type(const pl_process *process, uint32_t index);

/* Connects `call` to function `index` of its process, for a guest with this memory. Until the
 * process is connected, calls trap. */
void pl_wasi_connect(pl_wasi_call *call, uint32_t index, const pl_extern *memory);

/* Makes `call` callable in the store of `context`. `type` is a wasm_functype_t, which the store
 * copies. */
void pl_wasi_new(pl_context *context, const pl_type *type, pl_wasi_call *call, pl_func *result);

#endif
