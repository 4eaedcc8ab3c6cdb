/* Tests of the core against a fake wasmtime: arguments and results of its calls, ownership, and the
 * state of the group meanwhile. */
#include "check.h"

#include "api.h"
#include "call.h"
#include "epoch.h"
#include "hostfn.h"
#include "instances.h"
#include "wrappers.h"
#include "rendezvous.h"

#include <stdbool.h>
#include <string.h>

static pl_context *const context = (pl_context *)0x1000;
static char trap_text[2 * PL_MESSAGE_CAPACITY];
static pl_trap *(*registered)(void *, pl_caller *, pl_value *, size_t);
static void *registered_environment;
static pl_shared *shared;
static pl_group *group;
static pl_instances *instances;
static int state_inside; /* of the group, while the guest or the host function ran */
static int guest_calls;
static int was_behind; /* the guest was called though the group had something to replay */

static int state(void) { return pl_safepoint_state(pl_group_safepoint(group)); }

/* The fake wasmtime. */

static pl_error *func_call_unchecked(pl_context *at, const pl_func *func, pl_value *values,
                                     size_t count, pl_trap **trap) {
    CHECK(at == context);
    guest_calls++;
    state_inside = state();
    was_behind = pl_group_applied(group) < pl_bus_sent(pl_shared_operations(shared));
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

static void func_new_unchecked(pl_context *at, const pl_type *type,
                               pl_trap *(*callback)(void *, pl_caller *, pl_value *, size_t),
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

static pl_error *table_set(pl_context *at, const pl_table *table, uint64_t index,
                           const pl_cell *cell) {
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

static pl_error *(*epoch_callback)(pl_context *, void *, uint64_t *, uint8_t *);
static void *epoch_data;

static void store_epoch_deadline_callback(pl_store *store,
                                          pl_error *(*callback)(pl_context *, void *, uint64_t *,
                                                                uint8_t *),
                                          void *data, void (*finalizer)(void *)) {
    CHECK(store == (pl_store *)0xa000 && finalizer == NULL);
    epoch_callback = callback;
    epoch_data = data;
}

static uint64_t epoch_deadline;

static void context_set_epoch_deadline(pl_context *at, uint64_t ticks) {
    CHECK(at == context && ticks > 0);
    epoch_deadline = ticks;
}

static pl_error *error_new(const char *text) {
    CHECK(text[0] != '\0');
    return (pl_error *)0x9000;
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

static int replays;

static int replay(uintptr_t handle, uint64_t from, uint64_t to) {
    CHECK(handle == 3 && from <= to);
    replays++;
    return 0;
}

static void set_up(void) {
    shared = pl_shared_new();
    group = pl_group_new(shared, 3, replay, NULL);
    instances = pl_instances_new(group, context, NULL, NULL, NULL, 0);
    replays = guest_calls = 0;
}

static void tear_down(void) {
    pl_instances_free(instances);
    pl_group_free(group);
    pl_shared_free(shared);
    group = NULL;
}

/* Another group carries out an operation, or does nothing if it would have to wait for the
 * group. */
static void lead(void) {
    uintptr_t late;
    if (state() != PL_RUNNING && pl_rwlock_try_write(pl_shared_lock(shared)) == PL_ACQUIRED) {
        pl_group *leader = pl_group_new(shared, 4, replay, NULL);
        CHECK(pl_lead_open(leader) != 0 && pl_lead_meet(leader, -1, &late) == PL_ACQUIRED);
        CHECK(pl_lead_publish(leader) != 0 && pl_lead_finish(leader) == PL_ACQUIRED);
        pl_group_free(leader);
    }
}

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

/* result, then parameters: the letters of api.h */
static void test_each_entry_says_how_it_is_called(void) {
    static const struct {
        const char *name, *shape;
    } expected[] = {{"wasmtime_func_new_unchecked", "vpphpfp"},
                    {"wasmtime_store_limiter", "vpqqqqq"},
                    {"wasmtime_store_epoch_deadline_callback", "vpdpf"},
                    {"wasmtime_linker_get", "?pppQpQp"},
                    {"wasmtime_trap_new_code", "pB"},
                    {"wasmtime_table_size", "Qpp"},
                    {"wasm_trap_delete", "vp"}};
    size_t found = 0;
    for (size_t i = 0; pl_api_name(i); i++) {
        for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
            if (strcmp(pl_api_name(i), expected[k].name) == 0) {
                CHECK(strcmp(pl_api_shape(i), expected[k].shape) == 0);
                found++;
            }
        }
    }
    CHECK(found == sizeof expected / sizeof *expected);
    CHECK(pl_api_shape(1000) == NULL);
}

static size_t frames_of_error;
static int frames_deleted;

static void error_wasm_trace(const pl_error *error, pl_frames *frames) {
    CHECK(error == (const pl_error *)0x3000);
    *frames = (pl_frames){frames_of_error, NULL};
}

static void frame_vec_delete(pl_frames *frames) {
    CHECK(frames->size == frames_of_error);
    frames_deleted++;
}

static void test_error_with_a_backtrace_is_of_a_guest(void) {
    for (frames_of_error = 0; frames_of_error < 3; frames_of_error++) {
        CHECK(pl_error_is_of_guest((const pl_error *)0x3000) == (frames_of_error != 0));
    }
    CHECK(frames_deleted == 3);
}

static void test_call_tells_result_trap_and_error_apart(void) {
    pl_value values[3] = {{.i32 = 1}, {.i32 = 2}, {.i32 = 3}};
    pl_failure failure = {(pl_trap *)0x1, (pl_error *)0x1, 7, 1};
    pl_func good = {1, NULL}, traps = {2, NULL}, fails = {3, NULL};
    set_up();
    CHECK(pl_instances_call(instances, &good, values, 3, &failure) == PL_OK);
    CHECK(values[0].i32 == 6 && failure.trap == NULL && failure.error == NULL);
    CHECK(pl_instances_call(instances, &traps, values, 3, &failure) == PL_TRAP);
    CHECK(failure.trap == (pl_trap *)0x2000 && failure.error == NULL);
    CHECK(pl_instances_call(instances, &fails, values, 3, &failure) == PL_ERROR);
    CHECK(failure.trap == NULL && failure.error == (pl_error *)0x3000);
    tear_down();
}

static void test_call_runs_the_group_after_it_has_replayed(void) {
    pl_value value = {.i32 = 1};
    pl_failure failure;
    pl_func good = {1, NULL}, fails = {3, NULL};
    set_up();
    lead();
    CHECK(pl_instances_call(instances, &good, &value, 1, &failure) == PL_OK);
    CHECK(state_inside == PL_RUNNING && state() == PL_PARKED && replays == 1);
    CHECK(pl_instances_call(instances, &fails, &value, 1, &failure) == PL_ERROR);
    CHECK(state_inside == PL_RUNNING && state() == PL_PARKED && replays == 1);
    pl_safepoint_run(pl_group_safepoint(group));
    CHECK(pl_instances_call(instances, &good, &value, 1, &failure) == PL_OK &&
          state() == PL_RUNNING);
    tear_down();
}

static void test_leader_may_come_at_any_moment_of_a_call(void) {
    pl_value value = {.i32 = 1};
    pl_failure failure;
    pl_func good = {1, NULL};
    int is_over = 0, led = 0;
    for (unsigned steps = 0; !is_over; steps++) {
        set_up();
        was_behind = 0;
        inject_between(steps, lead);
        CHECK(pl_instances_call(instances, &good, &value, 1, &failure) == PL_OK);
        is_over = inject_is_over();
        CHECK(guest_calls == 1 && !was_behind);
        led += pl_bus_sent(pl_shared_operations(shared)) != 0;
        tear_down();
    }
    CHECK(led > 1);
}

static void test_cancelled_or_dead_group_is_not_called(void) {
    pl_value value = {.i32 = 1};
    pl_func good = {1, NULL};
    for (int dead = 0; dead < 2; dead++) {
        pl_failure failure = {(pl_trap *)0x1, (pl_error *)0x1, 7, 1};
        set_up();
        if (dead) {
            pl_safepoint_die(pl_group_safepoint(group));
        } else {
            pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
        }
        CHECK(pl_instances_call(instances, &good, &value, 1, &failure) == PL_ABORTED);
        CHECK(guest_calls == 0 && failure.trap == NULL && failure.error == NULL);
        CHECK(state() == (dead ? PL_DEAD : PL_PARKED));
        tear_down();
    }
}

static int host(uintptr_t handle, pl_value *values, size_t count, char *message, size_t capacity) {
    CHECK(capacity == PL_MESSAGE_CAPACITY && message[0] == '\0');
    if (handle == 1) {
        values[0].i64 = values[0].i64 + (int64_t)count;
        return 0;
    }
    if (handle == 4) {
        state_inside = state();
        lead(); /* no leader is delayed, and the group replays on its way back */
        return 0;
    }
    if (handle == 5) {
        pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
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

static void test_host_function_parks_and_replays_on_its_way_back(void) {
    set_up();
    pl_hostfn function = {.callback = host, .group = group, .handle = 4, .entries = 0};
    pl_func func;
    pl_hostfn_new(context, (pl_type *)0x4000, &function, &func);
    pl_value value = {.i64 = 0};
    pl_safepoint_run(pl_group_safepoint(group));
    CHECK(registered(&function, NULL, &value, 1) == NULL);
    CHECK(state_inside == PL_PARKED && state() == PL_RUNNING && replays == 1);
    function.handle = 2; /* its own trap comes first */
    CHECK(registered(&function, NULL, &value, 1) == (pl_trap *)0x5000 &&
          strcmp(trap_text, "no") == 0);
    function.handle = 5;
    CHECK(registered(&function, NULL, &value, 1) == (pl_trap *)0x5000);
    CHECK(strcmp(trap_text, "the guest was stopped") == 0);
    tear_down();
}

static int stop_now;

static int check_signals(uintptr_t handle) {
    CHECK(handle == 6);
    state_inside = state();
    return stop_now;
}

static void test_epoch_goes_on_stops_or_replays(void) {
    set_up();
    pl_watch watch = {.group = group, .check = check_signals, .handle = 6, .preempt = 0};
    uint64_t delta = 0;
    uint8_t kind = 9;
    pl_epoch_main_thread((uintptr_t)pthread_self());
    pl_epoch_install((pl_store *)0xa000, context, &watch);
    CHECK(epoch_data == &watch);
    pl_safepoint_run(pl_group_safepoint(group));
    stop_now = 0;
    CHECK(epoch_callback(context, epoch_data, &delta, &kind) == NULL && delta == 1 && kind == 0);
    CHECK(state_inside == PL_PARKED && state() == PL_RUNNING);
    pl_safepoint_park(pl_group_safepoint(group));
    lead();
    pl_safepoint_run(pl_group_safepoint(group));
    watch.check = NULL;
    watch.preempt = 1;
    CHECK(epoch_callback(context, epoch_data, &delta, &kind) == NULL && replays == 1);
    watch.check = check_signals;
    stop_now = 1;
    epoch_data = NULL;
    CHECK(epoch_callback(context, &watch, &delta, &kind) == (pl_error *)0x9000 &&
          state() == PL_RUNNING);
    CHECK(epoch_data == &watch && epoch_deadline == 1); /* what runs next in the store is watched */
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    stop_now = 0;
    CHECK(epoch_callback(context, epoch_data, &delta, &kind) == (pl_error *)0x9000);
    tear_down();
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
    pl_extern shared = {.kind = PL_EXTERN_SHARED_MEMORY,
                        .of = {.shared_memory = (pl_shared_memory *)0x7000}};
    CHECK(pl_memory_size(context, &memory) == 65536);
    CHECK(pl_memory_size(context, &shared) == 131072);
}

#define SET(name) set("wasmtime_" #name, (void (*)(void))name)

int main(void) {
    check_begin(0);
    RUN(test_table_is_incomplete_until_every_entry_is_set);
    SET(func_call_unchecked);
    SET(func_new_unchecked);
    SET(trap_new);
    SET(store_epoch_deadline_callback);
    SET(context_set_epoch_deadline);
    SET(error_new);
    SET(error_wasm_trace);
    set("wasm_frame_vec_delete", (void (*)(void))frame_vec_delete);
    SET(table_get);
    SET(table_set);
    SET(global_get);
    SET(global_set);
    SET(memory_data_size);
    SET(sharedmemory_data_size);
    RUN(test_each_entry_says_how_it_is_called);
    RUN(test_error_with_a_backtrace_is_of_a_guest);
    RUN(test_call_tells_result_trap_and_error_apart);
    RUN(test_call_runs_the_group_after_it_has_replayed);
    RUN(test_leader_may_come_at_any_moment_of_a_call);
    RUN(test_cancelled_or_dead_group_is_not_called);
    RUN(test_host_function_passes_values_and_turns_failure_into_a_trap);
    RUN(test_host_function_parks_and_replays_on_its_way_back);
    RUN(test_epoch_goes_on_stops_or_replays);
    RUN(test_table_slots);
    RUN(test_globals_and_memories);
    return 0;
}
