/* hostfuncs: the host functions of one group, each made when a library first imports it.
 * Discipline: that of instances.c. */
#include "instances_impl.h"

#include "api_table.h"
#include "builtin.h"
#include "callback.h"
#include "call_dynamic.h"

#include <stdlib.h>

pl_import *pl_import_new(pl_instances *instances, uintptr_t handle) {
    pl_import *host = calloc(1, sizeof *host);
    if (host != NULL) {
        host->function = (pl_hostfn){
            .callback = instances->callback, .group = instances->group, .handle = handle};
        host->instances = instances;
        host->flag = pl_shared_flag(pl_group_shared(instances->group));
        host->cancel = pl_shared_cancel(pl_group_shared(instances->group));
        host->nudge = pl_group_nudge(instances->group);
        host->next = instances->hosts;
        instances->hosts = host;
    }
    return host;
}

int pl_make_builtin(pl_instances *instances, const pl_source *source, pl_func *result) {
    pl_import *import = pl_import_new(instances, source->handle);
    if (import == NULL) {
        return -1;
    }
    pl_builtin_function function =
        source->kind == PL_SOURCE_BUILTIN ? pl_builtin(source->index) : pl_host_enter;
    pl_wasmtime.func_new_unchecked(instances->context, source->type, function, import, NULL,
                                   result);
    return 0;
}

int pl_make_callback(pl_instances *instances, const pl_source *source, pl_func *result) {
    pl_callback_place *callbacks = pl_grown(instances->callbacks, &instances->callback_count,
                                            source->index, sizeof *callbacks);
    if (callbacks == NULL) {
        return -1;
    }
    instances->callbacks = callbacks;
    pl_callback_place *known = instances->callbacks + source->index;
    if (known->import == NULL) {
        known->import = pl_import_new(instances, source->handle);
        if (known->import == NULL) {
            return -1;
        }
        known->import->type = (uint32_t)source->value;
        pl_wasmtime.func_new_unchecked(instances->context, source->type,
                                       pl_callback(known->import->type), known->import, NULL,
                                       &known->self);
    }
    *result = known->self;
    return 0;
}

int pl_make_wasi(pl_instances *instances, uint32_t index, pl_func *result) {
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
        pl_wasi_new(instances->context, pl_process_type(instances->process, index), call,
                    &call->self);
    }
    *result = call->self;
    return 0;
}

int pl_make_atomics(pl_instances *instances, uint32_t kind, const pl_type *type, pl_func *result) {
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
