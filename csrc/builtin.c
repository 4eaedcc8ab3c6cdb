/* Discipline: everything belongs to the group's thread; the flag and the cancellation are atomic. */
#include "builtin.h"

#include "hot.h"

#include <string.h>

static inline pl_trap *look(const pl_import *import) {
    return pl_is_quiet(import->flag, import->cancel) ? NULL : pl_host_poll(import->function.group);
}

static pl_trap *safepoint(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller, (void)values, (void)count;
    return look(environment);
}

/* The guest's memory [address, address + size), or NULL. */
static uint8_t *guest(const pl_import *import, uint64_t address, uint64_t size) {
    const pl_extern *memory = pl_instances_memory(import->instances);
    pl_context *context = pl_instances_context(import->instances);
    if (memory == NULL || address + size > pl_memory_size(context, memory)) {
        return NULL;
    }
    return pl_memory_data(context, memory) + address;
}

/* Looks a name up in what the group knows. Others may write the guest's memory meanwhile, so it is copied first. */
static int known(const pl_import *import, int64_t scope, const uint8_t *name, size_t length, uint32_t *value) {
    char copy[PL_NAME_LENGTH];
    if (length > sizeof copy) {
        return 0;
    }
    memcpy(copy, name, length);
    uint64_t changes = pl_shared_changes(pl_group_shared(import->function.group));
    return pl_names_get(pl_instances_names(import->instances), changes, import->function.handle, scope, copy, length, value);
}

static pl_trap *dlsym(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    pl_import *import = environment;
    uint32_t value;
    uint64_t address = (uint32_t)values[1].i32;
    const pl_extern *memory = pl_instances_memory(import->instances);
    uint64_t size = memory != NULL ? pl_memory_size(pl_instances_context(import->instances), memory) : 0;
    if (address < size) {
        const uint8_t *name = guest(import, address, 1);
        const uint8_t *end = memchr(name, 0, size - address < PL_NAME_LENGTH + 1 ? size - address : PL_NAME_LENGTH + 1);
        if (end != NULL && known(import, values[0].i32, name, (size_t)(end - name), &value)) {
            values[0].i32 = (int32_t)value;
            return look(import);
        }
    }
    return pl_host_enter(environment, caller, values, count);
}

static pl_trap *dlsym_wasix(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    pl_import *import = environment;
    uint32_t value, length = (uint32_t)values[2].i32;
    const uint8_t *name = guest(import, (uint32_t)values[1].i32, length);
    uint8_t *result = guest(import, (uint32_t)values[5].i32, sizeof value);
    if (name != NULL && result != NULL && known(import, values[0].i32, name, length, &value)) {
        memcpy(result, &value, sizeof value);
        values[0].i64 = 0;
        return look(import);
    }
    return pl_host_enter(environment, caller, values, count);
}

static pl_trap *thread_id(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller, (void)count;
    const pl_import *import = environment;
    uint32_t number = pl_instances_thread(import->instances);
    uint8_t *result = guest(import, (uint32_t)values[0].i32, sizeof number);
    values[0].i64 = result != NULL ? 0 : PL_ERRNO_FAULT;
    if (result != NULL) {
        memcpy(result, &number, sizeof number);
    }
    return look(import);
}

static pl_trap *empty(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)environment, (void)caller, (void)values, (void)count;
    return NULL;
}

pl_builtin_function pl_builtin(uint32_t index) {
    switch (index) {
    case PL_BUILTIN_SAFEPOINT:
        return safepoint;
    case PL_BUILTIN_DLSYM:
        return dlsym;
    case PL_BUILTIN_DLSYM_WASIX:
        return dlsym_wasix;
    case PL_BUILTIN_THREAD_ID:
        return thread_id;
    case PL_BUILTIN_EMPTY:
        return empty;
    default:
        return pl_host_enter;
    }
}
