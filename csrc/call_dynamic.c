/* Discipline: everything belongs to the group's thread. */
#include "call_dynamic.h"

#include "api_table.h"
#include "guest.h"

#include <stdlib.h>
#include <string.h>

enum { ERRNO_INVAL = 28, ERRNO_OVERFLOW = 61, ERRNO_MEMVIOLATION = 78 };
enum { STRICT = 1, SIGNATURE_SIZE = 6, CAPACITY = 256, FEW = 16, ATTEMPTS = 100 };

/* The cache */

struct entry {
    uint64_t changes;
    uint32_t slot;
    const pl_signature *signature;
};

struct pl_calls {
    /* CAPACITY entries, indexed by slot, allocated at the first store; a later entry replaces an
     * earlier one */
    struct entry *entries;
};

pl_calls *pl_calls_new(void) { return calloc(1, sizeof(pl_calls)); }

void pl_calls_free(pl_calls *calls) {
    if (calls != NULL) {
        free(calls->entries);
        free(calls);
    }
}

void pl_calls_put(pl_calls *calls, uint64_t changes, uint32_t slot, const pl_signature *signature) {
    if (calls->entries == NULL) {
        calls->entries = malloc(CAPACITY * sizeof *calls->entries);
        if (calls->entries == NULL) {
            return; /* out of memory: not cached */
        }
        for (uint32_t i = 0; i < CAPACITY; i++) {
            calls->entries[i].changes = UINT64_MAX;
        }
    }
    calls->entries[slot % CAPACITY] = (struct entry){changes, slot, signature};
}

int pl_calls_get(const pl_calls *calls, uint64_t changes, uint32_t slot,
                 const pl_signature **signature) {
    const struct entry *entry = calls->entries != NULL ? calls->entries + slot % CAPACITY : NULL;
    if (entry == NULL || entry->changes != changes || entry->slot != slot) {
        return 0;
    }
    *signature = entry->signature;
    return 1;
}

/* Returns the type of the function in a slot, or NULL: there is none, or `trap` is set. */
static const pl_signature *signature_of(pl_import *import, pl_caller *caller, uint32_t slot,
                                        pl_trap **trap) {
    const pl_extern *table = pl_instances_table(import->instances);
    pl_calls *calls = pl_instances_calls(import->instances);
    const pl_shared *shared = pl_group_shared(import->function.group);
    const pl_signature *signature = NULL;
    pl_func function;
    *trap = NULL;
    if (table == NULL || pl_table_get(pl_instances_context(import->instances), &table->of.handle,
                                      slot, &function) != 1) {
        return NULL;
    }
    for (int attempt = 0;
         attempt < ATTEMPTS && !pl_calls_get(calls, pl_shared_generation(shared), slot, &signature);
         attempt++) {
        pl_value question = {.i64 = 0};
        question.i32 = (int32_t)slot;
        /* the generation may change before the call returns: repeat */
        *trap = pl_host_enter(import, caller, &question, 1);
        if (*trap != NULL) {
            return NULL;
        }
    }
    return signature;
}

/* call_dynamic */

static uint32_t size_of(uint8_t type) {
    return type == PL_VALUE_V128 ? 16 : type == PL_VALUE_I64 || type == PL_VALUE_F64 ? 8 : 4;
}

static uint64_t total_size(const uint8_t *types, uint32_t count) {
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        size += size_of(types[i]);
    }
    return size;
}

/* Reads the parameters from `size` bytes at `address`. A parameter that does not fit into the rest
 * is zero and consumes nothing. */
static int read_params(const pl_import *import, const pl_signature *signature, uint64_t address,
                       uint64_t size, pl_value *values) {
    uint64_t offset = 0;
    for (uint32_t i = 0; i < signature->param_count; i++) {
        uint32_t wanted = size_of(signature->types[i]);
        memset(values + i, 0, sizeof *values);
        if (offset + wanted <= size) {
            const uint8_t *from = pl_guest_bytes(import, address + offset, wanted);
            if (from == NULL) {
                return ERRNO_MEMVIOLATION;
            }
            memcpy(values + i, from, wanted);
            offset += wanted;
        }
    }
    return 0;
}

/* Writes the results that fit. */
static int write_results(const pl_import *import, const pl_signature *signature, uint64_t address,
                         uint64_t size, const pl_value *values) {
    const uint8_t *types = signature->types + signature->param_count;
    uint64_t offset = 0;
    for (uint32_t i = 0; i < signature->result_count; i++) {
        uint32_t wanted = size_of(types[i]);
        if (offset + wanted <= size) {
            uint8_t *to = pl_guest_bytes(import, address + offset, wanted);
            if (to == NULL) {
                return ERRNO_MEMVIOLATION;
            }
            memcpy(to, values + i, wanted);
            offset += wanted;
        }
    }
    return 0;
}

/* Passes the failure of the called function to the caller. */
static pl_trap *pass_on(pl_failure *failure) {
    pl_raise(failure->raised);
    if (failure->trap != NULL) {
        return failure->trap;
    }
    pl_bytes message = {0, NULL};
    pl_wasmtime.error_message(failure->error, &message);
    pl_wasmtime.error_delete(failure->error);
    pl_trap *trap = pl_wasmtime.trap_new(message.data, message.size);
    pl_wasmtime.byte_vec_delete(&message);
    return trap;
}

pl_trap *pl_call_dynamic(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)count;
    pl_import *import = environment;
    const uint32_t slot = (uint32_t)values[0].i32, from = (uint32_t)values[1].i32,
                   size = (uint32_t)values[2].i32;
    const uint32_t to = (uint32_t)values[3].i32, room = (uint32_t)values[4].i32;
    const int strict = values[5].i32 == STRICT;
    pl_trap *trap;
    const pl_signature *signature = signature_of(import, caller, slot, &trap);
    if (trap != NULL) {
        return trap;
    }
    values[0].i64 = ERRNO_INVAL;
    if (signature == NULL || signature->invoke.store == 0 ||
        (strict && total_size(signature->types, signature->param_count) != size)) {
        return pl_guest_look(import);
    }
    const uint32_t params = signature->param_count, results = signature->result_count;
    const uint32_t wanted = params + 1 > results ? params + 1 : results;
    pl_value few[FEW], *raw = wanted <= FEW ? few : malloc(wanted * sizeof *raw);
    if (raw == NULL) {
        return pl_trap_of("no memory for the values of a call");
    }
    int number = read_params(import, signature, from, size, raw);
    if (number == 0) {
        pl_failure failure;
        raw[params].i64 = 0;
        raw[params].i32 = (int32_t)slot;
        if (pl_instances_invoke(import->instances, &signature->invoke, raw, wanted, &failure) !=
            PL_OK) {
            trap = pass_on(&failure);
        } else {
            number = write_results(import, signature, to, room, raw);
        }
    }
    if (number == 0 && strict && total_size(signature->types + params, results) != room) {
        number = ERRNO_INVAL;
    }
    if (raw != few) {
        free(raw);
    }
    values[0].i64 = number;
    return trap != NULL ? trap : pl_guest_look(import);
}

/* reflect_signature */

static void tell(uint8_t *to, int is_cacheable, uint32_t params, uint32_t results) {
    const uint16_t counts[2] = {(uint16_t)params, (uint16_t)results};
    to[0] = (uint8_t)is_cacheable;
    to[1] = 0;
    memcpy(to + 2, counts, sizeof counts);
}

static int reflect(const pl_import *import, const pl_signature *signature,
                   const uint32_t *arguments) {
    const uint32_t slot = arguments[0], params = arguments[1], results = arguments[3];
    const uint16_t params_limit = (uint16_t)arguments[2], results_limit = (uint16_t)arguments[4];
    const pl_extern *table = pl_instances_table(import->instances);
    uint8_t *out = pl_guest_bytes(import, arguments[5], SIGNATURE_SIZE);
    if (out == NULL) {
        return ERRNO_MEMVIOLATION;
    }
    const int is_there =
        table != NULL &&
        slot < pl_table_size(pl_instances_context(import->instances), &table->of.handle);
    const int is_cacheable =
        is_there && !pl_closures_has(pl_instances_closures(import->instances), slot);
    if (signature == NULL) {
        tell(out, is_cacheable, 0, 0);
        return ERRNO_INVAL;
    }
    tell(out, is_cacheable, signature->param_count, signature->result_count);
    if (signature->invoke.store == 0) {
        return ERRNO_INVAL;
    }
    if (signature->param_count > params_limit || signature->result_count > results_limit) {
        return ERRNO_OVERFLOW;
    }
    const uint32_t counts[2] = {signature->param_count, signature->result_count};
    const uint8_t *const from[2] = {signature->types, signature->types + signature->param_count};
    uint8_t *const to[2] = {pl_guest_bytes(import, params, counts[0]),
                            pl_guest_bytes(import, results, counts[1])};
    for (int i = 0; i < 2; i++) {
        if (to[i] == NULL && counts[i] != 0) {
            return ERRNO_MEMVIOLATION;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (counts[i] != 0) {
            memcpy(to[i], from[i], counts[i]);
        }
    }
    return 0;
}

pl_trap *pl_reflect_signature(void *environment, pl_caller *caller, pl_value *values,
                              size_t count) {
    (void)count;
    pl_import *import = environment;
    uint32_t arguments[6];
    for (int i = 0; i < 6; i++) {
        arguments[i] = (uint32_t)values[i].i32;
    }
    pl_trap *trap;
    const pl_signature *signature = signature_of(import, caller, arguments[0], &trap);
    if (trap != NULL) {
        return trap;
    }
    values[0].i64 = reflect(import, signature, arguments);
    return pl_guest_look(import);
}
