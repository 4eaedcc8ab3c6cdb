/* fake: a fake wasmtime for tests of the core's calls. It has one store, and keeps a journal of the
 * calls.
 *
 * A module is a list of exports. The journal has one word for each call that changes something:
 *
 *     new:A           module A was instantiated       cell:16         a mutable i32 global was made
 *     grow:4          the table grew by 4 slots       constant:16     an immutable one
 *     set:5=A.f       a slot was filled               tag             a tag
 *     set:5=null      or emptied                      host:0          host function 0 was made
 *     plt:A.1=B.g     the same, of trampolines of A   call:A.f(16)    a function was called
 *
 *     static fake_module a = {"A", {{"f", PL_EXTERN_FUNC}}};
 *     pl_library *library = fake_library(&a, &(pl_library_parts){.place = 0});
 *     CHECK(pl_instances_load(instances, library, 0, 0) == 0);
 *     EXPECT("new:A set:4=A.f");
 *
 * Errors and traps are memory, so that AddressSanitizer sees one that is lost; fake_alive counts
 * them. */
#ifndef PL_FAKE_H
#define PL_FAKE_H

#include "check.h"

#include "api_table.h"
#include "instances.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

enum {
    FAKE_EXPORTS = 12,
    FAKE_SLOTS = 32,
    FAKE_INSTANCES = 128,
    FAKE_PLT = 8,
    FAKE_MEMORY = 4096,
    FAKE_HOSTS = 128,
    FAKE_STORE = 1, /* of guest functions; their body encodes instance and export */
    FAKE_HOST_STORE = 2
};

typedef struct fake_export {
    const char *name;
    uint8_t kind;
} fake_export;

typedef struct fake_module {
    const char *name;
    fake_export exports[FAKE_EXPORTS];
    char names[128];                    /* as in pl_library_parts, */
    uint32_t offsets[FAKE_EXPORTS + 1]; /* filled in by fake_library */
} fake_module;

static pl_context *const context = (pl_context *)0x1000;
static const pl_types fake_types = {
    .cell = (const pl_type *)0x4001,
    .constant = (const pl_type *)0x4002,
    .resolve = (const pl_type *)0x4003,
    .waits = {(const pl_type *)0x4010, (const pl_type *)0x4011, (const pl_type *)0x4012}};

static char journal[4096];
static size_t journal_length;
static int fake_alive; /* errors and traps that are not freed */
static const fake_module *instances_of[FAKE_INSTANCES];
static pl_extern imports_of[FAKE_INSTANCES][16];
static size_t import_counts[FAKE_INSTANCES];
static size_t instance_count;
static pl_func slots[FAKE_SLOTS], plt[FAKE_INSTANCES][FAKE_PLT]; /* store 0: null */
static uint64_t slot_count;
static int32_t globals[2000]; /* by their handles: of exports, then created ones */
static uint64_t global_count;
static uint8_t fake_memory[FAKE_MEMORY];
static struct {
    pl_trap *(*function)(void *, pl_caller *, pl_value *, size_t);
    void *environment;
    const pl_type *type;
} hosts[FAKE_HOSTS];
static size_t host_count;
static char trap_text[PL_MESSAGE_CAPACITY];

/* The action of a call besides being recorded: it returns 0, or TRAPS or FAILS. NULL: none. */
enum { TRAPS = 1, FAILS = 2 };
static int (*on_call)(const char *name, pl_value *values, size_t count);
static int (*on_new)(const fake_module *module);

/* Makes the n-th call of a function fail, from 1; for an export: it is missing. */
static const char *fake_fault;
static int fake_fault_at;

static inline int is_faulty(const char *function) {
    return fake_fault != NULL && strcmp(fake_fault, function) == 0 && --fake_fault_at == 0;
}

static inline void fail_at(const char *function, int at) {
    fake_fault = function;
    fake_fault_at = at;
}

static inline void note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof journal - journal_length;
    int length = snprintf(journal + journal_length, room, "%s", journal_length ? " " : "");
    length +=
        vsnprintf(journal + journal_length + length, room - (size_t)length, format, arguments);
    va_end(arguments);
    CHECK((size_t)length < room);
    journal_length += (size_t)length;
}

static inline void expect(const char *file, int line, const char *text) {
    if (strcmp(journal, text) != 0) {
        fprintf(stderr, "expected %s\n     got %s\n", text, journal);
        check_failed(1, file, line, "the journal");
    }
    journal[journal_length = 0] = '\0';
}

/* The journal since the last call. */
#define EXPECT(text) expect(__FILE__, __LINE__, text)

static inline void *fake_object(void) {
    fake_alive++;
    return (malloc)(1);
}

static inline void fake_free(void *object) {
    if (object != NULL) {
        fake_alive--;
        free(object);
    }
}

/* Frees a failure. Returns whether it was a trap, an error or empty. */
static inline int fake_take(pl_failure *failure) {
    int kind = failure->trap != NULL ? TRAPS : failure->error != NULL ? FAILS : 0;
    CHECK(failure->trap == NULL || failure->error == NULL);
    fake_free(failure->trap);
    fake_free(failure->error);
    *failure = (pl_failure){0};
    return kind;
}

/* Functions */

static inline pl_func fake_func(size_t instance, size_t number) {
    return (pl_func){FAKE_STORE, (void *)(uintptr_t)(1 + instance * FAKE_EXPORTS + number)};
}

static inline const char *fake_name(const pl_func *func) {
    static char name[64];
    if (func->store == 0) {
        return "null";
    }
    uintptr_t number = (uintptr_t)func->body - 1;
    if (func->store == FAKE_HOST_STORE) {
        snprintf(name, sizeof name, "host%u", (unsigned)number);
    } else {
        CHECK(func->store == FAKE_STORE && number / FAKE_EXPORTS < instance_count);
        const fake_module *module = instances_of[number / FAKE_EXPORTS];
        snprintf(name, sizeof name, "%s.%s", module->name,
                 module->exports[number % FAKE_EXPORTS].name);
    }
    return name;
}

static inline pl_error *fake_func_call_unchecked(pl_context *at, const pl_func *func,
                                                 pl_value *values, size_t count, pl_trap **trap) {
    CHECK(at == context);
    const char *name = fake_name(func);
    char copy[64];
    snprintf(copy, sizeof copy, "%s", name);
    if (count > 0) {
        note("call:%s(%d)", copy, (int)values[0].i32);
    } else {
        note("call:%s()", copy);
    }
    int result = on_call != NULL ? on_call(copy, values, count) : 0;
    if (result == TRAPS) {
        *trap = fake_object();
    }
    return result == FAILS || is_faulty("func_call_unchecked") ? fake_object() : NULL;
}

static inline void
fake_func_new_unchecked(pl_context *at, const pl_type *type,
                        pl_trap *(*function)(void *, pl_caller *, pl_value *, size_t),
                        void *environment, void (*finalizer)(void *), pl_func *result) {
    CHECK(at == context && finalizer == NULL && host_count < FAKE_HOSTS);
    note("host:%u", (unsigned)host_count);
    hosts[host_count].function = function;
    hosts[host_count].environment = environment;
    hosts[host_count].type = type;
    *result = (pl_func){FAKE_HOST_STORE, (void *)(uintptr_t)(++host_count)};
}

/* The guest calls host function `number`. */
static inline pl_trap *fake_enter(size_t number, pl_value *values, size_t count) {
    return hosts[number].function(hosts[number].environment, NULL, values, count);
}

/* Instances */

static inline pl_error *fake_instance_new(pl_context *at, const pl_module *code,
                                          const pl_extern *imports, size_t count,
                                          pl_instance *result, pl_trap **trap) {
    const fake_module *module = (const fake_module *)code;
    CHECK(at == context && instance_count < FAKE_INSTANCES && count <= 16);
    note("new:%s", module->name);
    size_t number = instance_count++;
    instances_of[number] = module;
    import_counts[number] = count;
    for (size_t i = 0; i < count; i++) {
        imports_of[number][i] = imports[i];
    }
    /* trampolines are unbound at first */
    for (size_t i = 0; strcmp(module->name + strlen(module->name) - 1, "~") == 0 && i < FAKE_PLT;
         i++) {
        char name[8];
        snprintf(name, sizeof name, "s%u", (unsigned)i);
        for (size_t j = 0; j < FAKE_EXPORTS && module->exports[j].name != NULL; j++) {
            if (strcmp(module->exports[j].name, name) == 0) {
                plt[number][i] = fake_func(number, j);
            }
        }
    }
    *result = (pl_instance){FAKE_STORE, number};
    int failure = on_new != NULL ? on_new(module) : 0;
    if (failure == TRAPS) {
        *trap = fake_object();
    }
    return failure == FAILS || is_faulty("instance_new") ? fake_object() : NULL;
}

static inline bool fake_instance_export_get(pl_context *at, const pl_instance *instance,
                                            const char *name, size_t length, pl_extern *result) {
    CHECK(at == context && instance->store == FAKE_STORE && instance->index < instance_count);
    const fake_module *module = instances_of[instance->index];
    for (size_t i = 0; i < FAKE_EXPORTS && module->exports[i].name != NULL; i++) {
        if (strlen(module->exports[i].name) == length &&
            memcmp(module->exports[i].name, name, length) == 0) {
            if (is_faulty("instance_export_get")) {
                return false;
            }
            result->kind = module->exports[i].kind;
            if (result->kind == PL_EXTERN_FUNC) {
                result->of.func = fake_func(instance->index, i);
            } else if (result->kind == PL_EXTERN_GLOBAL) {
                result->of.handle = (pl_handle){FAKE_STORE, instance->index * FAKE_EXPORTS + i, 0};
            } else { /* a table of trampolines, or an object that the main module exports */
                int is_plt =
                    result->kind == PL_EXTERN_TABLE && strcmp(module->exports[i].name, "plt") == 0;
                result->of.handle = (pl_handle){FAKE_STORE, is_plt ? 1 + instance->index : 0, 0};
            }
            return true;
        }
    }
    return false;
}

/* Globals and tags */

static inline pl_error *fake_global_new(pl_context *at, const pl_type *type, const pl_cell *value,
                                        pl_global *result) {
    CHECK(at == context && value->kind == PL_CELL_I32 &&
          (type == fake_types.cell || type == fake_types.constant));
    note("%s:%d", type == fake_types.cell ? "cell" : "constant", (int)value->of.i32);
    *result = (pl_global){FAKE_STORE, FAKE_INSTANCES * FAKE_EXPORTS + global_count++, 0};
    CHECK(result->index < sizeof globals / sizeof *globals);
    globals[result->index] = value->of.i32;
    return is_faulty("global_new") ? fake_object() : NULL;
}

static inline void fake_global_get(pl_context *at, const pl_global *global, pl_cell *value) {
    CHECK(at == context && global->store == FAKE_STORE);
    value->kind = PL_CELL_I32;
    value->of.i32 = globals[global->index];
}

static inline pl_error *fake_global_set(pl_context *at, const pl_global *global,
                                        const pl_cell *value) {
    CHECK(at == context && global->store == FAKE_STORE && value->kind == PL_CELL_I32);
    globals[global->index] = value->of.i32;
    return is_faulty("global_set") ? fake_object() : NULL;
}

static inline pl_error *fake_tag_new(pl_context *at, const pl_type *type, pl_handle *result) {
    CHECK(at == context && type == (const pl_type *)0x4004);
    note("tag");
    *result = (pl_handle){FAKE_STORE, 77, 0};
    return is_faulty("tag_new") ? fake_object() : NULL;
}

/* Tables and memories */

static inline pl_func *fake_slot(const pl_table *table, uint64_t index) {
    CHECK(table->store == FAKE_STORE && table->index <= instance_count);
    if (index >= (table->index == 0 ? slot_count : FAKE_PLT)) {
        return NULL;
    }
    return table->index == 0 ? slots + index : plt[table->index - 1] + index;
}

static inline pl_error *fake_table_new(pl_context *at, const pl_type *type, const pl_cell *null,
                                       pl_table *result) {
    CHECK(at == context && type == (const pl_type *)0x4005 && null->of.func.store == 0);
    note("table");
    slot_count = 1;
    *result = (pl_table){FAKE_STORE, 0, 0};
    return is_faulty("table_new") ? fake_object() : NULL;
}

static inline uint64_t fake_table_size(pl_context *at, const pl_table *table) {
    CHECK(at == context && table->index == 0);
    return slot_count;
}

static inline pl_error *fake_table_grow(pl_context *at, const pl_table *table, uint64_t delta,
                                        const pl_cell *null, uint64_t *before) {
    CHECK(at == context && table->index == 0 && null->kind == PL_CELL_FUNCREF &&
          null->of.func.store == 0);
    note("grow:%u", (unsigned)delta);
    if (slot_count + delta > FAKE_SLOTS || is_faulty("table_grow")) {
        return fake_object();
    }
    *before = slot_count;
    slot_count += delta;
    return NULL;
}

static inline bool fake_table_get(pl_context *at, const pl_table *table, uint64_t index,
                                  pl_cell *value) {
    CHECK(at == context);
    const pl_func *slot = fake_slot(table, index);
    if (slot == NULL) {
        return false;
    }
    value->kind = PL_CELL_FUNCREF;
    value->of.func = *slot;
    return true;
}

static inline pl_error *fake_table_set(pl_context *at, const pl_table *table, uint64_t index,
                                       const pl_cell *value) {
    CHECK(at == context && value->kind == PL_CELL_FUNCREF);
    if (table->index == 0) {
        note("set:%u=%s", (unsigned)index, fake_name(&value->of.func));
    } else {
        note("plt:%s.%u=%s", instances_of[table->index - 1]->name, (unsigned)index,
             fake_name(&value->of.func));
    }
    pl_func *slot = fake_slot(table, index);
    if (slot == NULL || is_faulty("table_set")) {
        return fake_object();
    }
    *slot = value->of.func;
    return NULL;
}

static inline uint8_t *fake_memory_data(pl_context *at, const pl_memory *memory) {
    CHECK(at == context && memory->index == 0);
    return fake_memory;
}

static inline size_t fake_memory_data_size(pl_context *at, const pl_memory *memory) {
    CHECK(at == context && memory->index == 0);
    return FAKE_MEMORY;
}

/* Errors and traps */

static inline void fake_error_delete(pl_error *error) { fake_free(error); }

static inline void fake_trap_delete(pl_trap *trap) { fake_free(trap); }

static inline void fake_error_message(const pl_error *error, pl_bytes *message) {
    static const char text[] = "what the error says";
    CHECK(error != NULL);
    *message = (pl_bytes){sizeof text - 1, (malloc)(sizeof text)};
    memcpy(message->data, text, sizeof text);
}

static inline void fake_byte_vec_delete(pl_bytes *bytes) { free(bytes->data); }

static inline pl_error *fake_error_new(const char *text) {
    CHECK(text[0] != '\0');
    return fake_object();
}

static inline pl_trap *fake_trap_new(const char *text, size_t length) {
    CHECK(length < sizeof trap_text);
    memcpy(trap_text, text, length);
    trap_text[length] = '\0';
    return fake_object();
}

/* The store */

static inline pl_store *fake_store_new(pl_engine *engine, void *data, void (*finalizer)(void *)) {
    CHECK(engine == (pl_engine *)0x7000 && data == NULL && finalizer == NULL);
    note("store");
    return fake_object();
}

static inline pl_context *fake_store_context(pl_store *store) {
    CHECK(store != NULL);
    return context;
}

static inline void fake_store_limiter(pl_store *store, int64_t memory, int64_t table, int64_t x,
                                      int64_t y, int64_t z) {
    CHECK(store != NULL && x > 1000000 && y > 1000000 && z > 1000000);
    note("limit:%d,%d", (int)memory, (int)table);
}

static inline void fake_store_delete(pl_store *store) { fake_free(store); }

static inline void fake_store_epoch_deadline_callback(pl_store *store,
                                                      pl_error *(*callback)(pl_context *, void *,
                                                                            uint64_t *, uint8_t *),
                                                      void *data, void (*finalizer)(void *)) {
    CHECK(store != NULL && callback != NULL && data != NULL && finalizer == NULL);
    note("watch");
}

static inline void fake_context_set_epoch_deadline(pl_context *at, uint64_t ticks) {
    CHECK(at == context && ticks > 0);
}

/* Installs all of this in the core's table; other entries must not be called. */
static inline void fake_install(void) {
#define FAKE(name) pl_wasmtime.name = fake_##name
    FAKE(func_call_unchecked);
    FAKE(func_new_unchecked);
    FAKE(store_new);
    FAKE(store_context);
    FAKE(store_limiter);
    FAKE(store_delete);
    FAKE(store_epoch_deadline_callback);
    FAKE(context_set_epoch_deadline);
    FAKE(error_new);
    FAKE(error_delete);
    FAKE(error_message);
    FAKE(byte_vec_delete);
    FAKE(trap_new);
    FAKE(trap_delete);
    FAKE(instance_new);
    FAKE(instance_export_get);
    FAKE(global_new);
    FAKE(global_get);
    FAKE(global_set);
    FAKE(tag_new);
    FAKE(table_new);
    FAKE(table_get);
    FAKE(table_set);
    FAKE(table_size);
    FAKE(table_grow);
    FAKE(memory_data);
    FAKE(memory_data_size);
#undef FAKE
    pl_types_set(&fake_types);
}

/* Resets the store to an empty one; the table has `slots_wanted` slots. Called at the end, too, so
 * that nothing kept here is reported as a leak. */
static inline void fake_reset(uint64_t slots_wanted) {
    CHECK(slots_wanted <= FAKE_SLOTS);
    journal[journal_length = 0] = '\0';
    CHECK(fake_alive == 0);
    instance_count = 0;
    host_count = 0;
    global_count = 0;
    slot_count = slots_wanted;
    memset(hosts, 0, sizeof hosts);
    memset(slots, 0, sizeof slots);
    memset(plt, 0, sizeof plt);
    memset(globals, 0, sizeof globals);
    memset(fake_memory, 0, sizeof fake_memory);
    fake_fault = NULL;
    on_call = NULL;
    on_new = NULL;
}

static inline uint32_t export_number(const fake_module *module, const char *name) {
    for (uint32_t i = 0; i < FAKE_EXPORTS && module->exports[i].name != NULL; i++) {
        if (strcmp(module->exports[i].name, name) == 0) {
            return i;
        }
    }
    CHECK(!"an export of this name");
    return 0;
}

/* Creates a library of this module; `parts` has its other data. Exports with a meaning for the
 * group are found by their names. */
static inline pl_library *fake_library(fake_module *module, const pl_library_parts *parts) {
    pl_library_parts all = *parts;
    uint32_t length = 0, count = 0;
    int32_t *const roles[] = {&all.export_memory,   &all.export_table,    &all.export_stack_pointer,
                              &all.export_tls_base, &all.export_tls_init, &all.export_tls_relocs,
                              &all.export_tls_make};
    static const char *const names[] = {"memory",   "table",      "stack_pointer", "tls_base",
                                        "tls_init", "tls_relocs", "tls_make"};
    for (int i = 0; i < 7; i++) {
        *roles[i] = -1;
    }
    for (; count < FAKE_EXPORTS && module->exports[count].name != NULL; count++) {
        const char *name = module->exports[count].name;
        module->offsets[count] = length;
        CHECK(length + strlen(name) < sizeof module->names);
        memcpy(module->names + length, name, strlen(name));
        length += (uint32_t)strlen(name);
        for (int i = 0; i < 7; i++) {
            if (strcmp(name, names[i]) == 0) {
                *roles[i] = (int32_t)count;
            }
        }
    }
    module->offsets[count] = length;
    all.code = (const pl_module *)module;
    all.names = module->names;
    all.offsets = module->offsets;
    all.export_count = count;
    pl_library *library = pl_library_new(&all);
    CHECK(library != NULL);
    return library;
}

#endif
