/* plt: the trampolines of a library in one group, and the resolver of unbound ones.
 * Discipline: that of instances.c. */
#include "instances_impl.h"

#include "api_table.h"

#include <stdio.h>
#include <stdlib.h>

/* Returns the instance of trampoline `*index` of a library, and sets the number there; NULL if
 * there is none. */
static const pl_instance *trampolines_of(const pl_instances *instances, const pl_library *library,
                                         uint32_t *index) {
    const pl_record *record = pl_record_find(instances, pl_library_plt(library, index));
    uint32_t block = *index / PL_PLT_BLOCK;
    *index %= PL_PLT_BLOCK;
    return record != NULL && record->plt != NULL && block < record->plt->count
               ? &record->plt->blocks[block].instance
               : NULL;
}

int pl_plt_export(pl_instances *instances, const pl_library *library, char kind, uint32_t index,
                  pl_extern *result) {
    const pl_instance *trampolines = trampolines_of(instances, library, &index);
    char name[16];
    int length = snprintf(name, sizeof name, "%c%u", kind, (unsigned)index);
    return trampolines != NULL &&
                   pl_instance_export(instances->context, trampolines, name, (size_t)length, result)
               ? 0
               : -1;
}

static int aim(pl_instances *instances, const pl_library *library, uint32_t index,
               const pl_func *func) {
    const pl_instance *trampolines = trampolines_of(instances, library, &index);
    pl_extern plt;
    if (trampolines == NULL ||
        !pl_instance_export(instances->context, trampolines, "plt", 3, &plt)) {
        return -1;
    }
    pl_error *error = pl_table_set(instances->context, &plt.of.handle, index, func);
    if (error != NULL) {
        pl_wasmtime.error_delete(error);
        return -1;
    }
    return 0;
}

int pl_instances_bind(pl_instances *instances, const pl_library *library, uint32_t index,
                      const pl_library *target, uint32_t export_index) {
    pl_extern function;
    if (pl_record_find(instances, library) == NULL ||
        pl_instances_export(instances, target, export_index, &function) != 0 ||
        function.kind != PL_EXTERN_FUNC) {
        return -1;
    }
    return aim(instances, library, index, &function.of.func);
}

void pl_instances_unbind(pl_instances *instances, const pl_library *library, uint32_t index) {
    pl_extern stub;
    if (pl_record_find(instances, library) != NULL &&
        pl_plt_export(instances, library, 's', index, &stub) == 0) {
        aim(instances, library, index, &stub.of.func);
    }
}

/* The resolver: the guest calls an unbound trampoline. */
static pl_trap *resolve(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    pl_import *resolver = environment;
    uint32_t index = resolver->first + (uint32_t)values[0].i32, export_index;
    const pl_library *target = NULL;
    /* otherwise it is unloaded, and its targets may be, too */
    if (pl_record_find(resolver->instances, resolver->library) != NULL) {
        target = pl_library_target(resolver->library, index, &export_index);
    }
    if (target != NULL && pl_instances_bind(resolver->instances, resolver->library, index, target,
                                            export_index) == 0) {
        resolver->function.entries++;
        return NULL;
    }
    values[0].i32 = (int32_t)index;
    return pl_host_enter(&resolver->function, caller, values, count);
}

int pl_plt_load(pl_instances *instances, pl_record *record) {
    pl_library *library = record->library;
    const pl_library_parts *parts = pl_library_parts_of(library);
    const uint32_t count = pl_library_blocks(library);
    pl_plt *plt = calloc(1, sizeof *plt + count * sizeof *plt->blocks);
    if (plt == NULL) {
        return pl_instances_fail(instances, PL_STAGE_ROOM, library, 0);
    }
    plt->next = instances->plts;
    instances->plts = plt;
    while (plt->count < count) {
        pl_import *resolver = pl_import_new(instances, parts->resolver);
        if (resolver == NULL) {
            return pl_instances_fail(instances, PL_STAGE_ROOM, library, 0);
        }
        resolver->library = library;
        resolver->first = plt->count * PL_PLT_BLOCK;
        pl_library_retain(library);
        pl_failure failure = {0};
        pl_extern imported = {.kind = PL_EXTERN_FUNC, .of = {.handle = {0, 0, 0}}};
        pl_wasmtime.func_new_unchecked(instances->context, pl_types_get()->resolve, resolve,
                                       resolver, NULL, &imported.of.func);
        plt->blocks[plt->count].resolver = resolver;
        if (pl_instance_new(instances->context, parts->trampolines[plt->count], &imported, 1,
                            &plt->blocks[plt->count].instance, &failure) != PL_OK) {
            return pl_instances_fail_with(instances, PL_STAGE_INSTANTIATE, library, 0, failure);
        }
        plt->count++;
    }
    record->plt = plt;
    return 0;
}
