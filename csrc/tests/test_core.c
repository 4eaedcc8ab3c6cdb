/* Tests of the core against a wasmtime made of the functions below: what is passed on, what comes back, who owns it.
 *
 *     cc -std=c11 -Icsrc csrc/tests/test_core.c csrc/[a-z]*.c -o test_core && ./test_core
 *
 * Prints one line a test and exits with 0, or stops at the first check that fails.
 */
#include "api.h"
#include "call.h"
#include "hostfn.h"
#include "object.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);     \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

static pl_context *const context = (pl_context *)0x1000;
static char trap_text[2 * PL_MESSAGE_CAPACITY];
static pl_trap *(*registered)(void *, pl_caller *, pl_value *, size_t);
static void *registered_environment;

/* The fake wasmtime. */

static pl_error *func_call_unchecked(pl_context *at, const pl_func *func, pl_value *values, size_t count, pl_trap **trap) {
    CHECK(at == context);
    if (func->store == 2) {
        *trap = (pl_trap *)0x2000;
        return NULL;
    }
    if (func->store == 3) {
        return (pl_error *)0x3000;
    }
    int32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += values[i].i32;
    }
    values[0].i32 = sum;
    return NULL;
}

static void func_new_unchecked(pl_context *at, const pl_type *type, pl_trap *(*callback)(void *, pl_caller *, pl_value *, size_t),
                               void *environment, void (*finalizer)(void *), pl_func *result) {
    CHECK(at == context && type == (pl_type *)0x4000 && finalizer == NULL);
    registered = callback;
    registered_environment = environment;
    result->store = 7;
    result->body = environment;
}

static pl_trap *trap_new(const char *text, size_t length) {
    CHECK(length < sizeof trap_text);
    memcpy(trap_text, text, length);
    trap_text[length] = '\0';
    return (pl_trap *)0x5000;
}

static pl_cell slots[4];

static bool table_get(pl_context *at, const pl_table *table, uint64_t index, pl_cell *cell) {
    CHECK(at == context && table->index == 9);
    if (index >= 4) {
        return false;
    }
    *cell = slots[index];
    return true;
}

static pl_error *table_set(pl_context *at, const pl_table *table, uint64_t index, const pl_cell *cell) {
    CHECK(at == context && table->index == 9 && cell->kind == PL_CELL_FUNCREF);
    if (index >= 4) {
        return (pl_error *)0x6000;
    }
    slots[index] = *cell;
    return NULL;
}

static pl_cell stored;

static void global_get(pl_context *at, const pl_global *global, pl_cell *cell) {
    CHECK(at == context && global->index == 5);
    *cell = stored;
}

static pl_error *global_set(pl_context *at, const pl_global *global, const pl_cell *cell) {
    CHECK(at == context && global->index == 5 && cell->kind == PL_CELL_I32);
    stored = *cell;
    return NULL;
}

static size_t memory_data_size(pl_context *at, const pl_memory *memory) {
    CHECK(at == context && memory->index == 3);
    return 65536;
}

static size_t sharedmemory_data_size(const pl_shared_memory *memory) {
    CHECK(memory == (const pl_shared_memory *)0x7000);
    return 131072;
}

static void set(const char *name, void (*function)(void)) {
    for (size_t i = 0; pl_api_name(i); i++) {
        if (strcmp(pl_api_name(i), name) == 0) {
            void *address;
            memcpy(&address, &function, sizeof address);
            CHECK(pl_api_set(i, address) == 0);
            return;
        }
    }
    CHECK(!"a name that the table has");
}

/* The tests. */

static void test_table_is_incomplete_until_every_entry_is_set(void) {
    size_t count = 0;
    for (; pl_api_name(count); count++) {
        CHECK(strcmp(pl_api_missing(), pl_api_name(count)) == 0);
        CHECK(pl_api_set(count, (void *)0x1) == 0);
    }
    CHECK(pl_api_missing() == NULL);
    CHECK(pl_api_set(count, (void *)0x1) == -1);
    CHECK(pl_api_name(count + 1) == NULL);
}

static void test_call_tells_result_trap_and_error_apart(void) {
    pl_value values[3] = {{.i32 = 1}, {.i32 = 2}, {.i32 = 3}};
    pl_failure failure = {(pl_trap *)0x1, (pl_error *)0x1};
    pl_func good = {1, NULL}, traps = {2, NULL}, fails = {3, NULL};
    CHECK(pl_call(context, &good, values, 3, &failure) == PL_OK);
    CHECK(values[0].i32 == 6 && failure.trap == NULL && failure.error == NULL);
    CHECK(pl_call(context, &traps, values, 3, &failure) == PL_TRAP);
    CHECK(failure.trap == (pl_trap *)0x2000 && failure.error == NULL);
    CHECK(pl_call(context, &fails, values, 3, &failure) == PL_ERROR);
    CHECK(failure.trap == NULL && failure.error == (pl_error *)0x3000);
}

static int host(uintptr_t handle, pl_value *values, size_t count, char *message, size_t capacity) {
    CHECK(capacity == PL_MESSAGE_CAPACITY && message[0] == '\0');
    if (handle == 1) {
        values[0].i64 = values[0].i64 + (int64_t)count;
        return 0;
    }
    if (handle == 2) {
        memcpy(message, "no", 3);
    } else {
        memset(message, 'x', capacity); /* no NUL: the core must not run over the end */
    }
    return -1;
}

static void test_host_function_passes_values_and_turns_failure_into_a_trap(void) {
    pl_hostfn function = {.callback = host, .handle = 1, .entries = 0};
    pl_func func;
    pl_hostfn_new(context, (pl_type *)0x4000, &function, &func);
    CHECK(func.store == 7 && registered_environment == &function);
    pl_value values[2] = {{.i64 = 40}, {.i64 = 0}};
    CHECK(registered(&function, NULL, values, 2) == NULL);
    CHECK(values[0].i64 == 42 && function.entries == 1);
    function.handle = 2;
    CHECK(registered(&function, NULL, values, 2) == (pl_trap *)0x5000);
    CHECK(strcmp(trap_text, "no") == 0);
    function.handle = 3;
    CHECK(registered(&function, NULL, values, 2) == (pl_trap *)0x5000);
    CHECK(strlen(trap_text) == PL_MESSAGE_CAPACITY - 1 && function.entries == 3);
}

static void test_table_slots(void) {
    pl_table table = {1, 9, 0};
    pl_func func = {11, (void *)0x8000}, found;
    CHECK(pl_table_get(context, &table, 2, &found) == 0);
    CHECK(pl_table_set(context, &table, 2, &func) == NULL);
    CHECK(pl_table_get(context, &table, 2, &found) == 1);
    CHECK(found.store == 11 && found.body == (void *)0x8000);
    CHECK(pl_table_set(context, &table, 2, NULL) == NULL);
    CHECK(pl_table_get(context, &table, 2, &found) == 0);
    CHECK(pl_table_get(context, &table, 4, &found) == -1);
    CHECK(pl_table_set(context, &table, 4, &func) == (pl_error *)0x6000);
}

static void test_globals_and_memories(void) {
    pl_global global = {1, 5, 0};
    CHECK(pl_global_set_i32(context, &global, -5) == NULL);
    CHECK(pl_global_get_i32(context, &global) == -5);
    pl_extern memory = {.kind = PL_EXTERN_MEMORY, .of = {.handle = {1, 3, 0}}};
    pl_extern shared = {.kind = PL_EXTERN_SHARED_MEMORY, .of = {.shared_memory = (pl_shared_memory *)0x7000}};
    CHECK(pl_memory_size(context, &memory) == 65536);
    CHECK(pl_memory_size(context, &shared) == 131072);
}

#define RUN(test)     \
    do {              \
        test();       \
        puts(#test);  \
    } while (0)
#define SET(name) set("wasmtime_" #name, (void (*)(void))name)

int main(void) {
    RUN(test_table_is_incomplete_until_every_entry_is_set);
    SET(func_call_unchecked);
    SET(func_new_unchecked);
    SET(trap_new);
    SET(table_get);
    SET(table_set);
    SET(global_get);
    SET(global_set);
    SET(memory_data_size);
    SET(sharedmemory_data_size);
    RUN(test_call_tells_result_trap_and_error_apart);
    RUN(test_host_function_passes_values_and_turns_failure_into_a_trap);
    RUN(test_table_slots);
    RUN(test_globals_and_memories);
    return 0;
}
