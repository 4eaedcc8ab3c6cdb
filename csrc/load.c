/* load: instantiates a library in a group: imports, thread-local block, slots, and the instance
 * pool. Discipline: that of instances.c. */
#include "instances_impl.h"

#include "api_table.h"

#include <stdlib.h>
#include <string.h>

static int tag(pl_instances *instances, uint32_t index, const pl_type *type, pl_extern *result,
               pl_failure *failure) {
    pl_extern *tags = pl_grown(instances->tags, &instances->tag_count, index, sizeof *tags);
    if (tags == NULL) {
        return PL_STAGE_ROOM;
    }
    instances->tags = tags;
    pl_extern *known = instances->tags + index;
    if (known->kind != PL_EXTERN_TAG) {
        failure->error = pl_wasmtime.tag_new(instances->context, type, &known->of.handle);
        if (failure->error != NULL) {
            return PL_STAGE_MAKE;
        }
        known->kind = PL_EXTERN_TAG;
    }
    *result = *known;
    return PL_STAGE_NONE;
}

static int number(pl_instances *instances, const pl_type *type, int64_t value, pl_extern *result,
                  pl_failure *failure) {
    result->kind = PL_EXTERN_GLOBAL;
    failure->error = pl_global_new_i32(instances->context, type, (int32_t)(uint32_t)(uint64_t)value,
                                       &result->of.handle);
    return failure->error != NULL ? PL_STAGE_MAKE : PL_STAGE_NONE;
}

static int object(const pl_extern *from, pl_extern *result) {
    if (from == NULL) {
        return PL_STAGE_OBJECT;
    }
    *result = *from;
    return PL_STAGE_NONE;
}

/* Returns an enum pl_stage. */
static int extern_of(pl_instances *instances, const pl_record *record, const pl_source *source,
                     pl_extern *result, pl_failure *failure) {
    memset(result, 0, sizeof *result);
    result->kind = PL_EXTERN_FUNC;
    switch (source->kind) {
    case PL_SOURCE_MEMORY:
        return object(pl_instances_memory(instances), result);
    case PL_SOURCE_TABLE:
        return object(pl_instances_table(instances), result);
    case PL_SOURCE_STACK_POINTER:
        return object(pl_instances_stack_pointer(instances), result);
    case PL_SOURCE_CONSTANT:
        return number(instances, pl_types_get()->constant, source->value, result, failure);
    case PL_SOURCE_CELL:
        return number(instances, pl_types_get()->cell, source->value, result, failure);
    case PL_SOURCE_TLS_CELL: {
        uint32_t base = pl_instances_tls_base(instances, source->library);
        return base == 0 ? PL_STAGE_TLS_CELL
                         : number(instances, pl_types_get()->cell, (int64_t)base + source->value,
                                  result, failure);
    }
    case PL_SOURCE_EXPORT:
        return pl_instances_export(instances, source->library, source->index, result) != 0
                   ? PL_STAGE_EXPORT
                   : PL_STAGE_NONE;
    case PL_SOURCE_PLT:
        return pl_plt_export(instances, record->library, 't', source->index, result) != 0
                   ? PL_STAGE_EXPORT
                   : PL_STAGE_NONE;
    case PL_SOURCE_WASI:
        return pl_make_wasi(instances, source->index, &result->of.func) != 0 ? PL_STAGE_ROOM
                                                                             : PL_STAGE_NONE;
    case PL_SOURCE_ATOMICS:
        return pl_make_atomics(instances, source->index, source->type, &result->of.func) != 0
                   ? PL_STAGE_ROOM
                   : PL_STAGE_NONE;
    case PL_SOURCE_CALLBACK:
        return pl_make_callback(instances, source, &result->of.func) != 0 ? PL_STAGE_ROOM
                                                                          : PL_STAGE_NONE;
    case PL_SOURCE_TAG:
        return tag(instances, source->index, source->type, result, failure);
    default:
        return pl_make_builtin(instances, source, &result->of.func) != 0 ? PL_STAGE_ROOM
                                                                         : PL_STAGE_NONE;
    }
}

int pl_instances_host(pl_instances *instances, const pl_source *source, pl_func *result) {
    pl_failure failure = {0};
    pl_extern made;
    int stage = extern_of(instances, NULL, source, &made, &failure);
    *result = made.of.func;
    return stage != PL_STAGE_NONE ? pl_instances_fail_with(instances, stage, NULL, 0, failure) : 0;
}

static int is_made_for_it(const pl_source *source) {
    return source->kind == PL_SOURCE_HOST || source->kind == PL_SOURCE_BUILTIN;
}

static uint64_t origin(const pl_instances *instances, const pl_source *source) {
    const pl_record *record =
        source->kind == PL_SOURCE_EXPORT ? pl_record_find(instances, source->library) : NULL;
    return record != NULL ? record->identity : 0;
}

static int instantiate(pl_instances *instances, pl_record *record, pl_extern *externs,
                       pl_pooled *pooled) {
    pl_library *library = record->library;
    const pl_library_parts *parts = pl_library_parts_of(library);
    pl_failure failure = {0};
    if (parts->trampoline_count != 0 && pl_plt_load(instances, record) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < parts->source_count; i++) {
        int stage = extern_of(instances, record, parts->sources + i, externs + i, &failure);
        if (stage != PL_STAGE_NONE) {
            return pl_instances_fail_with(instances, stage, library, i, failure);
        }
        if (pooled != NULL) {
            pooled->hosts[i] = is_made_for_it(parts->sources + i) ? instances->hosts : NULL;
            pooled->origins[i] = origin(instances, parts->sources + i);
        }
    }
    int status = PL_ERROR;
    failure.error = pl_guest_check_stack(instances);
    if (failure.error == NULL) {
        pl_guest_begin(instances); /* its start function */
        status = pl_instance_new(instances->context, parts->code, externs, parts->source_count,
                                 &record->instance, &failure);
        failure.stopped = pl_guest_end(instances);
    }
    if (status != PL_OK) {
        record->instance.store = 0;
        return pl_instances_fail_with(instances, PL_STAGE_INSTANTIATE, library, 0, failure);
    }
    return 0;
}

/* Takes the memory, table and stack pointer of a library if the group has none yet. */
static void adopt(pl_instances *instances, const pl_record *record) {
    const pl_library_parts *parts = pl_library_parts_of(record->library);
    pl_extern found;
    if (!instances->has_memory && parts->export_memory >= 0 &&
        pl_record_export(instances, record, (uint32_t)parts->export_memory, &found) == 0) {
        pl_instances_set_memory(instances, &found);
    }
    if (!instances->has_table && parts->export_table >= 0 &&
        pl_record_export(instances, record, (uint32_t)parts->export_table, &found) == 0) {
        pl_instances_set_table(instances, &found);
    }
    if (!instances->has_stack_pointer && parts->export_stack_pointer >= 0 &&
        pl_record_export(instances, record, (uint32_t)parts->export_stack_pointer, &found) == 0) {
        pl_instances_set_stack_pointer(instances, &found);
    }
}

/* Installs host functions for the library's wait instructions, so that its waits can be
 * interrupted. */
static int install_wait_hooks(pl_instances *instances, const pl_record *record) {
    pl_extern table;
    pl_func function;
    if (!pl_instance_export(instances->context, &record->instance, PL_WAITS, sizeof PL_WAITS - 1,
                            &table) ||
        table.kind != PL_EXTERN_TABLE) {
        return pl_instances_fail(instances, PL_STAGE_EXPORT, record->library, UINT32_MAX);
    }
    for (uint32_t kind = PL_ATOMICS_WAIT32; kind <= PL_ATOMICS_NOTIFY; kind++) {
        if (pl_make_atomics(instances, kind, pl_types_get()->waits[kind], &function) != 0) {
            return pl_instances_fail(instances, PL_STAGE_ROOM, record->library, 0);
        }
        pl_failure failure = {
            .error = pl_table_set(instances->context, &table.of.handle, kind, &function)};
        if (failure.error != NULL) {
            return pl_instances_fail_with(instances, PL_STAGE_EXPORT, record->library, UINT32_MAX,
                                          failure);
        }
    }
    return 0;
}

static int start_thread_locals(pl_instances *instances, pl_record *record, uint32_t block) {
    pl_library *library = record->library;
    const pl_library_parts *parts = pl_library_parts_of(library);
    pl_extern function;
    pl_failure failure = {0};
    if (parts->export_tls_init < 0 ||
        pl_record_export(instances, record, (uint32_t)parts->export_tls_init, &function) != 0) {
        return pl_instances_fail(instances, PL_STAGE_EXPORT, library,
                                 (uint32_t)parts->export_tls_init);
    }
    pl_value value = {.i64 = 0};
    value.i32 = (int32_t)block;
    int status = pl_instances_call(instances, &function.of.func, &value, 1, &failure);
    record->tls_base = block;
    if (status == PL_OK && parts->export_tls_relocs >= 0) {
        if (pl_record_export(instances, record, (uint32_t)parts->export_tls_relocs, &function) !=
            0) {
            return pl_instances_fail(instances, PL_STAGE_EXPORT, library,
                                     (uint32_t)parts->export_tls_relocs);
        }
        status = pl_instances_call(instances, &function.of.func, &value, 0, &failure);
    }
    return status == PL_OK ? 0
                           : pl_instances_fail_with(instances, PL_STAGE_TLS, library,
                                                    (uint32_t)status, failure);
}

int pl_instances_make_block(pl_instances *instances, pl_library *library) {
    pl_record *record = pl_record_find(instances, library);
    int32_t index = pl_library_parts_of(library)->export_tls_make;
    pl_extern function;
    pl_failure failure = {0};
    if (index < 0 || pl_record_export(instances, record, (uint32_t)index, &function) != 0) {
        return pl_instances_fail(instances, PL_STAGE_EXPORT, library, (uint32_t)index);
    }
    pl_value value = {.i64 = 0};
    int status = pl_instances_call(instances, &function.of.func, &value, 1, &failure);
    record = pl_record_find(instances, library); /* the records may have moved */
    if (status != PL_OK || record == NULL) {
        return pl_instances_fail_with(instances, PL_STAGE_TLS, library, (uint32_t)status, failure);
    }
    record->tls_base = (uint32_t)value.i32;
    return 0;
}

static int fill_slots(pl_instances *instances, const pl_record *record, int replaying) {
    const pl_library_parts *parts = pl_library_parts_of(record->library);
    const pl_table *table = &instances->table.of.handle;
    for (uint32_t i = 0; instances->has_table && i < parts->slot_count; i++) {
        uint32_t slot = parts->slot_base + i;
        pl_extern function;
        pl_func other;
        if (pl_record_export(instances, record, parts->slot_exports[i], &function) != 0) {
            return pl_instances_fail(instances, PL_STAGE_EXPORT, record->library,
                                     parts->slot_exports[i]);
        }
        if (replaying && pl_table_get(instances->context, table, slot, &other) == 1) {
            return pl_instances_fail(instances, PL_STAGE_TAKEN, record->library, slot);
        }
        pl_failure failure = {0};
        failure.error = pl_table_set(instances->context, table, slot, &function.of.func);
        if (failure.error != NULL) {
            return pl_instances_fail_with(instances, PL_STAGE_TABLE, record->library, slot + 1,
                                          failure);
        }
    }
    return 0;
}

/* The pool */

/* Prepares a fresh instance for the pool, if it can be pooled. Returns 0, or -1 with the error
 * record. */
static int keep(pl_instances *instances, pl_record *record, pl_pooled *pooled, int replaying) {
    pooled->identity = record->identity;
    pooled->instance = record->instance;
    pooled->plt = record->plt;
    int result = pl_pooled_note_slots(pooled, instances->context, pl_instances_table(instances));
    if (result != 0) {
        pl_pooled_free(pooled);
        return result < 0
                   ? pl_instances_fail(instances, PL_STAGE_EXPORT, record->library, UINT32_MAX)
                   : 0;
    }
    if (!replaying) {
        pl_pooled_take_image(record->library, instances->context, pl_instances_memory(instances));
    }
    record->pooled = pooled;
    return 0;
}

/* Removes the pooled instance that fits a library from the pool, or returns NULL. */
static pl_pooled *take_fitting(pl_instances *instances, const pl_library *library, int replaying) {
    const pl_library_parts *parts = pl_library_parts_of(library);
    for (pl_pooled **link = &instances->pool; *link != NULL; link = &(*link)->next) {
        pl_pooled *pooled = *link;
        int fits = pl_pooled_fits(pooled, library, !replaying);
        for (uint32_t i = 0; fits && i < parts->source_count; i++) {
            fits = origin(instances, parts->sources + i) == pooled->origins[i];
        }
        if (fits) {
            *link = pooled->next;
            return pooled;
        }
    }
    return NULL;
}

/* Sets the globals and host functions of a pooled instance to the values of this load. Returns 0,
 * or -1 with the error record. */
static int adapt(pl_instances *instances, pl_pooled *pooled, pl_library *library) {
    const pl_library_parts *parts = pl_library_parts_of(library);
    for (uint32_t i = 0; i < parts->source_count; i++) {
        const pl_source *source = parts->sources + i;
        int64_t value = source->value;
        if (pooled->hosts[i] != NULL) {
            pooled->hosts[i]->function.handle = source->handle;
        }
        if (source->kind == PL_SOURCE_TLS_CELL) {
            uint32_t base = pl_instances_tls_base(instances, source->library);
            if (base == 0) {
                return pl_instances_fail(instances, PL_STAGE_TLS_CELL, library, i);
            }
            value += base;
        } else if (source->kind != PL_SOURCE_CELL) {
            continue;
        }
        pl_failure failure = {.error = pl_global_set_i32(instances->context,
                                                         &pooled->externs[i].of.handle,
                                                         (int32_t)(uint32_t)(uint64_t)value)};
        if (failure.error != NULL) {
            return pl_instances_fail_with(instances, PL_STAGE_MAKE, library, i, failure);
        }
    }
    for (uint32_t i = 0; pooled->plt != NULL && i < pooled->plt->count; i++) {
        pl_import *resolver = pooled->plt->blocks[i].resolver;
        pl_library_retain(library);
        pl_library_release(resolver->library);
        resolver->library = library;
        resolver->function.handle = parts->resolver;
        resolver->function.entries = 0;
    }
    return 0;
}

/* Fills a record from the pool. Returns 1, 0 if no instance fits, or -1 with the error record. */
static int reuse(pl_instances *instances, pl_record *record, int replaying) {
    pl_library *library = record->library;
    pl_pooled *pooled = take_fitting(instances, library, replaying);
    if (pooled == NULL) {
        return 0;
    }
    record->pooled = pooled;
    if (adapt(instances, pooled, library) != 0) {
        return -1;
    }
    pl_failure failure = {0};
    if (pl_pooled_restore(pooled, library, instances->context, pl_instances_memory(instances),
                          pl_instances_table(instances), !replaying, &failure.error) != 0) {
        return pl_instances_fail_with(instances, PL_STAGE_TABLE, library,
                                      pl_library_parts_of(library)->table_base, failure);
    }
    record->instance = pooled->instance;
    record->plt = pooled->plt;
    record->identity = pooled->identity;
    record->serial = ++instances->serials;
    return 1;
}

/* Instantiates a library and takes the objects that the group does not have. Returns 0, or -1 with
 * the error record. */
static int load_fresh(pl_instances *instances, pl_record *record, int replaying) {
    pl_library *library = record->library;
    const pl_library_parts *parts = pl_library_parts_of(library);
    pl_pooled *pooled = parts->code_number != 0 ? pl_pooled_new(library) : NULL;
    pl_extern *externs =
        pooled != NULL ? pooled->externs
                       : malloc((parts->source_count ? parts->source_count : 1) * sizeof *externs);
    int failed = externs == NULL ? pl_instances_fail(instances, PL_STAGE_ROOM, library, 0)
                                 : instantiate(instances, record, externs, pooled);
    if (pooled == NULL) {
        free(externs);
    }
    if (failed) {
        pl_pooled_free(pooled);
        return failed;
    }
    record->identity = record->serial = ++instances->serials;
    adopt(instances, record);
    if (parts->rewritten && install_wait_hooks(instances, record) != 0) {
        pl_pooled_free(pooled);
        return -1;
    }
    return pooled != NULL ? keep(instances, record, pooled, replaying) : 0;
}

int pl_instances_load(pl_instances *instances, pl_library *library, uint32_t block, int replaying) {
    pl_record *record = pl_record_add(instances, library);
    if (record == NULL) {
        return pl_instances_fail(instances, PL_STAGE_ROOM, library, 0);
    }
    int done =
        pl_library_parts_of(library)->code_number != 0 ? reuse(instances, record, replaying) : 0;
    if (done < 0 || (done == 0 && load_fresh(instances, record, replaying) != 0)) {
        return -1;
    }
    if (block != 0 && start_thread_locals(instances, record, block) != 0) {
        return -1;
    }
    return fill_slots(instances, record, replaying);
}
