/* Discipline: pl_wasmtime is written only by pl_api_set, before the first other call into the core; read-only after. */
#include "api.h"

#include "api_table.h"

#include <string.h>

struct pl_api pl_wasmtime;

static const struct {
    const char *name;
    size_t offset;
} entries[] = {
#define PL_API_ENTRY(result, name, parameters) {"wasmtime_" #name, offsetof(struct pl_api, name)},
    PL_API_ENTRIES(PL_API_ENTRY)
#undef PL_API_ENTRY
#define PL_API_ENTRY(result, name, parameters) {"wasm_" #name, offsetof(struct pl_api, name)},
    PL_API_PLAIN_ENTRIES(PL_API_ENTRY)
#undef PL_API_ENTRY
};

enum { ENTRY_COUNT = sizeof entries / sizeof *entries };

_Static_assert(sizeof(void *) == sizeof(void (*)(void)), "an address and a function pointer must be one size");

const char *pl_api_name(size_t index) {
    return index < ENTRY_COUNT ? entries[index].name : NULL;
}

int pl_api_set(size_t index, void *address) {
    if (index >= ENTRY_COUNT) {
        return -1;
    }
    /* By memcpy: ISO C has no cast from an object pointer to a function pointer. */
    memcpy((char *)&pl_wasmtime + entries[index].offset, &address, sizeof address);
    return 0;
}

const char *pl_api_missing(void) {
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        void *address;
        memcpy(&address, (const char *)&pl_wasmtime + entries[i].offset, sizeof address);
        if (address == NULL) {
            return entries[i].name;
        }
    }
    return NULL;
}
