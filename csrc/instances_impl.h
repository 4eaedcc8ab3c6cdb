/* instances_impl: the structures of instances.h, and the functions that its files share. For
 * instances.c, load.c, hostfuncs.c and plt.c alone: cffi does not see it.
 *
 * Protects: nothing.
 * Requires: the thread that runs the store of the group.
 * Blocks: as instances.h; pl_plt_load compiles nothing, but wasmtime allocates.
 * Threads: the group's. */
#ifndef PL_INSTANCES_IMPL_H
#define PL_INSTANCES_IMPL_H

#include "instances.h"
#include "pool.h"

#include <stdatomic.h>

/* One library in this group. */
typedef struct pl_record {
    pl_library *library; /* NULL: an unused record */
    uint64_t serial;     /* 0 while it is being loaded */
    pl_instance instance;
    pl_plt *plt; /* its trampolines, or NULL */
    uint32_t tls_base;
    uint64_t identity; /* of the instance: a pooled one keeps it */
    pl_pooled *pooled; /* the pool entry when it is dropped, or NULL */
} pl_record;

/* A callback in this group. */
typedef struct pl_callback_place {
    pl_import *import; /* NULL: not created yet */
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
    pl_record *records; /* indexed by the `place` of a library */
    uint32_t capacity;
    uint64_t serials;
    pl_extern *tags; /* of kind PL_EXTERN_TAG, or not created yet */
    uint32_t tag_count;
    pl_wasi_call *wasi[PL_WASI_FUNCTIONS];
    pl_atomics_call *atomics[PL_ATOMICS_KINDS]; /* created at first use */
    pl_callback_place *callbacks;               /* by number; created at first use */
    uint32_t callback_count;
    pl_import *hosts; /* wasmtime keeps their addresses, so they are freed last */
    pl_plt *plts;     /* freed last as well */
    pl_names *names;
    pl_calls *calls;
    pl_closures *closures;
    pl_pooled *pool; /* newest first */
    uint32_t thread;
    int exits;
    /* the depth of nested calls by the host. Relaxed: written by the thread that makes them */
    atomic_uint running;
    pl_cancel
        *stops; /* numbers the calls, so that one can be stopped; NULL: they are not numbered */
    pl_error_record error;
};

/* instances.c */
int pl_instances_fail(pl_instances *instances, int stage, pl_library *library, uint32_t detail);
int pl_instances_fail_with(pl_instances *instances, int stage, pl_library *library, uint32_t detail,
                           pl_failure failure);
pl_record *pl_record_find(const pl_instances *instances, const pl_library *library);
/* Grows an array of `*count` elements so that it has element `index`; the new ones are zero.
 * Returns the array, which may have moved; or NULL, with the old one unchanged, if out of
 * memory. */
void *pl_grown(void *array, uint32_t *count, uint32_t index, size_t size);
/* Returns an empty record for a library, or NULL if out of memory. */
pl_record *pl_record_add(pl_instances *instances, pl_library *library);
int pl_record_export(pl_instances *instances, const pl_record *record, uint32_t index,
                     pl_extern *result);
/* Checks that the calling thread has the stack to enter the store. Returns NULL, or the error. */
pl_error *pl_guest_check_stack(const pl_instances *instances);
/* Enclose guest code that the host runs: the outermost such call can be stopped. pl_guest_end
 * returns its number if it was to stop. */
void pl_guest_begin(pl_instances *instances);
uint64_t pl_guest_end(pl_instances *instances);

/* plt.c */
/* Looks up export KIND + number of the trampolines of a library. */
int pl_plt_export(pl_instances *instances, const pl_library *library, char kind, uint32_t index,
                  pl_extern *result);
/* Creates the trampolines of a library. Returns 0, or -1 with the error record. */
int pl_plt_load(pl_instances *instances, pl_record *record);

/* hostfuncs.c */
pl_import *pl_import_new(pl_instances *instances, uintptr_t handle);
int pl_make_builtin(pl_instances *instances, const pl_source *source, pl_func *result);
/* Each callback is one function in the group, shared by all libraries that import it. */
int pl_make_callback(pl_instances *instances, const pl_source *source, pl_func *result);
int pl_make_wasi(pl_instances *instances, uint32_t index, pl_func *result);
int pl_make_atomics(pl_instances *instances, uint32_t kind, const pl_type *type, pl_func *result);

#endif
