/* Discipline: a pl_instances belongs to the thread that runs its store. Only `running` is atomic: other threads read it. */
#include "instances.h"

#include "api_table.h"
#include "builtin.h"
#include "callback.h"
#include "dynamic.h"
#include "spare.h"
#include "stack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One library in this group. */
struct record {
    pl_library *library; /* NULL: an empty place */
    uint64_t serial;     /* 0 while it is being loaded */
    pl_instance instance;
    pl_plt *plt; /* its trampolines, or NULL */
    uint32_t tls_base;
    uint64_t identity; /* of the instance: that of a spare is what it was */
    pl_spare *spare;   /* what becomes of it when it is dropped, or NULL */
};

/* A callback in this group. */
struct callback {
    pl_import *import; /* NULL: not made yet */
    pl_func self;
};

struct pl_instances {
    pl_group *group;
    pl_context *context;
    pl_process *process;
    pl_host_callback callback;
    pl_check check;
    uintptr_t handle;
    int has_memory, has_table, has_stack_pointer;
    pl_extern memory, table, stack_pointer;
    struct record *records; /* by the libraries' places */
    uint32_t capacity;
    uint64_t serials;
    pl_extern *tags; /* of kind PL_EXTERN_TAG, or not made yet */
    uint32_t tag_count;
    pl_wasi_call *wasi[PL_WASI_FUNCTIONS];
    pl_atomics_call *atomics[PL_ATOMICS_KINDS]; /* made when they are first wanted */
    struct callback *callbacks; /* by their numbers; made when they are first wanted */
    uint32_t callback_count;
    pl_import *hosts; /* wasmtime keeps their addresses, so they stay until everything goes */
    pl_plt *plts;     /* as long as that */
    pl_names *names;
    pl_calls *calls;
    pl_closures *closures;
    pl_spare *spares; /* the one that was dropped last comes first */
    uint32_t thread;
    int exits;
    atomic_uint running; /* calls by the host that are under way, one inside the other. Relaxed: written by the thread that makes them */
    pl_cancel *stops; /* numbers the calls, so that one can be stopped; NULL: nothing does */
    pl_trouble trouble;
};

static pl_types types;

void pl_types_set(const pl_types *given) {
    types = *given;
}

const pl_types *pl_types_get(void) {
    return &types;
}

pl_instances *pl_instances_new(pl_group *group, pl_context *context, pl_process *process, pl_host_callback callback, pl_check check,
                               uintptr_t handle) {
    pl_instances *instances = calloc(1, sizeof *instances);
    if (instances != NULL) {
        instances->group = group;
        instances->context = context;
        instances->process = process;
        instances->callback = callback;
        instances->check = check;
        instances->handle = handle;
        instances->names = pl_names_new();
        instances->calls = pl_calls_new();
        instances->closures = pl_closures_new();
        if (instances->names == NULL || instances->calls == NULL || instances->closures == NULL) {
            pl_instances_free(instances);
            return NULL;
        }
    }
    return instances;
}

pl_names *pl_instances_names(pl_instances *instances) {
    return instances->names;
}

pl_calls *pl_instances_calls(const pl_instances *instances) {
    return instances->calls;
}

pl_closures *pl_instances_closures(const pl_instances *instances) {
    return instances->closures;
}

int pl_instances_exits(const pl_instances *instances) {
    return instances->exits;
}

void pl_instances_set_exits(pl_instances *instances, int exits) {
    instances->exits = exits;
}

uint32_t pl_instances_thread(const pl_instances *instances) {
    return instances->thread;
}

void pl_instances_set_thread(pl_instances *instances, uint32_t thread) {
    instances->thread = thread;
}

void pl_instances_free(pl_instances *instances) {
    if (instances == NULL) {
        return;
    }
    for (uint32_t i = 0; i < instances->capacity; i++) {
        pl_library_release(instances->records[i].library);
        pl_spare_free(instances->records[i].spare);
    }
    while (instances->spares != NULL) {
        pl_spare *next = instances->spares->next;
        pl_spare_free(instances->spares);
        instances->spares = next;
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
    pl_names_free(instances->names);
    pl_calls_free(instances->calls);
    pl_closures_free(instances->closures);
    free(instances->records);
    free(instances->tags);
    free(instances->callbacks);
    free(instances);
}

pl_group *pl_instances_group(const pl_instances *instances) {
    return instances->group;
}

pl_context *pl_instances_context(const pl_instances *instances) {
    return instances->context;
}

pl_trouble *pl_instances_trouble(pl_instances *instances) {
    return &instances->trouble;
}

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
    return instances->has_table ? pl_table_size(instances->context, &instances->table.of.handle) : 0;
}

const pl_extern *pl_instances_table(const pl_instances *instances) {
    return instances->has_table ? &instances->table : NULL;
}

const pl_extern *pl_instances_stack_pointer(const pl_instances *instances) {
    return instances->has_stack_pointer ? &instances->stack_pointer : NULL;
}

static int fail(pl_instances *instances, int stage, pl_library *library, uint32_t detail) {
    instances->trouble = (pl_trouble){.stage = stage, .detail = detail, .library = library, .failure = {0}};
    return -1;
}

static int fail_with(pl_instances *instances, int stage, pl_library *library, uint32_t detail, pl_failure failure) {
    fail(instances, stage, library, detail);
    instances->trouble.failure = failure;
    return -1;
}

/* Records */

static struct record *find(const pl_instances *instances, const pl_library *library) {
    uint32_t place = pl_library_parts_of(library)->place;
    struct record *record = place < instances->capacity ? instances->records + place : NULL;
    return record != NULL && record->library == library ? record : NULL;
}

/* Empties a record; what can be used again is kept. */
static void clear(pl_instances *instances, struct record *record) {
    if (record->spare != NULL) {
        record->spare->next = instances->spares;
        instances->spares = record->spare;
    }
    pl_library_release(record->library);
    *record = (struct record){.library = NULL};
}

/* Makes room for element `index` of an array of `*count` elements, the new ones zero: the array, which may have moved, or NULL, with the old
 * one as it was, if there is no memory. */
static void *grown(void *array, uint32_t *count, uint32_t index, size_t size) {
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

/* An empty record for a library, or NULL if there is no memory. */
static struct record *add(pl_instances *instances, pl_library *library) {
    uint32_t place = pl_library_parts_of(library)->place;
    struct record *records = grown(instances->records, &instances->capacity, place, sizeof *records);
    if (records == NULL) {
        return NULL;
    }
    instances->records = records;
    struct record *record = instances->records + place;
    clear(instances, record);
    *record = (struct record){.library = library};
    pl_library_retain(library);
    return record;
}

void pl_instances_drop(pl_instances *instances, pl_library *library) {
    struct record *record = find(instances, library);
    if (record != NULL) {
        clear(instances, record);
    }
}

uint64_t pl_instances_serial(const pl_instances *instances, const pl_library *library) {
    const struct record *record = find(instances, library);
    return record != NULL ? record->serial : 0;
}

static int export_of(pl_instances *instances, const struct record *record, uint32_t index, pl_extern *result) {
    if (record == NULL || record->instance.store == 0 || index >= pl_library_parts_of(record->library)->export_count) {
        return -1;
    }
    size_t length;
    const char *name = pl_library_name(record->library, index, &length);
    return pl_instance_export(instances->context, &record->instance, name, length, result) ? 0 : -1;
}

int pl_instances_export(pl_instances *instances, const pl_library *library, uint32_t index, pl_extern *result) {
    return export_of(instances, find(instances, library), index, result);
}

uint32_t pl_instances_tls_base(pl_instances *instances, const pl_library *library) {
    const struct record *record = find(instances, library);
    int32_t index = pl_library_parts_of(library)->export_tls_base;
    pl_extern base;
    if (record == NULL) {
        return 0;
    }
    if (index < 0 || export_of(instances, record, (uint32_t)index, &base) != 0 || base.kind != PL_EXTERN_GLOBAL) {
        return record->tls_base;
    }
    return (uint32_t)pl_global_get_i32(instances->context, &base.of.handle);
}

uint64_t pl_instances_resolver_entries(const pl_instances *instances, const pl_library *library) {
    const struct record *record = find(instances, library);
    uint64_t entries = 0;
    for (uint32_t i = 0; record != NULL && record->plt != NULL && i < record->plt->count; i++) {
        entries += record->plt->blocks[i].resolver->function.entries;
    }
    return entries;
}

/* Trampolines */

/* The instance that trampoline `*index` of a library is in, and which one of it; NULL if there is none. */
static const pl_instance *trampolines_of(const pl_instances *instances, const pl_library *library, uint32_t *index) {
    const struct record *record = find(instances, pl_library_plt(library, index));
    uint32_t block = *index / PL_PLT_BLOCK;
    *index %= PL_PLT_BLOCK;
    return record != NULL && record->plt != NULL && block < record->plt->count ? &record->plt->blocks[block].instance : NULL;
}

/* Export KIND + number of the trampolines of a library. */
static int trampoline(pl_instances *instances, const pl_library *library, char kind, uint32_t index, pl_extern *result) {
    const pl_instance *trampolines = trampolines_of(instances, library, &index);
    char name[16];
    int length = snprintf(name, sizeof name, "%c%u", kind, (unsigned)index);
    return trampolines != NULL && pl_instance_export(instances->context, trampolines, name, (size_t)length, result) ? 0 : -1;
}

static int aim(pl_instances *instances, const pl_library *library, uint32_t index, const pl_func *func) {
    const pl_instance *trampolines = trampolines_of(instances, library, &index);
    pl_extern plt;
    if (trampolines == NULL || !pl_instance_export(instances->context, trampolines, "plt", 3, &plt)) {
        return -1;
    }
    pl_error *error = pl_table_set(instances->context, &plt.of.handle, index, func);
    if (error != NULL) {
        pl_wasmtime.error_delete(error);
        return -1;
    }
    return 0;
}

int pl_instances_bind(pl_instances *instances, const pl_library *library, uint32_t index, const pl_library *target, uint32_t export_index) {
    pl_extern function;
    if (find(instances, library) == NULL || pl_instances_export(instances, target, export_index, &function) != 0 ||
        function.kind != PL_EXTERN_FUNC) {
        return -1;
    }
    return aim(instances, library, index, &function.of.func);
}

void pl_instances_unbind(pl_instances *instances, const pl_library *library, uint32_t index) {
    pl_extern stub;
    if (find(instances, library) != NULL && trampoline(instances, library, 's', index, &stub) == 0) {
        aim(instances, library, index, &stub.of.func);
    }
}

/* The guest calls a trampoline that is not bound yet. */
static pl_trap *resolve(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    pl_import *resolver = environment;
    uint32_t index = resolver->first + (uint32_t)values[0].i32, export_index;
    const pl_library *target = NULL;
    if (find(resolver->instances, resolver->library) != NULL) { /* else it is gone, and what its targets were may be, too */
        target = pl_library_target(resolver->library, index, &export_index);
    }
    if (target != NULL && pl_instances_bind(resolver->instances, resolver->library, index, target, export_index) == 0) {
        resolver->function.entries++;
        return NULL;
    }
    values[0].i32 = (int32_t)index;
    return pl_host_enter(&resolver->function, caller, values, count);
}

/* Host functions */

static pl_import *new_import(pl_instances *instances, uintptr_t handle) {
    pl_import *host = calloc(1, sizeof *host);
    if (host != NULL) {
        host->function = (pl_hostfn){.callback = instances->callback, .group = instances->group, .handle = handle};
        host->instances = instances;
        host->flag = pl_shared_flag(pl_group_shared(instances->group));
        host->cancel = pl_shared_cancel(pl_group_shared(instances->group));
        host->nudge = pl_group_nudge(instances->group);
        host->next = instances->hosts;
        instances->hosts = host;
    }
    return host;
}

static int builtin(pl_instances *instances, const pl_source *source, pl_func *result) {
    pl_import *import = new_import(instances, source->handle);
    if (import == NULL) {
        return -1;
    }
    pl_builtin_function function = source->kind == PL_SOURCE_BUILTIN ? pl_builtin(source->index) : pl_host_enter;
    pl_wasmtime.func_new_unchecked(instances->context, source->type, function, import, NULL, result);
    return 0;
}

/* Each callback is one function in the group, however many libraries import it. */
static int callback(pl_instances *instances, const pl_source *source, pl_func *result) {
    struct callback *callbacks = grown(instances->callbacks, &instances->callback_count, source->index, sizeof *callbacks);
    if (callbacks == NULL) {
        return -1;
    }
    instances->callbacks = callbacks;
    struct callback *known = instances->callbacks + source->index;
    if (known->import == NULL) {
        known->import = new_import(instances, source->handle);
        if (known->import == NULL) {
            return -1;
        }
        known->import->type = (uint32_t)source->value;
        pl_wasmtime.func_new_unchecked(instances->context, source->type, pl_callback(known->import->type), known->import, NULL,
                                       &known->self);
    }
    *result = known->self;
    return 0;
}

static int wasi_function(pl_instances *instances, uint32_t index, pl_func *result) {
    pl_wasi_call *call = index < PL_WASI_FUNCTIONS ? instances->wasi[index] : NULL;
    if (index >= PL_WASI_FUNCTIONS) {
        return -1;
    }
    if (call == NULL) {
        call = calloc(1, sizeof *call);
        if (call == NULL) {
            return -1;
        }
        call->process = instances->process;
        call->group = instances->group;
        call->context = instances->context;
        call->check = instances->check;
        call->handle = instances->handle;
        instances->wasi[index] = call;
        if (instances->has_memory) {
            pl_wasi_connect(call, index, &instances->memory);
        }
        pl_wasi_new(instances->context, pl_process_type(instances->process, index), call, &call->self);
    }
    *result = call->self;
    return 0;
}

static int atomics_function(pl_instances *instances, uint32_t kind, const pl_type *type, pl_func *result) {
    pl_atomics_call *call = kind < PL_ATOMICS_KINDS ? instances->atomics[kind] : NULL;
    if (kind >= PL_ATOMICS_KINDS) {
        return -1;
    }
    if (call == NULL) {
        call = calloc(1, sizeof *call);
        if (call == NULL) {
            return -1;
        }
        call->group = instances->group;
        call->context = instances->context;
        call->kind = (int)kind;
        call->check = instances->check;
        call->handle = instances->handle;
        if (instances->has_memory) {
            call->memory = instances->memory;
        }
        pl_atomics_new(type, call);
        instances->atomics[kind] = call;
    }
    *result = call->self;
    return 0;
}

void pl_instances_connect(pl_instances *instances) {
    for (uint32_t i = 0; i < PL_WASI_FUNCTIONS; i++) {
        if (instances->wasi[i] != NULL && instances->has_memory) {
            pl_wasi_connect(instances->wasi[i], i, &instances->memory);
        }
    }
}

/* Loading */

static int tag(pl_instances *instances, uint32_t index, const pl_type *type, pl_extern *result, pl_failure *failure) {
    pl_extern *tags = grown(instances->tags, &instances->tag_count, index, sizeof *tags);
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

static int number(pl_instances *instances, const pl_type *type, int64_t value, pl_extern *result, pl_failure *failure) {
    result->kind = PL_EXTERN_GLOBAL;
    failure->error = pl_global_new_i32(instances->context, type, (int32_t)(uint32_t)(uint64_t)value, &result->of.handle);
    return failure->error != NULL ? PL_STAGE_MAKE : PL_STAGE_NONE;
}

static int object(const pl_extern *from, pl_extern *result) {
    if (from == NULL) {
        return PL_STAGE_OBJECT;
    }
    *result = *from;
    return PL_STAGE_NONE;
}

/* Answers an enum pl_stage. */
static int extern_of(pl_instances *instances, const struct record *record, const pl_source *source, pl_extern *result,
                     pl_failure *failure) {
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
        return number(instances, types.constant, source->value, result, failure);
    case PL_SOURCE_CELL:
        return number(instances, types.cell, source->value, result, failure);
    case PL_SOURCE_TLS_CELL: {
        uint32_t base = pl_instances_tls_base(instances, source->library);
        return base == 0 ? PL_STAGE_TLS_CELL : number(instances, types.cell, (int64_t)base + source->value, result, failure);
    }
    case PL_SOURCE_EXPORT:
        return pl_instances_export(instances, source->library, source->index, result) != 0 ? PL_STAGE_EXPORT : PL_STAGE_NONE;
    case PL_SOURCE_PLT:
        return trampoline(instances, record->library, 't', source->index, result) != 0 ? PL_STAGE_EXPORT : PL_STAGE_NONE;
    case PL_SOURCE_WASI:
        return wasi_function(instances, source->index, &result->of.func) != 0 ? PL_STAGE_ROOM : PL_STAGE_NONE;
    case PL_SOURCE_ATOMICS:
        return atomics_function(instances, source->index, source->type, &result->of.func) != 0 ? PL_STAGE_ROOM : PL_STAGE_NONE;
    case PL_SOURCE_CALLBACK:
        return callback(instances, source, &result->of.func) != 0 ? PL_STAGE_ROOM : PL_STAGE_NONE;
    case PL_SOURCE_TAG:
        return tag(instances, source->index, source->type, result, failure);
    default:
        return builtin(instances, source, &result->of.func) != 0 ? PL_STAGE_ROOM : PL_STAGE_NONE;
    }
}

int pl_instances_host(pl_instances *instances, const pl_source *source, pl_func *result) {
    pl_failure failure = {0};
    pl_extern made;
    int stage = extern_of(instances, NULL, source, &made, &failure);
    *result = made.of.func;
    return stage != PL_STAGE_NONE ? fail_with(instances, stage, NULL, 0, failure) : 0;
}

static int is_made_for_it(const pl_source *source) {
    return source->kind == PL_SOURCE_HOST || source->kind == PL_SOURCE_BUILTIN;
}

static uint64_t origin(const pl_instances *instances, const pl_source *source) {
    const struct record *record = source->kind == PL_SOURCE_EXPORT ? find(instances, source->library) : NULL;
    return record != NULL ? record->identity : 0;
}

static int is_running(const pl_instances *instances) {
    return atomic_load_explicit(&instances->running, memory_order_relaxed) != 0;
}

/* Adds to `running`, of which one thread at a time is the writer; returns what it is then. */
static unsigned count_running(pl_instances *instances, int change) {
    unsigned now = atomic_load_explicit(&instances->running, memory_order_relaxed) + (unsigned)change;
    atomic_store_explicit(&instances->running, now, memory_order_relaxed);
    return now;
}

/* Whether the calling thread has the stack to enter the store: NULL, or the error. */
static pl_error *enter_stack(const pl_instances *instances) {
    int is_nested = is_running(instances);
    return pl_stack_is_short(is_nested ? PL_STACK_NESTED : PL_STACK_WHOLE) ? pl_stack_check(is_nested) : NULL;
}

/* Around guest code that the host runs: the outermost is a call that can be stopped. leave_guest answers its number if it was to stop. */
static void enter_guest(pl_instances *instances) {
    if (count_running(instances, 1) == 1 && instances->stops != NULL) {
        pl_call_begins(instances->stops);
    }
}

static uint64_t leave_guest(pl_instances *instances) {
    pl_cancel *stops = instances->stops;
    if (count_running(instances, -1) == 0) {
        return stops != NULL ? pl_call_ends(stops) : 0;
    }
    return stops != NULL && pl_cancel_cause(stops) == PL_CAUSE_STOPPED ? pl_cancel_call(stops) : 0;
}

void pl_instances_number_calls(pl_instances *instances) {
    instances->stops = pl_shared_cancel(pl_group_shared(instances->group));
}

/* Makes the trampolines of a library: 0, or -1 with the trouble. */
static int instantiate_trampolines(pl_instances *instances, struct record *record) {
    pl_library *library = record->library;
    const pl_library_parts *parts = pl_library_parts_of(library);
    const uint32_t count = pl_library_blocks(library);
    pl_plt *plt = calloc(1, sizeof *plt + count * sizeof *plt->blocks);
    if (plt == NULL) {
        return fail(instances, PL_STAGE_ROOM, library, 0);
    }
    plt->next = instances->plts;
    instances->plts = plt;
    while (plt->count < count) {
        pl_import *resolver = new_import(instances, parts->resolver);
        if (resolver == NULL) {
            return fail(instances, PL_STAGE_ROOM, library, 0);
        }
        resolver->library = library;
        resolver->first = plt->count * PL_PLT_BLOCK;
        pl_library_retain(library);
        pl_failure failure = {0};
        pl_extern imported = {.kind = PL_EXTERN_FUNC, .of = {.handle = {0, 0, 0}}};
        pl_wasmtime.func_new_unchecked(instances->context, types.resolve, resolve, resolver, NULL, &imported.of.func);
        plt->blocks[plt->count].resolver = resolver;
        if (pl_instance_new(instances->context, parts->trampolines[plt->count], &imported, 1, &plt->blocks[plt->count].instance,
                            &failure) != PL_OK) {
            return fail_with(instances, PL_STAGE_INSTANTIATE, library, 0, failure);
        }
        plt->count++;
    }
    record->plt = plt;
    return 0;
}

static int instantiate(pl_instances *instances, struct record *record, pl_extern *externs, pl_spare *spare) {
    pl_library *library = record->library;
    const pl_library_parts *parts = pl_library_parts_of(library);
    pl_failure failure = {0};
    if (parts->trampoline_count != 0 && instantiate_trampolines(instances, record) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < parts->source_count; i++) {
        int stage = extern_of(instances, record, parts->sources + i, externs + i, &failure);
        if (stage != PL_STAGE_NONE) {
            return fail_with(instances, stage, library, i, failure);
        }
        if (spare != NULL) {
            spare->hosts[i] = is_made_for_it(parts->sources + i) ? instances->hosts : NULL;
            spare->origins[i] = origin(instances, parts->sources + i);
        }
    }
    int status = PL_ERROR;
    failure.error = enter_stack(instances);
    if (failure.error == NULL) {
        enter_guest(instances); /* its start function */
        status = pl_instance_new(instances->context, parts->code, externs, parts->source_count, &record->instance, &failure);
        failure.stopped = leave_guest(instances);
    }
    if (status != PL_OK) {
        record->instance.store = 0;
        return fail_with(instances, PL_STAGE_INSTANTIATE, library, 0, failure);
    }
    return 0;
}

/* Takes from a library what the group has none of yet. */
static void adopt(pl_instances *instances, const struct record *record) {
    const pl_library_parts *parts = pl_library_parts_of(record->library);
    pl_extern found;
    if (!instances->has_memory && parts->export_memory >= 0 &&
        export_of(instances, record, (uint32_t)parts->export_memory, &found) == 0) {
        pl_instances_set_memory(instances, &found);
    }
    if (!instances->has_table && parts->export_table >= 0 && export_of(instances, record, (uint32_t)parts->export_table, &found) == 0) {
        pl_instances_set_table(instances, &found);
    }
    if (!instances->has_stack_pointer && parts->export_stack_pointer >= 0 &&
        export_of(instances, record, (uint32_t)parts->export_stack_pointer, &found) == 0) {
        pl_instances_set_stack_pointer(instances, &found);
    }
}

/* From now on the library's waits are the host's, which can be reached. */
static int take_waits(pl_instances *instances, const struct record *record) {
    pl_extern table;
    pl_func function;
    if (!pl_instance_export(instances->context, &record->instance, PL_WAITS, sizeof PL_WAITS - 1, &table) ||
        table.kind != PL_EXTERN_TABLE) {
        return fail(instances, PL_STAGE_EXPORT, record->library, UINT32_MAX);
    }
    for (uint32_t kind = PL_ATOMICS_WAIT32; kind <= PL_ATOMICS_NOTIFY; kind++) {
        if (atomics_function(instances, kind, types.waits[kind], &function) != 0) {
            return fail(instances, PL_STAGE_ROOM, record->library, 0);
        }
        pl_failure failure = {.error = pl_table_set(instances->context, &table.of.handle, kind, &function)};
        if (failure.error != NULL) {
            return fail_with(instances, PL_STAGE_EXPORT, record->library, UINT32_MAX, failure);
        }
    }
    return 0;
}

static int start_thread_locals(pl_instances *instances, struct record *record, uint32_t block) {
    pl_library *library = record->library;
    const pl_library_parts *parts = pl_library_parts_of(library);
    pl_extern function;
    pl_failure failure = {0};
    if (parts->export_tls_init < 0 || export_of(instances, record, (uint32_t)parts->export_tls_init, &function) != 0) {
        return fail(instances, PL_STAGE_EXPORT, library, (uint32_t)parts->export_tls_init);
    }
    pl_value value = {.i64 = 0};
    value.i32 = (int32_t)block;
    int status = pl_instances_call(instances, &function.of.func, &value, 1, &failure);
    record->tls_base = block;
    if (status == PL_OK && parts->export_tls_relocs >= 0) {
        if (export_of(instances, record, (uint32_t)parts->export_tls_relocs, &function) != 0) {
            return fail(instances, PL_STAGE_EXPORT, library, (uint32_t)parts->export_tls_relocs);
        }
        status = pl_instances_call(instances, &function.of.func, &value, 0, &failure);
    }
    return status == PL_OK ? 0 : fail_with(instances, PL_STAGE_TLS, library, (uint32_t)status, failure);
}

int pl_instances_make_block(pl_instances *instances, pl_library *library) {
    struct record *record = find(instances, library);
    int32_t index = pl_library_parts_of(library)->export_tls_make;
    pl_extern function;
    pl_failure failure = {0};
    if (index < 0 || export_of(instances, record, (uint32_t)index, &function) != 0) {
        return fail(instances, PL_STAGE_EXPORT, library, (uint32_t)index);
    }
    pl_value value = {.i64 = 0};
    int status = pl_instances_call(instances, &function.of.func, &value, 1, &failure);
    record = find(instances, library); /* the records may have moved */
    if (status != PL_OK || record == NULL) {
        return fail_with(instances, PL_STAGE_TLS, library, (uint32_t)status, failure);
    }
    record->tls_base = (uint32_t)value.i32;
    return 0;
}

static int fill_slots(pl_instances *instances, const struct record *record, int replaying) {
    const pl_library_parts *parts = pl_library_parts_of(record->library);
    const pl_table *table = &instances->table.of.handle;
    for (uint32_t i = 0; instances->has_table && i < parts->slot_count; i++) {
        uint32_t slot = parts->slot_base + i;
        pl_extern function;
        pl_func other;
        if (export_of(instances, record, parts->slot_exports[i], &function) != 0) {
            return fail(instances, PL_STAGE_EXPORT, record->library, parts->slot_exports[i]);
        }
        if (replaying && pl_table_get(instances->context, table, slot, &other) == 1) {
            return fail(instances, PL_STAGE_TAKEN, record->library, slot);
        }
        pl_failure failure = {0};
        failure.error = pl_table_set(instances->context, table, slot, &function.of.func);
        if (failure.error != NULL) {
            return fail_with(instances, PL_STAGE_TABLE, record->library, slot + 1, failure);
        }
    }
    return 0;
}

/* Spares */

/* Makes a fresh instance one that can be used again, if it can be: 0, or -1 with the trouble. */
static int keep(pl_instances *instances, struct record *record, pl_spare *spare, int replaying) {
    spare->identity = record->identity;
    spare->instance = record->instance;
    spare->plt = record->plt;
    int result = pl_spare_note_slots(spare, instances->context, pl_instances_table(instances));
    if (result != 0) {
        pl_spare_free(spare);
        return result < 0 ? fail(instances, PL_STAGE_EXPORT, record->library, UINT32_MAX) : 0;
    }
    if (!replaying) {
        pl_spare_take_image(record->library, instances->context, pl_instances_memory(instances));
    }
    record->spare = spare;
    return 0;
}

/* Takes the spare that fits a library out of the list, or NULL. */
static pl_spare *take_fitting(pl_instances *instances, const pl_library *library, int replaying) {
    const pl_library_parts *parts = pl_library_parts_of(library);
    for (pl_spare **link = &instances->spares; *link != NULL; link = &(*link)->next) {
        pl_spare *spare = *link;
        int fits = pl_spare_fits(spare, library, !replaying);
        for (uint32_t i = 0; fits && i < parts->source_count; i++) {
            fits = origin(instances, parts->sources + i) == spare->origins[i];
        }
        if (fits) {
            *link = spare->next;
            return spare;
        }
    }
    return NULL;
}

/* Gives the globals and host functions that were made for a spare what this load has decided: 0, or -1 with the trouble. */
static int adapt(pl_instances *instances, pl_spare *spare, pl_library *library) {
    const pl_library_parts *parts = pl_library_parts_of(library);
    for (uint32_t i = 0; i < parts->source_count; i++) {
        const pl_source *source = parts->sources + i;
        int64_t value = source->value;
        if (spare->hosts[i] != NULL) {
            spare->hosts[i]->function.handle = source->handle;
        }
        if (source->kind == PL_SOURCE_TLS_CELL) {
            uint32_t base = pl_instances_tls_base(instances, source->library);
            if (base == 0) {
                return fail(instances, PL_STAGE_TLS_CELL, library, i);
            }
            value += base;
        } else if (source->kind != PL_SOURCE_CELL) {
            continue;
        }
        pl_failure failure = {.error = pl_global_set_i32(instances->context, &spare->externs[i].of.handle, (int32_t)(uint32_t)(uint64_t)value)};
        if (failure.error != NULL) {
            return fail_with(instances, PL_STAGE_MAKE, library, i, failure);
        }
    }
    for (uint32_t i = 0; spare->plt != NULL && i < spare->plt->count; i++) {
        pl_import *resolver = spare->plt->blocks[i].resolver;
        pl_library_retain(library);
        pl_library_release(resolver->library);
        resolver->library = library;
        resolver->function.handle = parts->resolver;
        resolver->function.entries = 0;
    }
    return 0;
}

/* Fills a record from a spare: 1, 0 if there is none that fits, or -1 with the trouble. */
static int reuse(pl_instances *instances, struct record *record, int replaying) {
    pl_library *library = record->library;
    pl_spare *spare = take_fitting(instances, library, replaying);
    if (spare == NULL) {
        return 0;
    }
    record->spare = spare;
    if (adapt(instances, spare, library) != 0) {
        return -1;
    }
    pl_failure failure = {0};
    if (pl_spare_restore(spare, library, instances->context, pl_instances_memory(instances), pl_instances_table(instances), !replaying,
                         &failure.error) != 0) {
        return fail_with(instances, PL_STAGE_TABLE, library, pl_library_parts_of(library)->table_base, failure);
    }
    record->instance = spare->instance;
    record->plt = spare->plt;
    record->identity = spare->identity;
    record->serial = ++instances->serials;
    return 1;
}

/* Instantiates a library and takes from it what the group has none of: 0, or -1 with the trouble. */
static int load_fresh(pl_instances *instances, struct record *record, int replaying) {
    pl_library *library = record->library;
    const pl_library_parts *parts = pl_library_parts_of(library);
    pl_spare *spare = parts->code_number != 0 ? pl_spare_new(library) : NULL;
    pl_extern *externs = spare != NULL ? spare->externs : malloc((parts->source_count ? parts->source_count : 1) * sizeof *externs);
    int failed = externs == NULL ? fail(instances, PL_STAGE_ROOM, library, 0) : instantiate(instances, record, externs, spare);
    if (spare == NULL) {
        free(externs);
    }
    if (failed) {
        pl_spare_free(spare);
        return failed;
    }
    record->identity = record->serial = ++instances->serials;
    adopt(instances, record);
    if (parts->rewritten && take_waits(instances, record) != 0) {
        pl_spare_free(spare);
        return -1;
    }
    return spare != NULL ? keep(instances, record, spare, replaying) : 0;
}

int pl_instances_load(pl_instances *instances, pl_library *library, uint32_t block, int replaying) {
    struct record *record = add(instances, library);
    if (record == NULL) {
        return fail(instances, PL_STAGE_ROOM, library, 0);
    }
    int done = pl_library_parts_of(library)->code_number != 0 ? reuse(instances, record, replaying) : 0;
    if (done < 0 || (done == 0 && load_fresh(instances, record, replaying) != 0)) {
        return -1;
    }
    if (block != 0 && start_thread_locals(instances, record, block) != 0) {
        return -1;
    }
    return fill_slots(instances, record, replaying);
}

void pl_instances_set_stack_top(pl_instances *instances, uint32_t top) {
    pl_error *error = NULL;
    if (instances->has_stack_pointer) {
        error = pl_global_set_i32(instances->context, &instances->stack_pointer.of.handle, (int32_t)top);
    }
    if (error != NULL) {
        pl_wasmtime.error_delete(error);
    }
}

int pl_instances_invoke(pl_instances *instances, const pl_func *func, pl_value *values, size_t count, pl_failure *failure) {
    pl_global *stack_pointer = instances->has_stack_pointer ? &instances->stack_pointer.of.handle : NULL;
    int32_t top = stack_pointer != NULL ? pl_global_get_i32(instances->context, stack_pointer) : 0;
    *failure = (pl_failure){.error = enter_stack(instances)};
    if (failure->error != NULL) {
        return PL_ERROR;
    }
    pl_hosted before = pl_calling();
    enter_guest(instances);
    failure->error = pl_wasmtime.func_call_unchecked(instances->context, func, values, count, &failure->trap);
    failure->stopped = leave_guest(instances);
    int failed = failure->error != NULL || failure->trap != NULL;
    pl_called(before, failed, failure);
    if (!failed) {
        return PL_OK;
    }
    pl_instances_set_stack_top(instances, (uint32_t)top);
    return failure->error != NULL ? PL_ERROR : PL_TRAP;
}

int pl_instances_is_running(const pl_instances *instances) {
    return is_running(instances);
}

int pl_instances_call(pl_instances *instances, const pl_func *func, pl_value *values, size_t count, pl_failure *failure) {
    int before;
    *failure = (pl_failure){0};
    int status = pl_call_begin(instances->group, &before);
    if (status == PL_OK) {
        status = pl_instances_invoke(instances, func, values, count, failure);
    }
    pl_safepoint_restore(pl_group_safepoint(instances->group), before);
    return status;
}

int pl_instances_run(pl_instances *instances, const pl_library *library, uint32_t index, pl_failure *failure) {
    pl_extern function;
    pl_value none = {.i64 = 0};
    if (pl_instances_export(instances, library, index, &function) != 0 || function.kind != PL_EXTERN_FUNC) {
        return -1;
    }
    return pl_instances_call(instances, &function.of.func, &none, 0, failure);
}
