/* Discipline: everything belongs to the group's thread; the flag and the cancellation are
 * atomic. */
#include "builtin.h"

#include "call_dynamic.h"
#include "guest.h"

#include <string.h>

static pl_trap *safepoint(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller, (void)values, (void)count;
    return pl_guest_look(environment);
}

/* Looks a name up in the dlsym cache of the group. Other threads may write the guest's memory
 * meanwhile, so the name is copied first. */
static int known(const pl_import *import, int64_t scope, const uint8_t *name, size_t length,
                 uint32_t *value) {
    char copy[PL_NAME_LENGTH];
    if (length > sizeof copy) {
        return 0;
    }
    memcpy(copy, name, length);
    uint64_t changes = pl_shared_generation(pl_group_shared(import->function.group));
    return pl_names_get(pl_instances_names(import->instances), changes, import->function.handle,
                        scope, copy, length, value);
}

static pl_trap *dlsym(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    pl_import *import = environment;
    uint32_t value;
    uint64_t address = (uint32_t)values[1].i32;
    uint64_t size = pl_instances_memory_size(import->instances);
    if (address < size) {
        const uint8_t *name = pl_guest_bytes(import, address, 1);
        const uint8_t *end = memchr(
            name, 0, size - address < PL_NAME_LENGTH + 1 ? size - address : PL_NAME_LENGTH + 1);
        if (end != NULL && known(import, values[0].i32, name, (size_t)(end - name), &value)) {
            values[0].i32 = (int32_t)value;
            return pl_guest_look(import);
        }
    }
    return pl_host_enter(environment, caller, values, count);
}

static pl_trap *dlsym_wasix(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    pl_import *import = environment;
    uint32_t value, length = (uint32_t)values[2].i32;
    const uint8_t *name = pl_guest_bytes(import, (uint32_t)values[1].i32, length);
    uint8_t *result = pl_guest_bytes(import, (uint32_t)values[5].i32, sizeof value);
    if (name != NULL && result != NULL && known(import, values[0].i32, name, length, &value)) {
        memcpy(result, &value, sizeof value);
        values[0].i64 = 0;
        return pl_guest_look(import);
    }
    return pl_host_enter(environment, caller, values, count);
}

static pl_trap *dl_invalid_handle(void *environment, pl_caller *caller, pl_value *values,
                                  size_t count) {
    pl_import *import = environment;
    uint32_t value;
    /* the entry has an empty name */
    if (!known(import, values[0].i32, (const uint8_t *)"", 0, &value)) {
        return pl_host_enter(environment, caller, values, count);
    }
    values[0].i64 = value;
    return pl_guest_look(import);
}

/* Writes a number to a result pointer of the guest. */
static pl_trap *tell(const pl_import *import, pl_value *values, uint32_t number) {
    uint8_t *result = pl_guest_bytes(import, (uint32_t)values[0].i32, sizeof number);
    values[0].i64 = result != NULL ? 0 : PL_ERRNO_MEMVIOLATION;
    if (result != NULL) {
        memcpy(result, &number, sizeof number);
    }
    return pl_guest_look(import);
}

static pl_trap *thread_id(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller, (void)count;
    const pl_import *import = environment;
    return tell(import, values, pl_instances_thread(import->instances));
}

static pl_trap *proc_id(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller, (void)count;
    return tell(environment, values, PL_PROCESS);
}

static pl_trap *unsupported(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller;
    if (count != 0) {
        values[0].i64 = PL_ERRNO_NOTSUP;
    }
    return pl_guest_look(environment);
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
    case PL_BUILTIN_DL_INVALID_HANDLE:
        return dl_invalid_handle;
    case PL_BUILTIN_THREAD_ID:
        return thread_id;
    case PL_BUILTIN_EMPTY:
        return empty;
    case PL_BUILTIN_PROC_ID:
        return proc_id;
    case PL_BUILTIN_CALL_DYNAMIC:
        return pl_call_dynamic;
    case PL_BUILTIN_REFLECT_SIGNATURE:
        return pl_reflect_signature;
    case PL_BUILTIN_UNSUPPORTED:
        return unsupported;
    default:
        return pl_host_enter;
    }
}
