/* instances: what one group has of the program: an instance of every library, in one store, with
 * one table, over the shared memory.
 *
 * Everything a load or an unload does to a group is here and in replay.h, in C: a follower
 * carries it out without the GIL, and a leader runs the same code. What went wrong is left in a
 * pl_trouble for whoever can put it into words.
 *
 * Lazy binding: a trampoline that is called for the first time comes to the resolver of the
 * library that has it (library.h: it may be used by others), in this group. If its target is
 * known it is bound here, without a lock and without Python: the group is RUNNING, and nothing
 * is unloaded while it is. Otherwise the Python callback decides.
 *
 * Threads: one at a time, the group's own (the main group's: whoever has its turn). Blocking: as
 * long as start functions and initialisers of guest modules run. Life: it must outlive its
 * store's last guest call; it may be freed before or after the store. */
#ifndef PL_INSTANCES_H
#define PL_INSTANCES_H

#include "atomics.h"
#include "call.h"
#include "closures.h"
#include "hostfn.h"
#include "library.h"
#include "dlsym_cache.h"
#include "object.h"
#include "wasi.h"

/* Types the core makes objects of, made once per process. */
typedef struct pl_types {
    const pl_type *cell;     /* wasm_globaltype_t: mutable i32 */
    const pl_type *constant; /* immutable i32 */
    const pl_type *resolve;  /* wasm_functype_t: (i32) -> () */
    const pl_type *waits[3]; /* of the functions that stand in for waits, by enum pl_atomics_kind */
} pl_types;

enum pl_stage {
    PL_STAGE_NONE = 0,
    PL_STAGE_ROOM = 1,  /* there is no memory */
    PL_STAGE_TABLE = 2, /* the table cannot have `detail` slots: failure.error */
    PL_STAGE_TAKEN = 3, /* slot `detail` is taken */
    /* source `detail` wants a memory, table or stack pointer that there is not */
    PL_STAGE_OBJECT = 4,
    PL_STAGE_EXPORT = 5,      /* export `detail` of `library` is not there */
    PL_STAGE_TLS_CELL = 6,    /* source `detail` wants thread-local data that is not there yet */
    PL_STAGE_MAKE = 7,        /* a global or tag cannot be made: failure.error */
    PL_STAGE_INSTANTIATE = 8, /* failure */
    /* the thread-local block cannot be initialised: failure, of pl_status `detail` */
    PL_STAGE_TLS = 9
};

typedef struct pl_trouble {
    int stage; /* enum pl_stage */
    uint32_t detail;
    pl_library *library; /* where it happened, or NULL; valid as long as what was carried out is */
    pl_failure failure;  /* its receiver owns it */
} pl_trouble;

/* What a library whose waits were rewritten calls the table of the functions that stand in for
 * them. */
#define PL_WAITS "__pylinker_waits"

typedef struct pl_calls pl_calls;

/* A host function in one group. */
typedef struct pl_import {
    pl_hostfn function; /* first: hostfn.c knows only this */
    pl_instances *instances;
    const pl_flag *flag; /* of the group's linker, close at hand */
    const pl_cancel *cancel;
    const pl_flag *nudge; /* of the group */
    /* of a resolver, which keeps it: code of a library that is gone may still be running */
    pl_library *library;
    uint32_t first; /* of a resolver: the trampoline that its module counts as 0 */
    uint32_t type;  /* of a callback (callback.h) */
    struct pl_import *next;
} pl_import;

void pl_types_set(const pl_types *types);
const pl_types *pl_types_get(void);

/* `callback` and `check` are Python's, `handle` is for `check`. NULL if there is no memory. */
pl_instances *pl_instances_new(pl_group *group, pl_context *context, pl_process *process,
                               pl_host_callback callback, pl_check check, uintptr_t handle);
void pl_instances_free(pl_instances *instances);

pl_group *pl_instances_group(const pl_instances *instances);
pl_context *pl_instances_context(const pl_instances *instances);
pl_trouble *pl_instances_trouble(pl_instances *instances);
/* The results of dlsym in this group. */
pl_dlsym_cache *pl_instances_dlsym_cache(pl_instances *instances);
/* What it knows of the types of its slots (dynamic.h), and its closures. */
pl_calls *pl_instances_calls(const pl_instances *instances);
pl_closures *pl_instances_closures(const pl_instances *instances);
/* Whether its thread has destructors to run at its end: thread.h asks. */
int pl_instances_exits(const pl_instances *instances);
void pl_instances_set_exits(pl_instances *instances, int exits);
/* The number of its thread in the guest; 0 until it is set. */
uint32_t pl_instances_thread(const pl_instances *instances);
void pl_instances_set_thread(pl_instances *instances, uint32_t thread);

/* What all instances share; NULL until it is set. WASI calls work once there is a memory and the
 * process is connected (wasi.h). */
void pl_instances_set_memory(pl_instances *instances, const pl_extern *memory);
void pl_instances_set_table(pl_instances *instances, const pl_extern *table);
void pl_instances_set_stack_pointer(pl_instances *instances, const pl_extern *global);
const pl_extern *pl_instances_memory(const pl_instances *instances);
const pl_extern *pl_instances_table(const pl_instances *instances);
const pl_extern *pl_instances_stack_pointer(const pl_instances *instances);
/* Moves the top of the stack; nothing to do if there is no stack pointer. */
void pl_instances_set_stack_top(pl_instances *instances, uint32_t top);
/* Bytes of the memory, slots of the table; 0 if there is none. */
uint64_t pl_instances_memory_size(const pl_instances *instances);
uint64_t pl_instances_table_size(const pl_instances *instances);
/* The memory [address, address + size), or NULL if that is not all inside. It moves if it is not
 * shared and grows. */
uint8_t *pl_instances_bytes(const pl_instances *instances, uint64_t address, uint64_t size);
/* Fills a part of the memory with zeros; -1, and nothing is done, if that is not all inside. */
int pl_instances_zero(pl_instances *instances, uint64_t address, uint64_t size);
/* Connects the WASI calls that were made before the process was. */
void pl_instances_connect(pl_instances *instances);

/* Instantiates a library and fills its slots. `block` is the address of the thread-local block
 * to initialise, 0 where the library's own copy serves. With `replaying` the slots must be
 * empty: the leader found them so. Answers 0, or -1 with the trouble; what there is of it then
 * goes with pl_instances_drop. */
int pl_instances_load(pl_instances *instances, pl_library *library, uint32_t block, int replaying);
/* Has a loaded library make its thread-local block itself: 0, or -1 with the trouble. */
int pl_instances_make_block(pl_instances *instances, pl_library *library);
/* Forgets a library, also a half loaded one; wasmtime frees the instance with the store. */
void pl_instances_drop(pl_instances *instances, pl_library *library);
/* Whether it is loaded: its serial number in this group, never 0, never used twice; else 0. */
uint64_t pl_instances_serial(const pl_instances *instances, const pl_library *library);
/* Export `index`: 0, or -1 if the library is not loaded or has lost it. */
int pl_instances_export(pl_instances *instances, const pl_library *library, uint32_t index,
                        pl_extern *result);
/* The address of the library's thread-local block in this group, 0 if it has none. The library's
 * own __tls_base knows best: a guest's thread may bring a block of its own. */
uint32_t pl_instances_tls_base(pl_instances *instances, const pl_library *library);
/* How often calls through the trampolines of this library had to be resolved, those of others
 * included that use them. */
uint64_t pl_instances_resolver_entries(const pl_instances *instances, const pl_library *library);
/* Lets trampoline `index` lead to an export: 0, or -1 if one of the two libraries is not loaded. */
int pl_instances_bind(pl_instances *instances, const pl_library *library, uint32_t index,
                      const pl_library *target, uint32_t export_index);
/* Puts the lazy stub back. */
void pl_instances_unbind(pl_instances *instances, const pl_library *library, uint32_t index);

/* Makes what an import comes from, where that is a host function: it lives as long as the store.
 * 0, or -1 with the trouble. */
int pl_instances_host(pl_instances *instances, const pl_source *source, pl_func *result);
/* Calls a function of the group's store, which is RUNNING already: an enum pl_status. A trap or
 * an exit leaves the stack pointer as it was before. */
int pl_instances_invoke(pl_instances *instances, const pl_func *func, pl_value *values,
                        size_t count, pl_failure *failure);
/* The same as pl_call does it: RUNNING first, and a safepoint. */
int pl_instances_call(pl_instances *instances, const pl_func *func, pl_value *values, size_t count,
                      pl_failure *failure);
/* Calls an exported function of type () -> () like that; -1 if the library has no such function
 * here. */
int pl_instances_run(pl_instances *instances, const pl_library *library, uint32_t index,
                     pl_failure *failure);
/* Numbers the outermost calls, so that pl_cancel_stop can stop one. For the only group of a
 * linker, before it runs guest code. */
void pl_instances_number_calls(pl_instances *instances);
/* Whether such a call is under way: then the store must stay. Any thread; a call that begins or
 * ends meanwhile may be missed. */
int pl_instances_is_running(const pl_instances *instances);

#endif
