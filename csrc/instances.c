/* Discipline: a pl_instances belongs to the thread that runs its store. Only `running` is
 * atomic: other threads read it. */
#include "instances_impl.h"

#include "api_table.h"
#include "call_dynamic.h"
#include "stack.h"

#include <stdlib.h>
#include <string.h>

static pl_types types;

void pl_types_set(const pl_types *given) { types = *given; }

const pl_types *pl_types_get(void) { return &types; }

pl_instances *pl_instances_new(pl_group *group, pl_context *context, pl_process *process,
                               pl_host_callback callback, pl_check check, uintptr_t handle) {
    pl_instances *instances = calloc(1, sizeof *instances);
    if (instances != NULL) {
        instances->group = group;
        instances->context = context;
        instances->process = process;
        instances->callback = callback;
        instances->check = check;
        instances->handle = handle;
        instances->dlsym_cache = pl_dlsym_cache_new();
        instances->calls = pl_calls_new();
        instances->closures = pl_closures_new();
        if (instances->dlsym_cache == NULL || instances->calls == NULL ||
            instances->closures == NULL) {
            pl_instances_free(instances);
            return NULL;
        }
    }
    return instances;
}

pl_dlsym_cache *pl_instances_dlsym_cache(pl_instances *instances) { return instances->dlsym_cache; }

pl_calls *pl_instances_calls(const pl_instances *instances) { return instances->calls; }

pl_closures *pl_instances_closures(const pl_instances *instances) { return instances->closures; }

int pl_instances_exits(const pl_instances *instances) { return instances->exits; }

void pl_instances_set_exits(pl_instances *instances, int exits) { instances->exits = exits; }

uint32_t pl_instances_thread(const pl_instances *instances) { return instances->thread; }

void pl_instances_set_thread(pl_instances *instances, uint32_t thread) {
    instances->thread = thread;
}

void pl_instances_free(pl_instances *instances) {
    if (instances == NULL) {
        return;
    }
    for (uint32_t i = 0; i < instances->capacity; i++) {
        pl_library_release(instances->records[i].library);
        pl_pooled_free(instances->records[i].pooled);
    }
    while (instances->pool != NULL) {
        pl_pooled *next = instances->pool->next;
        pl_pooled_free(instances->pool);
        instances->pool = next;
    }
    for (size_t i = 0; i < PL_WASI_FUNCTIONS; i++) {
        free(instances->wasi[i]);
    }
    for (size_t i = 0; i < PL_ATOMICS_KINDS; i++) {
        free(instances->atomics[i]);
    }
    while (instances->hosts != NULL) {
        pl_import *next = instances->hosts->next;
        pl_library_release(instances->hosts->library);
        free(instances->hosts);
        instances->hosts = next;
    }
    while (instances->plts != NULL) {
        pl_plt *next = instances->plts->next;
        free(instances->plts);
        instances->plts = next;
    }
    pl_dlsym_cache_free(instances->dlsym_cache);
    pl_calls_free(instances->calls);
    pl_closures_free(instances->closures);
    free(instances->records);
    free(instances->tags);
    free(instances->callbacks);
    free(instances);
}

pl_group *pl_instances_group(const pl_instances *instances) { return instances->group; }

pl_context *pl_instances_context(const pl_instances *instances) { return instances->context; }

pl_error_record *pl_instances_error(pl_instances *instances) { return &instances->error; }

void pl_instances_set_memory(pl_instances *instances, const pl_extern *memory) {
    instances->memory = *memory;
    instances->has_memory = 1;
    for (size_t i = 0; i < PL_ATOMICS_KINDS; i++) {
        if (instances->atomics[i] != NULL) {
            instances->atomics[i]->memory = *memory;
        }
    }
}

void pl_instances_set_table(pl_instances *instances, const pl_extern *table) {
    instances->table = *table;
    instances->has_table = 1;
}

void pl_instances_set_stack_pointer(pl_instances *instances, const pl_extern *global) {
    instances->stack_pointer = *global;
    instances->has_stack_pointer = 1;
}

const pl_extern *pl_instances_memory(const pl_instances *instances) {
    return instances->has_memory ? &instances->memory : NULL;
}

uint64_t pl_instances_memory_size(const pl_instances *instances) {
    return instances->has_memory ? pl_memory_size(instances->context, &instances->memory) : 0;
}

uint8_t *pl_instances_bytes(const pl_instances *instances, uint64_t address, uint64_t size) {
    uint64_t length = pl_instances_memory_size(instances);
    return instances->has_memory && size <= length && address <= length - size
               ? pl_memory_data(instances->context, &instances->memory) + address
               : NULL;
}

int pl_instances_zero(pl_instances *instances, uint64_t address, uint64_t size) {
    uint8_t *bytes = pl_instances_bytes(instances, address, size);
    if (bytes == NULL) {
        return -1;
    }
    memset(bytes, 0, size);
    return 0;
}

uint64_t pl_instances_table_size(const pl_instances *instances) {
    return instances->has_table ? pl_table_size(instances->context, &instances->table.of.handle)
                                : 0;
}

const pl_extern *pl_instances_table(const pl_instances *instances) {
    return instances->has_table ? &instances->table : NULL;
}

const pl_extern *pl_instances_stack_pointer(const pl_instances *instances) {
    return instances->has_stack_pointer ? &instances->stack_pointer : NULL;
}

int pl_instances_fail(pl_instances *instances, int stage, pl_library *library, uint32_t detail) {
    instances->error =
        (pl_error_record){.stage = stage, .detail = detail, .library = library, .failure = {0}};
    return -1;
}

int pl_instances_fail_with(pl_instances *instances, int stage, pl_library *library, uint32_t detail,
                           pl_failure failure) {
    pl_instances_fail(instances, stage, library, detail);
    instances->error.failure = failure;
    return -1;
}

/* Records */

pl_record *pl_record_find(const pl_instances *instances, const pl_library *library) {
    uint32_t place = pl_library_parts_of(library)->place;
    pl_record *record = place < instances->capacity ? instances->records + place : NULL;
    return record != NULL && record->library == library ? record : NULL;
}

/* Clears a record; an instance that can be reused goes to the pool. */
static void clear(pl_instances *instances, pl_record *record) {
    if (record->pooled != NULL) {
        record->pooled->next = instances->pool;
        instances->pool = record->pooled;
    }
    pl_library_release(record->library);
    *record = (pl_record){.library = NULL};
}

void *pl_grown(void *array, uint32_t *count, uint32_t index, size_t size) {
    if (index < *count) {
        return array;
    }
    uint32_t wanted = 2 * index + 8;
    char *larger = realloc(array, wanted * size);
    if (larger != NULL) {
        memset(larger + *count * size, 0, (wanted - *count) * size);
        *count = wanted;
    }
    return larger;
}

pl_record *pl_record_add(pl_instances *instances, pl_library *library) {
    uint32_t place = pl_library_parts_of(library)->place;
    pl_record *records = pl_grown(instances->records, &instances->capacity, place, sizeof *records);
    if (records == NULL) {
        return NULL;
    }
    instances->records = records;
    pl_record *record = instances->records + place;
    clear(instances, record);
    *record = (pl_record){.library = library};
    pl_library_retain(library);
    return record;
}

void pl_instances_drop(pl_instances *instances, pl_library *library) {
    pl_record *record = pl_record_find(instances, library);
    if (record != NULL) {
        clear(instances, record);
    }
}

uint64_t pl_instances_serial(const pl_instances *instances, const pl_library *library) {
    const pl_record *record = pl_record_find(instances, library);
    return record != NULL ? record->serial : 0;
}

int pl_record_export(pl_instances *instances, const pl_record *record, uint32_t index,
                     pl_extern *result) {
    if (record == NULL || record->instance.store == 0 ||
        index >= pl_library_parts_of(record->library)->export_count) {
        return -1;
    }
    size_t length;
    const char *name = pl_library_name(record->library, index, &length);
    return pl_instance_export(instances->context, &record->instance, name, length, result) ? 0 : -1;
}

int pl_instances_export(pl_instances *instances, const pl_library *library, uint32_t index,
                        pl_extern *result) {
    return pl_record_export(instances, pl_record_find(instances, library), index, result);
}

uint32_t pl_instances_tls_base(pl_instances *instances, const pl_library *library) {
    const pl_record *record = pl_record_find(instances, library);
    int32_t index = pl_library_parts_of(library)->export_tls_base;
    pl_extern base;
    if (record == NULL) {
        return 0;
    }
    if (index < 0 || pl_record_export(instances, record, (uint32_t)index, &base) != 0 ||
        base.kind != PL_EXTERN_GLOBAL) {
        return record->tls_base;
    }
    return (uint32_t)pl_global_get_i32(instances->context, &base.of.handle);
}

uint64_t pl_instances_resolver_entries(const pl_instances *instances, const pl_library *library) {
    const pl_record *record = pl_record_find(instances, library);
    uint64_t entries = 0;
    for (uint32_t i = 0; record != NULL && record->plt != NULL && i < record->plt->count; i++) {
        entries += record->plt->blocks[i].resolver->function.entries;
    }
    return entries;
}

static int is_running(const pl_instances *instances) {
    return atomic_load_explicit(&instances->running, memory_order_relaxed) != 0;
}

/* Adds to `running`, which one thread at a time writes; returns the new value. */
static unsigned count_running(pl_instances *instances, int change) {
    unsigned now =
        atomic_load_explicit(&instances->running, memory_order_relaxed) + (unsigned)change;
    atomic_store_explicit(&instances->running, now, memory_order_relaxed);
    return now;
}

pl_error *pl_guest_check_stack(const pl_instances *instances) {
    int is_nested = is_running(instances);
    return pl_stack_is_short(is_nested ? PL_STACK_NESTED : PL_STACK_WHOLE)
               ? pl_stack_check(is_nested)
               : NULL;
}

void pl_guest_begin(pl_instances *instances) {
    if (count_running(instances, 1) == 1 && instances->stops != NULL) {
        pl_call_begins(instances->stops);
    }
}

uint64_t pl_guest_end(pl_instances *instances) {
    pl_cancel *stops = instances->stops;
    if (count_running(instances, -1) == 0) {
        return stops != NULL ? pl_call_ends(stops) : 0;
    }
    return stops != NULL && pl_cancel_cause(stops) == PL_CAUSE_STOPPED ? pl_cancel_call(stops) : 0;
}

void pl_instances_number_calls(pl_instances *instances) {
    instances->stops = pl_shared_cancel(pl_group_shared(instances->group));
}

void pl_instances_set_stack_top(pl_instances *instances, uint32_t top) {
    pl_error *error = NULL;
    if (instances->has_stack_pointer) {
        error = pl_global_set_i32(instances->context, &instances->stack_pointer.of.handle,
                                  (int32_t)top);
    }
    if (error != NULL) {
        pl_wasmtime.error_delete(error);
    }
}

int pl_instances_invoke(pl_instances *instances, const pl_func *func, pl_value *values,
                        size_t count, pl_failure *failure) {
    pl_global *stack_pointer =
        instances->has_stack_pointer ? &instances->stack_pointer.of.handle : NULL;
    int32_t top = stack_pointer != NULL ? pl_global_get_i32(instances->context, stack_pointer) : 0;
    *failure = (pl_failure){.error = pl_guest_check_stack(instances)};
    if (failure->error != NULL) {
        return PL_ERROR;
    }
    pl_hosted before = pl_calling();
    pl_guest_begin(instances);
    failure->error =
        pl_wasmtime.func_call_unchecked(instances->context, func, values, count, &failure->trap);
    failure->stopped = pl_guest_end(instances);
    int failed = failure->error != NULL || failure->trap != NULL;
    pl_called(before, failed, failure);
    if (!failed) {
        return PL_OK;
    }
    pl_instances_set_stack_top(instances, (uint32_t)top);
    return failure->error != NULL ? PL_ERROR : PL_TRAP;
}

int pl_instances_is_running(const pl_instances *instances) { return is_running(instances); }

int pl_instances_call(pl_instances *instances, const pl_func *func, pl_value *values, size_t count,
                      pl_failure *failure) {
    int before;
    *failure = (pl_failure){0};
    int status = pl_call_begin(instances->group, &before);
    if (status == PL_OK) {
        status = pl_instances_invoke(instances, func, values, count, failure);
    }
    pl_safepoint_restore(pl_group_safepoint(instances->group), before);
    return status;
}

int pl_instances_run(pl_instances *instances, const pl_library *library, uint32_t index,
                     pl_failure *failure) {
    pl_extern function;
    pl_value none = {.i64 = 0};
    if (pl_instances_export(instances, library, index, &function) != 0 ||
        function.kind != PL_EXTERN_FUNC) {
        return -1;
    }
    return pl_instances_call(instances, &function.of.func, &none, 0, failure);
}
