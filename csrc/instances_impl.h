/* instances_impl: what the instances of a group are made of, and the parts that its files share.
 * For instances.c, load.c, hostfuncs.c and plt.c alone: cffi does not see it.
 *
 * Protects: nothing. Requires: the thread that runs the store of the group. Blocks: pl_plt_load
 * compiles nothing, but wasmtime allocates. */
#ifndef PL_INSTANCES_IMPL_H
#define PL_INSTANCES_IMPL_H

#include "instances.h"
#include "pool.h"

#include <stdatomic.h>

/* One library in this group. */
typedef struct pl_record {
    pl_library *library; /* NULL: an empty place */
    uint64_t serial;     /* 0 while it is being loaded */
    pl_instance instance;
    pl_plt *plt; /* its trampolines, or NULL */
    uint32_t tls_base;
    uint64_t identity; /* of the instance: a pooled one keeps it */
    pl_pooled *pooled; /* what becomes of it when it is dropped, or NULL */
} pl_record;

/* A callback in this group. */
typedef struct pl_callback_place {
    pl_import *import; /* NULL: not made yet */
    pl_func self;
} pl_callback_place;

struct pl_instances {
    pl_group *group;
    pl_context *context;
    pl_process *process;
    pl_host_callback callback;
    pl_check check;
    uintptr_t handle;
    int has_memory, has_table, has_stack_pointer;
    pl_extern memory, table, stack_pointer;
    pl_record *records; /* by the libraries' places */
    uint32_t capacity;
    uint64_t serials;
    pl_extern *tags; /* of kind PL_EXTERN_TAG, or not made yet */
    uint32_t tag_count;
    pl_wasi_call *wasi[PL_WASI_FUNCTIONS];
    pl_atomics_call *atomics[PL_ATOMICS_KINDS]; /* made when they are first wanted */
    pl_callback_place *callbacks; /* by their numbers; made when they are first wanted */
    uint32_t callback_count;
    pl_import *hosts; /* wasmtime keeps their addresses, so they stay until everything goes */
    pl_plt *plts;     /* as long as that */
    pl_dlsym_cache *dlsym_cache;
    pl_calls *calls;
    pl_closures *closures;
    pl_pooled *pool; /* the one that was dropped last comes first */
    uint32_t thread;
    int exits;
    /* calls by the host that are under way, one inside the other. Relaxed: written by the thread
     * that makes them */
    atomic_uint running;
    pl_cancel *stops; /* numbers the calls, so that one can be stopped; NULL: nothing does */
    pl_trouble trouble;
};

/* instances.c */
int pl_instances_fail(pl_instances *instances, int stage, pl_library *library, uint32_t detail);
int pl_instances_fail_with(pl_instances *instances, int stage, pl_library *library, uint32_t detail,
                           pl_failure failure);
pl_record *pl_record_find(const pl_instances *instances, const pl_library *library);
/* Makes room for element `index` of an array of `*count` elements, the new ones zero: the array,
 * which may have moved, or NULL, with the old one as it was, if there is no memory. */
void *pl_grown(void *array, uint32_t *count, uint32_t index, size_t size);
/* An empty record for a library, or NULL if there is no memory. */
pl_record *pl_record_add(pl_instances *instances, pl_library *library);
int pl_record_export(pl_instances *instances, const pl_record *record, uint32_t index,
                     pl_extern *result);
/* Whether the calling thread has the stack to enter the store: NULL, or the error. */
pl_error *pl_guest_check_stack(const pl_instances *instances);
/* Around guest code that the host runs: the outermost is a call that can be stopped.
 * pl_guest_end returns its number if it was to stop. */
void pl_guest_begin(pl_instances *instances);
uint64_t pl_guest_end(pl_instances *instances);

/* plt.c */
/* Export KIND + number of the trampolines of a library. */
int pl_plt_export(pl_instances *instances, const pl_library *library, char kind, uint32_t index,
                  pl_extern *result);
/* Makes the trampolines of a library: 0, or -1 with the trouble. */
int pl_plt_load(pl_instances *instances, pl_record *record);

/* hostfuncs.c */
pl_import *pl_import_new(pl_instances *instances, uintptr_t handle);
int pl_make_builtin(pl_instances *instances, const pl_source *source, pl_func *result);
/* Each callback is one function in the group, however many libraries import it. */
int pl_make_callback(pl_instances *instances, const pl_source *source, pl_func *result);
int pl_make_wasi(pl_instances *instances, uint32_t index, pl_func *result);
int pl_make_atomics(pl_instances *instances, uint32_t kind, const pl_type *type, pl_func *result);

#endif
