/* Discipline: only pl_api_set writes pl_wasmtime, before the first other call into the core; it is
 * read-only afterwards. */
#include "api.h"

#include "api_table.h"

#include <string.h>

struct pl_api pl_wasmtime;

_Static_assert(sizeof(long long) == 8 && sizeof(size_t) == 8, "64-bit pointers");

/* The letter of a type (api.h). uint64_t and size_t are one of the two unsigned types, which one
 * differs by system. */
#define PL_SHAPE(type)                                                                             \
    _Generic((type){0},                                                                            \
        bool: '?',                                                                                 \
        uint8_t: 'B',                                                                              \
        long: 'q',                                                                                 \
        long long: 'q',                                                                            \
        unsigned long: 'Q',                                                                        \
        unsigned long long: 'Q',                                                                   \
        pl_host_function *: 'h',                                                                   \
        pl_deadline_callback *: 'd',                                                               \
        pl_finalizer *: 'f',                                                                       \
        default: 'p')
#define PL_RESULT(type)                                                                            \
    _Generic((type(*)(void))0,                                                                     \
        void (*)(void): 'v',                                                                       \
        bool (*)(void): '?',                                                                       \
        unsigned long (*)(void): 'Q',                                                              \
        unsigned long long (*)(void): 'Q',                                                         \
        default: 'p')

#define PL_SHAPES1(a) PL_SHAPE(a)
#define PL_SHAPES2(a, ...) PL_SHAPE(a), PL_SHAPES1(__VA_ARGS__)
#define PL_SHAPES3(a, ...) PL_SHAPE(a), PL_SHAPES2(__VA_ARGS__)
#define PL_SHAPES4(a, ...) PL_SHAPE(a), PL_SHAPES3(__VA_ARGS__)
#define PL_SHAPES5(a, ...) PL_SHAPE(a), PL_SHAPES4(__VA_ARGS__)
#define PL_SHAPES6(a, ...) PL_SHAPE(a), PL_SHAPES5(__VA_ARGS__)
#define PL_SHAPES7(a, ...) PL_SHAPE(a), PL_SHAPES6(__VA_ARGS__)
#define PL_PICK(a, b, c, d, e, f, g, name, ...) name
#define PL_SHAPES(...)                                                                             \
    PL_PICK(__VA_ARGS__, PL_SHAPES7, PL_SHAPES6, PL_SHAPES5, PL_SHAPES4, PL_SHAPES3, PL_SHAPES2,   \
            PL_SHAPES1, none)                                                                      \
    (__VA_ARGS__)

static const struct {
    const char *name;
    size_t offset;
    char shape[9];
} entries[] = {
#define PL_API_ENTRY(result, name, parameters)                                                     \
    {"wasmtime_" #name,                                                                            \
     offsetof(struct pl_api, name),                                                                \
     {PL_RESULT(result), PL_SHAPES parameters, 0}},
    PL_API_ENTRIES(PL_API_ENTRY)
#undef PL_API_ENTRY
#define PL_API_ENTRY(result, name, parameters)                                                     \
    {"wasm_" #name, offsetof(struct pl_api, name), {PL_RESULT(result), PL_SHAPES parameters, 0}},
        PL_API_PLAIN_ENTRIES(PL_API_ENTRY)
#undef PL_API_ENTRY
};

enum { ENTRY_COUNT = sizeof entries / sizeof *entries };

_Static_assert(sizeof(void *) == sizeof(void (*)(void)),
               "an address and a function pointer must be one size");

const char *pl_api_name(size_t index) { return index < ENTRY_COUNT ? entries[index].name : NULL; }

const char *pl_api_shape(size_t index) { return index < ENTRY_COUNT ? entries[index].shape : NULL; }

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
