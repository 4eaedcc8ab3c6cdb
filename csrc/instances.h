/* instances: the instances of one group: one for every library, in one store, with one table, over
 * the shared memory.
 *
 * The effects of a load or an unload on a group are all here and in replay.h, in C: a follower
 * replays them without the GIL, and a leader runs the same code. An error is stored in a
 * pl_error_record, from which Python makes an exception.
 *
 * Lazy binding: the first call of a trampoline calls the resolver of the library that owns the
 * trampoline (library.h: other libraries may use it), in this group. If its target is known it is
 * bound here, without a lock and without Python: the group is RUNNING, and nothing is unloaded
 * while it is. Otherwise the Python callback decides.
 *
 * Protects: nothing.
 * Requires: the thread of the group; for the main group, the holder of the main lock. It must
 * outlive the last guest call of its store; it may be freed before or after the store.
 * Blocks: as long as start functions and initializers of guest modules run.
 * Returns: 0, or -1 with the error record, unless noted otherwise.
 * Threads: one at a time. */
#ifndef PL_INSTANCES_H
#define PL_INSTANCES_H

#include "atomics.h"
#include "call.h"
#include "closures.h"
#include "hostfn.h"
#include "library.h"
#include "dlsym_cache.h"
#include "wrappers.h"
#include "wasi.h"

/* wasmtime types of objects that the core creates; one set per process. */
typedef struct pl_types {
    const pl_type *cell;     /* wasm_globaltype_t: mutable i32 */
    const pl_type *constant; /* immutable i32 */
    const pl_type *resolve;  /* wasm_functype_t: (i32) -> () */
    const pl_type *waits[3]; /* of the wait hooks, by enum pl_atomics_kind */
} pl_types;

enum pl_stage {
    PL_STAGE_NONE = 0,
    PL_STAGE_ROOM = 1,  /* out of memory */
    PL_STAGE_TABLE = 2, /* the table cannot have `detail` slots: failure.error */
    PL_STAGE_TAKEN = 3, /* slot `detail` is taken */
    /* source `detail` is a memory, table or stack pointer that the group does not have */
    PL_STAGE_OBJECT = 4,
    PL_STAGE_EXPORT = 5,      /* export `detail` of `library` is missing */
    PL_STAGE_TLS_CELL = 6,    /* source `detail` is thread-local data that does not exist yet */
    PL_STAGE_MAKE = 7,        /* a global or tag cannot be created: failure.error */
    PL_STAGE_INSTANTIATE = 8, /* failure */
    /* the thread-local block cannot be initialised: failure, of pl_status `detail` */
    PL_STAGE_TLS = 9
};

typedef struct pl_error_record {
    int stage; /* enum pl_stage */
    uint32_t detail;
    pl_library *library; /* the library that failed, or NULL; valid as long as the operation is */
    pl_failure failure;  /* its receiver owns it */
} pl_error_record;

/* The name of the table of wait hooks in a library whose wait instructions were rewritten. */
#define PL_WAITS "__pylinker_waits"

typedef struct pl_calls pl_calls;

/* A host function in one group. */
typedef struct pl_import {
    pl_hostfn function; /* first: hostfn.c knows only this */
    pl_instances *instances;
    const pl_flag *flag; /* of the group's linker, cached here */
    const pl_cancel *cancel;
    const pl_flag *nudge; /* of the group */
    /* of a resolver, which owns a reference: code of an unloaded library may still be running */
    pl_library *library;
    uint32_t first; /* of a resolver: the number of the first trampoline of its module */
    uint32_t type;  /* of a callback (callback.h) */
    struct pl_import *next;
} pl_import;

void pl_types_set(const pl_types *types);
const pl_types *pl_types_get(void);

/* `callback` and `check` are Python functions, `handle` is the argument of `check`. NULL if out of
 * memory. */
pl_instances *pl_instances_new(pl_group *group, pl_context *context, pl_process *process,
                               pl_host_callback callback, pl_check check, uintptr_t handle);
void pl_instances_free(pl_instances *instances);

pl_group *pl_instances_group(const pl_instances *instances);
pl_context *pl_instances_context(const pl_instances *instances);
pl_error_record *pl_instances_error(pl_instances *instances);
/* The dlsym cache of this group. */
pl_dlsym_cache *pl_instances_dlsym_cache(pl_instances *instances);
/* The cached types of its slots (call_dynamic.h), and its closures. */
pl_calls *pl_instances_calls(const pl_instances *instances);
pl_closures *pl_instances_closures(const pl_instances *instances);
/* Whether its thread has destructors to run when it exits; used by thread.h. */
int pl_instances_exits(const pl_instances *instances);
void pl_instances_set_exits(pl_instances *instances, int exits);
/* The number of its thread in the guest; 0 until it is set. */
uint32_t pl_instances_thread(const pl_instances *instances);
void pl_instances_set_thread(pl_instances *instances, uint32_t thread);

/* The objects that all instances share; NULL until set. WASI calls work once there is a memory and
 * the process is connected (wasi.h). */
void pl_instances_set_memory(pl_instances *instances, const pl_extern *memory);
void pl_instances_set_table(pl_instances *instances, const pl_extern *table);
void pl_instances_set_stack_pointer(pl_instances *instances, const pl_extern *global);
const pl_extern *pl_instances_memory(const pl_instances *instances);
const pl_extern *pl_instances_table(const pl_instances *instances);
const pl_extern *pl_instances_stack_pointer(const pl_instances *instances);
/* Sets the top of the stack; does nothing if there is no stack pointer. */
void pl_instances_set_stack_top(pl_instances *instances, uint32_t top);
/* Return the bytes of the memory, or the slots of the table; 0 if there is none. */
uint64_t pl_instances_memory_size(const pl_instances *instances);
uint64_t pl_instances_table_size(const pl_instances *instances);
/* Returns the memory [address, address + size), or NULL if that is out of bounds. A memory that is
 * not shared moves when it grows. */
uint8_t *pl_instances_bytes(const pl_instances *instances, uint64_t address, uint64_t size);
/* Fills a part of the memory with zeros. Returns -1 without doing anything if it is out of
 * bounds. */
int pl_instances_zero(pl_instances *instances, uint64_t address, uint64_t size);
/* Connects the WASI calls that were created before the process was. */
void pl_instances_connect(pl_instances *instances);

/* Instantiates a library and fills its slots. `block` is the address of the thread-local block to
 * initialize, 0 where the copy in the library is used. With `replaying` the slots must be empty, as
 * the leader found them. Returns 0, or -1 with the error record; pl_instances_drop then removes
 * what was created. */
int pl_instances_load(pl_instances *instances, pl_library *library, uint32_t block, int replaying);
/* Makes a loaded library create its thread-local block. Returns 0, or -1 with the error record. */
int pl_instances_make_block(pl_instances *instances, pl_library *library);
/* Removes a library, also a partially loaded one; wasmtime frees the instance with the store. */
void pl_instances_drop(pl_instances *instances, pl_library *library);
/* Returns the serial number of a loaded library in this group, which is never 0 and never reused; 0
 * if it is not loaded. */
uint64_t pl_instances_serial(const pl_instances *instances, const pl_library *library);
/* Looks up export `index`. Returns 0, or -1 if the library is not loaded or the export is
 * missing. */
int pl_instances_export(pl_instances *instances, const pl_library *library, uint32_t index,
                        pl_extern *result);
/* Returns the address of the library's thread-local block in this group, 0 if it has none. Read
 * from the library's own __tls_base, because a thread of the guest may install its own block. */
uint32_t pl_instances_tls_base(pl_instances *instances, const pl_library *library);
/* Returns how often trampolines of this library had to be resolved, including those that other
 * libraries use. */
uint64_t pl_instances_resolver_entries(const pl_instances *instances, const pl_library *library);
/* Binds trampoline `index` to an export. Returns 0, or -1 if one of the two libraries is not
 * loaded. */
int pl_instances_bind(pl_instances *instances, const pl_library *library, uint32_t index,
                      const pl_library *target, uint32_t export_index);
/* Restores the lazy stub. */
void pl_instances_unbind(pl_instances *instances, const pl_library *library, uint32_t index);

/* Creates the host function of a source, which lives as long as the store. Returns 0, or -1 with
 * the error record. */
int pl_instances_host(pl_instances *instances, const pl_source *source, pl_func *result);
/* Calls a function of the group's store, which is RUNNING already. Returns an enum pl_status. After
 * a trap or an exit the stack pointer is restored. */
int pl_instances_invoke(pl_instances *instances, const pl_func *func, pl_value *values,
                        size_t count, pl_failure *failure);
/* The same with the entry of call.h: sets RUNNING first, and is a safepoint. */
int pl_instances_call(pl_instances *instances, const pl_func *func, pl_value *values, size_t count,
                      pl_failure *failure);
/* Calls an exported function of type () -> () in the same way; -1 if the library has no such
 * function here. */
int pl_instances_run(pl_instances *instances, const pl_library *library, uint32_t index,
                     pl_failure *failure);
/* Numbers the outermost calls, so that pl_cancel_stop can stop one. For the only group of a linker,
 * before it runs guest code. */
void pl_instances_number_calls(pl_instances *instances);
/* Returns whether such a call is in progress; the store must not be freed then. Any thread; a call
 * that begins or ends meanwhile may be missed. */
int pl_instances_is_running(const pl_instances *instances);

#endif
