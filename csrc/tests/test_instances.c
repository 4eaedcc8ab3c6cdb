/* instances: the imports of a library, lazy binding at the first call, and the state after a call
 * by the host. */
#include "fake.h"

#include "builtin.h"
#include "callback.h"
#include "rendezvous.h"

enum { GROUP = 40 };

static const pl_type *const some_type = (const pl_type *)0x4006, *const tag_type =
                                                                     (const pl_type *)0x4004;
static pl_shared *shared;
static pl_group *group;
static pl_instances *instances;

static fake_module a = {.name = "A",
                        .exports = {{"f", PL_EXTERN_FUNC},
                                    {"g", PL_EXTERN_FUNC},
                                    {"tls_base", PL_EXTERN_GLOBAL},
                                    {"tls_init", PL_EXTERN_FUNC}}};
static fake_module b = {.name = "B",
                        .exports = {{"h", PL_EXTERN_FUNC}, {"data", PL_EXTERN_GLOBAL}}};
static fake_module trampolines = {.name = "B~",
                                  .exports = {{"plt", PL_EXTERN_TABLE},
                                              {"t0", PL_EXTERN_FUNC},
                                              {"t1", PL_EXTERN_FUNC},
                                              {"s0", PL_EXTERN_FUNC},
                                              {"s1", PL_EXTERN_FUNC}}};
static const pl_module *const blocks[] = {(const pl_module *)&trampolines};
static fake_module main_module = {.name = "M",
                                  .exports = {{"memory", PL_EXTERN_MEMORY},
                                              {"table", PL_EXTERN_TABLE},
                                              {"stack_pointer", PL_EXTERN_GLOBAL}}};

/* Python, which is called back. */
static int host_calls, host_state, host_answer;
static uintptr_t host_handle;
static void (*in_host)(void); /* NULL: nothing */

static int host(uintptr_t handle, pl_value *values, size_t count, char *message, size_t capacity) {
    CHECK(count > 0 && capacity == PL_MESSAGE_CAPACITY);
    host_calls++;
    host_handle = handle;
    host_state = pl_safepoint_state(pl_group_safepoint(group));
    values[0].i32 = host_answer;
    if (in_host != NULL) {
        in_host();
    }
    if (host_answer < 0) {
        strcpy(message, "no");
    }
    return host_answer < 0;
}

static int no_replay(uintptr_t handle, uint64_t from, uint64_t to) {
    return handle != GROUP || from > to;
}

static void set_up(void) {
    fake_reset(8);
    shared = pl_shared_new();
    group = pl_group_new(shared, GROUP, no_replay, NULL);
    instances = pl_instances_new(group, context, NULL, host, NULL, GROUP);
    host_calls = host_answer = 0;
    in_host = NULL;
}

static void tear_down(void) {
    fake_take(&pl_instances_error(instances)->failure);
    pl_instances_free(instances);
    pl_group_free(group);
    pl_shared_free(shared);
    CHECK(fake_alive == 0);
}

static int state(void) { return pl_safepoint_state(pl_group_safepoint(group)); }

static pl_library *make_a(uint32_t place) {
    return fake_library(&a, &(pl_library_parts){.place = place});
}

static pl_library *make_b(uint32_t place, const pl_source *sources, uint32_t count) {
    return fake_library(&b, &(pl_library_parts){.trampolines = blocks,
                                                .trampoline_count = 2,
                                                .resolver = 9,
                                                .sources = sources,
                                                .source_count = count,
                                                .place = place});
}

static void load(pl_library *library) { CHECK(pl_instances_load(instances, library, 0, 0) == 0); }

static pl_extern handle_of(uint8_t kind, uint64_t index) {
    return (pl_extern){.kind = kind, .of = {.handle = {FAKE_STORE, index, 0}}};
}

/* Gives the group a stack pointer of this value. */
static void give_stack(int32_t top) {
    pl_extern global = handle_of(PL_EXTERN_GLOBAL, 1990);
    globals[1990] = top;
    pl_instances_set_stack_pointer(instances, &global);
}

/* Imports */

static int is_func(const pl_extern *import, const char *name) {
    return import->kind == PL_EXTERN_FUNC && strcmp(fake_name(&import->of.func), name) == 0;
}

static int is_global(const pl_extern *import, int32_t value) {
    return import->kind == PL_EXTERN_GLOBAL && globals[import->of.handle.index] == value;
}

static void test_each_import_comes_from_its_source(void) {
    set_up();
    pl_library *library_a = make_a(0);
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0), table = handle_of(PL_EXTERN_TABLE, 0);
    pl_instances_set_memory(instances, &memory);
    pl_instances_set_table(instances, &table);
    give_stack(77);
    load(library_a);
    globals[2] = 1000; /* A's tls_base */
    const pl_source sources[] = {
        {.kind = PL_SOURCE_MEMORY},
        {.kind = PL_SOURCE_TABLE},
        {.kind = PL_SOURCE_STACK_POINTER},
        {.kind = PL_SOURCE_CONSTANT, .value = 5},
        {.kind = PL_SOURCE_CELL, .value = INT64_C(0x80000001)},
        {.kind = PL_SOURCE_TLS_CELL, .value = 24, .library = library_a},
        {.kind = PL_SOURCE_EXPORT, .library = library_a, .index = 1},
        {.kind = PL_SOURCE_PLT, .index = 1},
        {.kind = PL_SOURCE_HOST, .type = some_type, .handle = 21},
        {.kind = PL_SOURCE_BUILTIN, .type = some_type, .handle = 22, .index = PL_BUILTIN_SAFEPOINT},
        {.kind = PL_SOURCE_CALLBACK, .type = some_type, .handle = 23, .index = 0},
        {.kind = PL_SOURCE_TAG, .type = tag_type, .index = 2}};
    pl_library *library_b = make_b(1, sources, sizeof sources / sizeof *sources);
    load(library_b);
    EXPECT(
        "new:A host:0 new:B~ constant:5 cell:-2147483647 cell:1024 host:1 host:2 host:3 tag new:B");
    size_t number = instance_count - 1;
    CHECK(import_counts[number] == sizeof sources / sizeof *sources &&
          import_counts[number - 1] == 1);
    const pl_extern *found = imports_of[number];
    CHECK(found[0].kind == PL_EXTERN_MEMORY && found[1].kind == PL_EXTERN_TABLE &&
          is_global(found + 2, 77));
    CHECK(is_global(found + 3, 5) && is_global(found + 4, -2147483647) &&
          is_global(found + 5, 1024));
    CHECK(is_func(found + 6, "A.g") && is_func(found + 7, "B~.t1"));
    CHECK(is_func(found + 8, "host1") && is_func(found + 9, "host2") &&
          is_func(found + 10, "host3") && found[11].kind == PL_EXTERN_TAG);
    CHECK(is_func(imports_of[number - 1], "host0") && hosts[0].type == fake_types.resolve);
    for (uintptr_t i = 1; i < 4; i++) {
        pl_import *import = hosts[i].environment;
        CHECK(hosts[i].type == some_type && import->function.handle == 20 + i &&
              import->function.group == group);
        CHECK(import->instances == instances && import->flag == pl_shared_flag(shared) &&
              import->cancel == pl_shared_cancel(shared));
    }
    pl_library_release(library_a);
    pl_library_release(library_b);
    tear_down();
}

static void test_tags_and_callbacks_are_one_for_all_libraries(void) {
    set_up();
    const pl_source sources[] = {{.kind = PL_SOURCE_TAG, .type = tag_type, .index = 1},
                                 {.kind = PL_SOURCE_CALLBACK,
                                  .type = some_type,
                                  .handle = 5,
                                  .index = 0,
                                  .value = PL_FORM_INTEGERS},
                                 {.kind = PL_SOURCE_CALLBACK,
                                  .type = some_type,
                                  .handle = 6,
                                  .index = 30,
                                  .value = PL_FORM_DOUBLES + 16},
                                 {.kind = PL_SOURCE_HOST, .type = some_type, .handle = 7}};
    pl_library *one = make_b(0, sources, 4), *other = make_b(1, sources, 4);
    load(one);
    EXPECT("host:0 new:B~ tag host:1 host:2 host:3 new:B");
    load(other);
    EXPECT("host:4 new:B~ host:5 new:B");
    CHECK(memcmp(imports_of[1], imports_of[3], 3 * sizeof **imports_of) == 0);
    CHECK(is_func(imports_of[1] + 3, "host3") && is_func(imports_of[3] + 3, "host5"));
    for (uint32_t i = 1; i < 3; i++) {
        pl_import *import = hosts[i].environment;
        CHECK(import->function.handle == 4 + i && import->type == (uint32_t)sources[i].value);
        CHECK(hosts[i].function == pl_callback(import->type));
    }
    pl_library_release(one);
    pl_library_release(other);
    tear_down();
}

static void test_group_takes_from_a_library_only_what_it_lacks(void) {
    set_up();
    pl_library *library = fake_library(&main_module, &(pl_library_parts){.place = 0});
    CHECK(pl_instances_memory(instances) == NULL && pl_instances_table(instances) == NULL &&
          pl_instances_stack_pointer(instances) == NULL);
    load(library);
    CHECK(pl_instances_memory(instances)->kind == PL_EXTERN_MEMORY &&
          pl_instances_table(instances)->kind == PL_EXTERN_TABLE);
    CHECK(pl_instances_stack_pointer(instances)->kind == PL_EXTERN_GLOBAL);
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0), table = handle_of(PL_EXTERN_TABLE, 0);
    memory.of.handle.more = table.of.handle.more = 9; /* what another library has brought */
    pl_instances_set_memory(instances, &memory);
    pl_instances_set_table(instances, &table);
    give_stack(5);
    pl_instances_drop(instances, library);
    load(library);
    CHECK(pl_instances_memory(instances)->of.handle.more == 9 &&
          pl_instances_table(instances)->of.handle.more == 9);
    CHECK(pl_instances_stack_pointer(instances)->of.handle.index == 1990);
    pl_library_release(library);
    tear_down();
}

static void test_libraries_have_their_places(void) {
    set_up();
    pl_library *one = make_a(0), *far = make_a(100), *next = make_a(0);
    pl_extern found;
    load(one);
    load(far);
    CHECK(pl_instances_serial(instances, one) == 1 && pl_instances_serial(instances, far) == 2);
    CHECK(pl_instances_serial(instances, next) == 0);
    CHECK(pl_instances_export(instances, one, 1, &found) == 0 && is_func(&found, "A.g"));
    CHECK(pl_instances_export(instances, next, 1, &found) == -1 &&
          pl_instances_export(instances, one, 4, &found) == -1);
    pl_instances_drop(instances, next); /* which has the same place, but is not there */
    CHECK(pl_instances_serial(instances, one) == 1);
    pl_instances_drop(instances, one);
    CHECK(pl_instances_serial(instances, one) == 0 &&
          pl_instances_export(instances, one, 1, &found) == -1);
    load(next);
    CHECK(pl_instances_serial(instances, next) == 3 && pl_instances_serial(instances, far) == 2);
    CHECK(pl_instances_serial(instances, one) == 0);
    pl_library_release(one);
    pl_library_release(far);
    pl_library_release(next);
    tear_down();
}

static void test_memory_is_reached_only_inside(void) {
    set_up();
    CHECK(pl_instances_memory_size(instances) == 0 && pl_instances_table_size(instances) == 0);
    CHECK(pl_instances_bytes(instances, 0, 0) == NULL && pl_instances_zero(instances, 0, 0) == -1);
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0), table = handle_of(PL_EXTERN_TABLE, 0);
    pl_instances_set_memory(instances, &memory);
    pl_instances_set_table(instances, &table);
    CHECK(pl_instances_memory_size(instances) == FAKE_MEMORY &&
          pl_instances_table_size(instances) == 8);
    CHECK(pl_instances_bytes(instances, 5, FAKE_MEMORY - 5) == fake_memory + 5);
    CHECK(pl_instances_bytes(instances, FAKE_MEMORY, 0) == fake_memory + FAKE_MEMORY);
    CHECK(pl_instances_bytes(instances, 5, FAKE_MEMORY - 4) == NULL &&
          pl_instances_bytes(instances, FAKE_MEMORY + 1, 0) == NULL);
    CHECK(pl_instances_bytes(instances, UINT64_MAX, 2) == NULL &&
          pl_instances_bytes(instances, 2, UINT64_MAX) == NULL);
    memset(fake_memory, 1, FAKE_MEMORY);
    CHECK(pl_instances_zero(instances, 8, FAKE_MEMORY - 7) == -1 && fake_memory[8] == 1);
    CHECK(pl_instances_zero(instances, 8, 3) == 0 && fake_memory[7] == 1 && fake_memory[8] == 0 &&
          fake_memory[10] == 0 && fake_memory[11] == 1);
    tear_down();
}

static void test_libraries_share_trampolines(void) {
    set_up();
    const pl_source sources[] = {{.kind = PL_SOURCE_PLT, .index = 0}};
    pl_library *target = make_a(0),
               *owner = fake_library(
                   &b, &(pl_library_parts){.sources = sources, .source_count = 1, .place = 1});
    pl_library_parts using = {
        .sources = sources, .source_count = 1, .plt_of = owner, .plt_base = 1, .place = 2};
    pl_library *user = fake_library(&b, &using);
    CHECK(pl_library_set_trampolines(owner, blocks, 2, 9) == 0);
    CHECK(pl_instances_load(instances, user, 0, 0) == -1); /* before what it uses */
    CHECK(pl_instances_error(instances)->stage == PL_STAGE_EXPORT &&
          pl_instances_error(instances)->library == user);
    pl_instances_drop(instances, user);
    EXPECT("");
    load(owner);
    load(user);
    load(target);
    EXPECT("host:0 new:B~ new:B new:B new:A");
    CHECK(is_func(imports_of[1], "B~.t0") && is_func(imports_of[2], "B~.t1"));
    CHECK(pl_instances_bind(instances, user, 0, target, 1) == 0 &&
          pl_instances_bind(instances, owner, 0, target, 0) == 0);
    CHECK(strcmp(fake_name(&plt[0][0]), "A.f") == 0 && strcmp(fake_name(&plt[0][1]), "A.g") == 0);
    pl_instances_unbind(instances, user, 0);
    CHECK(strcmp(fake_name(&plt[0][0]), "A.f") == 0 && strcmp(fake_name(&plt[0][1]), "B~.s1") == 0);
    pl_library_bind(user, 0, target, 1);
    pl_value value = {.i64 = 0};
    value.i32 = 1;
    CHECK(fake_enter(0, &value, 1) == NULL && host_calls == 0); /* the resolver */
    CHECK(strcmp(fake_name(&plt[0][1]), "A.g") == 0);
    CHECK(pl_instances_resolver_entries(instances, owner) == 1 &&
          pl_instances_resolver_entries(instances, user) == 0);
    pl_instances_unbind(instances, user, 0);
    pl_instances_drop(instances,
                      owner); /* the remaining library has no trampolines, but is harmless */
    CHECK(pl_instances_bind(instances, user, 0, target, 1) == -1 &&
          fake_enter(0, &value, 1) == NULL && host_calls == 1);
    pl_instances_unbind(instances, user, 0);
    pl_library_release(owner);
    pl_library_release(user);
    pl_library_release(target);
    tear_down();
}

static void test_an_export_without_arguments_is_run(void) {
    set_up();
    pl_library *library = make_a(0);
    pl_failure failure = {0};
    CHECK(pl_instances_run(instances, library, 0, &failure) == -1); /* not loaded */
    load(library);
    EXPECT("new:A");
    CHECK(pl_instances_run(instances, library, 1, &failure) == PL_OK && state() == PL_PARKED);
    EXPECT("call:A.g()");
    CHECK(pl_instances_run(instances, library, 2, &failure) == -1 &&
          pl_instances_run(instances, library, 4, &failure) == -1);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(pl_instances_run(instances, library, 1, &failure) > 0 && failure.trap == NULL &&
          failure.error == NULL);
    EXPECT("");
    pl_library_release(library);
    tear_down();
}

static void test_thread_local_block_is_where_the_library_says(void) {
    set_up();
    fake_module without = {.name = "W", .exports = {{"tls_init", PL_EXTERN_FUNC}}};
    pl_library *library = make_a(0),
               *other = fake_library(&without, &(pl_library_parts){.place = 1});
    CHECK(pl_instances_tls_base(instances, library) == 0);
    CHECK(pl_instances_load(instances, library, 64, 0) == 0 &&
          pl_instances_load(instances, other, 128, 0) == 0);
    EXPECT("new:A call:A.tls_init(64) new:W call:W.tls_init(128)");
    globals[2] = -16; /* a guest's thread has brought a block of its own */
    CHECK(pl_instances_tls_base(instances, library) == UINT32_C(0xfffffff0));
    CHECK(pl_instances_tls_base(instances, other) == 128);
    pl_instances_drop(instances, other);
    CHECK(pl_instances_tls_base(instances, other) == 0);
    pl_library_release(library);
    pl_library_release(other);
    tear_down();
}

/* Calls that are bound late */

static pl_library *caller, *callee;

static void set_up_late(void) {
    set_up();
    callee = make_a(0);
    caller = make_b(1, NULL, 0);
    load(callee);
    load(caller);
    EXPECT("new:A host:0 new:B~ new:B");
    pl_safepoint_run(pl_group_safepoint(group)); /* the guest runs */
}

static void tear_down_late(void) {
    pl_library_release(caller);
    pl_library_release(callee);
    tear_down();
}

/* The stub of a trampoline asks the resolver. */
static pl_trap *stub(int32_t index) {
    pl_value value = {.i32 = index};
    return fake_enter(0, &value, 1);
}

static void test_known_target_is_bound_without_python(void) {
    set_up_late();
    pl_library_bind(caller, 1, callee, 0);
    CHECK(stub(1) == NULL && host_calls == 0 && state() == PL_RUNNING);
    EXPECT("plt:B~.1=A.f");
    CHECK(pl_instances_resolver_entries(instances, caller) == 1 &&
          pl_instances_resolver_entries(instances, callee) == 0);
    pl_instances_unbind(instances, caller, 1);
    EXPECT("plt:B~.1=B~.s1");
    tear_down_late();
}

static void test_unknown_target_is_pythons(void) {
    set_up_late();
    CHECK(stub(1) == NULL && host_calls == 1 && host_handle == 9 && host_state == PL_PARKED &&
          state() == PL_RUNNING);
    host_answer = -1;
    pl_trap *trap = stub(0);
    CHECK(trap != NULL && strcmp(trap_text, "no") == 0 && host_calls == 2);
    fake_free(trap);
    CHECK(pl_instances_resolver_entries(instances, caller) == 2);
    EXPECT("");
    tear_down_late();
}

static void test_target_that_cannot_be_bound_is_pythons(void) {
    set_up_late();
    pl_library_bind(caller, 0, callee, 2); /* no function */
    CHECK(stub(0) == NULL && host_calls == 1);
    pl_library_bind(caller, 0, callee, 0);
    pl_instances_drop(instances, callee); /* not in this group */
    CHECK(stub(0) == NULL && host_calls == 2);
    CHECK(stub(-1) == NULL && host_calls == 3); /* no such trampoline */
    EXPECT("");
    tear_down_late();
}

/* Code of a library that is gone may still be running, on a stack that reaches into it. Its
 * targets may be freed by then. */
static void test_caller_that_is_gone_gets_no_target(void) {
    set_up_late();
    pl_library_bind(caller, 0, callee, 0);
    pl_instances_drop(instances, caller);
    pl_instances_drop(instances, callee);
    pl_library_release(callee);
    callee = NULL;
    pl_library_release(caller); /* the resolver keeps it */
    caller = NULL;
    host_answer = -1;
    pl_trap *trap = stub(0);
    CHECK(trap != NULL && host_calls == 1);
    fake_free(trap);
    tear_down_late();
}

static void test_bind_tells_if_it_cannot(void) {
    set_up_late();
    pl_library *other = make_a(2);
    CHECK(pl_instances_bind(instances, caller, 0, callee, 1) == 0);
    EXPECT("plt:B~.0=A.g");
    CHECK(pl_instances_bind(instances, caller, 0, other, 0) == -1 &&
          pl_instances_bind(instances, other, 0, callee, 0) == -1);
    CHECK(pl_instances_bind(instances, callee, 0, callee, 0) == -1); /* it has no trampolines */
    CHECK(pl_instances_bind(instances, caller, 0, callee, 2) == -1 &&
          pl_instances_bind(instances, caller, 0, callee, 50) == -1);
    EXPECT("");
    /* the error of wasmtime is freed */
    CHECK(pl_instances_bind(instances, caller, FAKE_PLT, callee, 0) == -1);
    fail_at("table_set", 1);
    pl_instances_unbind(instances, caller, 0);
    EXPECT("plt:B~.8=A.f plt:B~.0=B~.s0");
    pl_instances_unbind(instances, caller, 5); /* no such stub */
    pl_instances_unbind(instances, other, 0);
    pl_instances_unbind(instances, callee, 0);
    EXPECT("");
    pl_library_release(other);
    tear_down_late();
}

/* Calls by the host */

static int32_t *const stack_pointer = globals + 1990;
static int wanted; /* what the guest does at the end */
static int seen_state;

static int use_stack(const char *name, pl_value *values, size_t count) {
    (void)name, (void)count;
    *stack_pointer -= 100;
    seen_state = state();
    values[0].i64 = 42;
    return wanted;
}

static void test_stack_pointer_comes_back_only_after_a_failure(void) {
    set_up();
    pl_library *library = make_a(0);
    load(library);
    give_stack(1000);
    pl_func func = fake_func(0, 0);
    pl_value value = {.i64 = 7};
    on_call = use_stack;
    for (int direct = 0; direct < 2; direct++) {
        static const int statuses[] = {PL_OK, PL_TRAP, PL_ERROR};
        for (wanted = 0; wanted < 3; wanted++) {
            pl_failure failure = {(pl_trap *)0x1, (pl_error *)0x1, 7, 1};
            *stack_pointer = 1000;
            int status = direct ? pl_instances_invoke(instances, &func, &value, 1, &failure)
                                : pl_instances_call(instances, &func, &value, 1, &failure);
            CHECK(status == statuses[wanted] && value.i64 == 42);
            /* what the guest keeps there is the guest's */
            CHECK(*stack_pointer == (wanted == 0 ? 900 : 1000));
            CHECK(fake_take(&failure) == wanted);
            CHECK(direct || (seen_state == PL_RUNNING && state() == PL_PARKED));
        }
    }
    wanted = TRAPS;
    fail_at("global_set", 1); /* nothing to be done about that, but it is not lost */
    pl_failure failure;
    CHECK(pl_instances_invoke(instances, &func, &value, 1, &failure) == PL_TRAP &&
          fake_take(&failure) == TRAPS);
    pl_library_release(library);
    tear_down();
}

static void test_call_without_a_stack_pointer(void) {
    set_up();
    pl_library *library = make_a(0);
    load(library);
    pl_func func = fake_func(0, 0);
    pl_value value = {.i64 = 7};
    pl_failure failure;
    on_call = use_stack;
    for (wanted = 0; wanted < 3; wanted++) {
        pl_instances_call(instances, &func, &value, 1, &failure);
        CHECK(fake_take(&failure) == wanted);
    }
    CHECK(*stack_pointer == -300);
    pl_library_release(library);
    tear_down();
}

/* Functions that the core implements itself */

static void load_builtins(pl_library **library) {
    static const pl_source sources[] = {
        {.kind = PL_SOURCE_BUILTIN, .index = PL_BUILTIN_SAFEPOINT, .handle = 1},
        {.kind = PL_SOURCE_BUILTIN, .index = PL_BUILTIN_DLSYM, .handle = 2},
        {.kind = PL_SOURCE_BUILTIN, .index = PL_BUILTIN_DLSYM_WASIX, .handle = 3},
        {.kind = PL_SOURCE_BUILTIN, .index = PL_BUILTIN_THREAD_ID, .handle = 4},
        {.kind = PL_SOURCE_BUILTIN, .index = 99, .handle = 5}};
    *library =
        fake_library(&b, &(pl_library_parts){.sources = sources, .source_count = 5, .place = 0});
    load(*library);
    pl_safepoint_run(pl_group_safepoint(group));
}

static void know(uintptr_t handle, int64_t scope, const char *name, uint32_t value) {
    pl_names_put(pl_instances_names(instances), pl_shared_generation(shared), handle, scope, name,
                 strlen(name), value);
}

/* dlsym(scope, address): the result, -1 for a call of Python. */
static int32_t ask(int32_t scope, uint32_t address) {
    pl_value values[2] = {{.i32 = scope}, {.i32 = (int32_t)address}};
    host_answer = 0;
    int before = host_calls;
    CHECK(fake_enter(1, values, 2) == NULL);
    return host_calls == before ? values[0].i32 : -1;
}

static void test_dlsym_answers_what_the_group_knows(void) {
    set_up();
    pl_library *library;
    load_builtins(&library);
    memcpy(fake_memory + 100, "name", 5);
    CHECK(ask(3, 100) == -1); /* there is no memory yet */
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0);
    pl_instances_set_memory(instances, &memory);
    CHECK(ask(3, 100) == -1 && host_handle == 2 && host_state == PL_PARKED);
    know(2, 3, "name", 17);
    know(2, 3, "ame", 18);
    know(3, 3, "na", 19);
    CHECK(ask(3, 100) == 17 && ask(3, 101) == 18 && state() == PL_RUNNING);
    CHECK(ask(4, 100) == -1 && ask(3, 102) == -1);
    pl_shared_next_generation(shared);
    CHECK(ask(3, 100) == -1);
    know(2, 3, "name", 20);
    CHECK(ask(3, 100) == 20);
    /* A name that ends where the memory does, one that does not end, one that begins outside,
     * one that is too long. */
    memcpy(fake_memory + FAKE_MEMORY - 5, "name", 5);
    CHECK(ask(3, FAKE_MEMORY - 5) == 20);
    fake_memory[FAKE_MEMORY - 1] = 's';
    CHECK(ask(3, FAKE_MEMORY - 5) == -1 && ask(3, FAKE_MEMORY) == -1 && ask(3, UINT32_MAX) == -1);
    memset(fake_memory + 200, 'x', 300);
    CHECK(ask(3, 200) == -1);
    pl_library_release(library);
    tear_down();
}

/* dlsym(scope, address, length, ..., result): what it stored, -1 for a call of Python. */
static int64_t ask_wasix(int32_t scope, uint32_t address, uint32_t length, uint32_t result) {
    pl_value values[6] = {{.i32 = scope}, {.i32 = (int32_t)address}, {.i32 = (int32_t)length}};
    int before = host_calls;
    values[5].i32 = (int32_t)result;
    values[0].i64 |= INT64_C(0x7700000000); /* above an i32 there may be anything */
    CHECK(fake_enter(2, values, 6) == NULL);
    uint32_t stored = 0;
    if (host_calls == before) {
        CHECK(values[0].i64 == 0);
        memcpy(&stored, fake_memory + result, sizeof stored);
    }
    return host_calls == before ? (int64_t)stored : -1;
}

static void test_dlsym_of_wasix_answers_what_the_group_knows(void) {
    set_up();
    pl_library *library;
    load_builtins(&library);
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0);
    memcpy(fake_memory + 100, "names", 5);
    know(3, 3, "name", 17);
    CHECK(ask_wasix(3, 100, 4, 400) == -1);
    pl_instances_set_memory(instances, &memory);
    CHECK(ask_wasix(3, 100, 4, 400) == 17 && ask_wasix(3, 100, 4, FAKE_MEMORY - 4) == 17);
    CHECK(ask_wasix(3, 100, 5, 400) == -1 && host_handle == 3);
    CHECK(ask_wasix(3, 100, 4, FAKE_MEMORY - 3) == -1 && ask_wasix(3, 100, 4, UINT32_MAX) == -1);
    CHECK(ask_wasix(3, FAKE_MEMORY - 2, 4, 400) == -1 && ask_wasix(3, 100, UINT32_MAX, 400) == -1);
    CHECK(ask_wasix(3, 200, PL_NAME_LENGTH + 1, 400) == -1);
    pl_library_release(library);
    tear_down();
}

static void test_thread_knows_its_number(void) {
    set_up();
    pl_library *library;
    load_builtins(&library);
    pl_value value = {.i32 = 64};
    pl_instances_set_thread(instances, 0x01020304);
    CHECK(fake_enter(3, &value, 1) == NULL && value.i64 == PL_ERRNO_MEMVIOLATION); /* no memory */
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0);
    pl_instances_set_memory(instances, &memory);
    value.i32 = 64;
    CHECK(fake_enter(3, &value, 1) == NULL && value.i64 == 0 &&
          memcmp(fake_memory + 64, "\4\3\2\1", 4) == 0);
    value.i32 = FAKE_MEMORY - 3;
    CHECK(fake_enter(3, &value, 1) == NULL && value.i64 == PL_ERRNO_MEMVIOLATION);
    CHECK(host_calls == 0);
    /* no builtin of this number */
    CHECK(fake_enter(4, &value, 1) == NULL && host_calls == 1 && host_handle == 5);
    pl_library_release(library);
    tear_down();
}

static void test_process_is_one_and_what_is_not_there_says_so(void) {
    static const pl_source sources[] = {
        {.kind = PL_SOURCE_BUILTIN, .index = PL_BUILTIN_PROC_ID},
        {.kind = PL_SOURCE_BUILTIN, .index = PL_BUILTIN_UNSUPPORTED},
        {.kind = PL_SOURCE_BUILTIN, .index = PL_BUILTIN_DL_INVALID_HANDLE, .handle = 7}};
    set_up();
    pl_library *library =
        fake_library(&b, &(pl_library_parts){.sources = sources, .source_count = 3, .place = 0});
    load(library);
    pl_safepoint_run(pl_group_safepoint(group));
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0);
    pl_instances_set_memory(instances, &memory);
    pl_value value = {.i32 = 64};
    CHECK(fake_enter(0, &value, 1) == NULL && value.i64 == 0 &&
          memcmp(fake_memory + 64, "\1\0\0", 4) == 0);
    CHECK(fake_enter(1, &value, 1) == NULL && value.i64 == PL_ERRNO_NOTSUP &&
          fake_enter(1, NULL, 0) == NULL && host_calls == 0);
    value.i64 = 5;
    host_answer = 45;
    CHECK(fake_enter(2, &value, 1) == NULL && value.i32 == 45 && host_calls == 1 &&
          host_handle == 7);
    know(7, 5, "", 45);
    know(7, -1, "", 0);
    value.i64 = 5;
    CHECK(fake_enter(2, &value, 1) == NULL && value.i64 == 45 && host_calls == 1);
    value.i32 = -1;
    CHECK(fake_enter(2, &value, 1) == NULL && value.i64 == 0 && host_calls == 1);
    pl_library_release(library);
    tear_down();
}

static void test_waits_are_the_groups(void) {
    static fake_module rewritten = {
        .name = "R", .exports = {{"f", PL_EXTERN_FUNC}, {PL_WAITS, PL_EXTERN_TABLE}}};
    const pl_source sources[] = {
        {.kind = PL_SOURCE_ATOMICS, .index = PL_ATOMICS_SLEEP, .type = some_type},
        {.kind = PL_SOURCE_ATOMICS, .index = PL_ATOMICS_SLEEP, .type = some_type},
        {.kind = PL_SOURCE_ATOMICS, .index = PL_ATOMICS_NOTIFY, .type = some_type}};
    set_up();
    pl_library *library = fake_library(
        &rewritten,
        &(pl_library_parts){.sources = sources, .source_count = 3, .rewritten = 1, .place = 0});
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0);
    load(library);
    EXPECT("host:0 host:1 new:R host:2 set:0=host2 host:3 set:1=host3 set:2=host1");
    CHECK(is_func(&imports_of[0][0], "host0") && is_func(&imports_of[0][1], "host0"));
    CHECK(hosts[2].type == fake_types.waits[0] && hosts[3].type == fake_types.waits[1] &&
          hosts[1].type == some_type);
    pl_value values[2] = {{.i64 = 8}, {.i64 = 1}};
    pl_safepoint_run(pl_group_safepoint(group));
    pl_trap *trap = fake_enter(1, values, 2);
    CHECK(trap != NULL && strstr(trap_text, "before the memory existed") != NULL);
    fake_free(trap);
    /* they have it at once, those that were made before, too */
    pl_instances_set_memory(instances, &memory);
    values[0].i64 = 8;
    CHECK(fake_enter(1, values, 2) == NULL && values[0].i64 == 0);
    pl_library *other = make_a(1);
    load(other); /* not rewritten */
    EXPECT("new:A");
    fail_at("table_set", 2);
    CHECK(pl_instances_load(instances, library, 0, 0) == -1 &&
          pl_instances_error(instances)->stage == PL_STAGE_EXPORT);
    CHECK(fake_take(&pl_instances_error(instances)->failure) == FAILS);
    fail_at("instance_export_get", 1);
    CHECK(pl_instances_load(instances, library, 0, 0) == -1 &&
          pl_instances_error(instances)->stage == PL_STAGE_EXPORT);
    pl_library_release(library);
    pl_library_release(other);
    tear_down();
}

/* Another group carries out an operation; this one is at the barrier when it is parked. */
static void lead(void) {
    uintptr_t late;
    pl_group *leader = pl_group_new(shared, GROUP, no_replay, NULL);
    CHECK(pl_rwlock_try_write(pl_shared_lock(shared)) == PL_ACQUIRED);
    CHECK(pl_lead_open(leader) != 0 && pl_lead_meet(leader, -1, &late) == PL_ACQUIRED);
    CHECK(pl_lead_publish(leader) != 0 && pl_lead_finish(leader) == PL_ACQUIRED);
    pl_group_free(leader);
}

static void test_builtins_are_safepoints(void) {
    set_up();
    pl_library *library;
    load_builtins(&library);
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0);
    pl_instances_set_memory(instances, &memory);
    memcpy(fake_memory + 100, "name", 5);
    know(2, 3, "name", 17);
    know(3, 3, "name", 17);
    pl_value values[6] = {{.i32 = 0}};
    in_host = lead;
    /* what came during a call of Python */
    CHECK(fake_enter(4, values, 1) == NULL && pl_group_applied(group) == 1);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    for (size_t number = 0; number < 4; number++) {
        memset(values, 0, sizeof values);
        values[0].i32 = 3;
        values[1].i32 = 100;
        values[2].i32 = 4;
        values[5].i32 = 400;
        host_calls = 0;
        pl_trap *trap = fake_enter(number, values, 6);
        CHECK(trap != NULL && strcmp(trap_text, "the guest was stopped") == 0 && host_calls == 0);
        fake_free(trap);
    }
    pl_library_release(library);
    tear_down();
}

/* WASI */

static void test_each_wasi_function_is_one_and_works_once_there_is_a_memory(void) {
    set_up();
    pl_instances_free(instances);
    pl_process *process = pl_process_new(context);
    pl_process_provide(process, 0, some_type, PL_WASI_PLAIN, "i");
    pl_process_provide(process, 5, some_type, PL_WASI_YIELD, "i");
    pl_process_provide(process, 6, some_type, PL_WASI_PLAIN, "i");
    instances = pl_instances_new(group, context, process, host, NULL, GROUP);
    const pl_source sources[] = {{.kind = PL_SOURCE_WASI, .index = 0},
                                 {.kind = PL_SOURCE_WASI, .index = 5},
                                 {.kind = PL_SOURCE_WASI, .index = 0}};
    pl_library *one =
        fake_library(&b, &(pl_library_parts){.sources = sources, .source_count = 3, .place = 0});
    pl_library *target = make_a(1);
    load(one);
    load(target);
    EXPECT("host:0 host:1 new:B new:A");
    CHECK(is_func(imports_of[0], "host0") && is_func(imports_of[0] + 1, "host1") &&
          is_func(imports_of[0] + 2, "host0"));
    pl_safepoint_run(pl_group_safepoint(group));
    pl_value value = {.i64 = 3};
    for (int i = 0; i < 2; i++) {
        pl_trap *trap = fake_enter((size_t)i, &value, 1);
        CHECK(trap != NULL && strstr(trap_text, "before the memory existed") != NULL);
        fake_free(trap);
    }
    pl_func function = fake_func(1, 0);
    pl_process_connect(process, 0, &function);
    pl_process_connect(process, 5, &function);
    pl_process_connect(process, 6, &function);
    pl_instances_connect(instances); /* there is no memory yet */
    pl_trap *trap = fake_enter(0, &value, 1);
    CHECK(trap != NULL);
    fake_free(trap);
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0);
    pl_instances_set_memory(instances, &memory);
    pl_instances_connect(instances);
    CHECK(fake_enter(0, &value, 1) == NULL);
    EXPECT("call:A.f(3)");
    value.i64 = -1;
    CHECK(fake_enter(1, &value, 1) == NULL && value.i64 == 0);
    EXPECT("");
    const pl_source more[] = {{.kind = PL_SOURCE_WASI, .index = 0},
                              {.kind = PL_SOURCE_WASI, .index = 6}};
    pl_library *later =
        fake_library(&b, &(pl_library_parts){.sources = more, .source_count = 2, .place = 3});
    load(later);
    EXPECT("host:2 new:B");
    CHECK(is_func(imports_of[2], "host0"));
    CHECK(fake_enter(2, &value, 1) == NULL); /* it is connected from the start */
    EXPECT("call:A.f(0)");
    pl_library_release(one);
    pl_library_release(later);
    pl_library_release(target);
    tear_down();
    pl_process_free(process);
}

static bool linker_get(const pl_linker *linker, pl_context *at, const char *space,
                       size_t space_length, const char *name, size_t length, pl_extern *result) {
    CHECK(linker == (const pl_linker *)0x70 && at == context && space_length == 5 &&
          memcmp(space, "space", 5) == 0);
    *result = handle_of(PL_EXTERN_FUNC, 100 + (uint64_t)name[0]);
    return length == 1;
}

static void test_a_shim_gives_a_process_its_functions(void) {
    set_up();
    pl_wasmtime.linker_get = linker_get;
    pl_instances_free(instances);
    pl_process *process = pl_process_new(context);
    pl_process_provide(process, 0, some_type, PL_WASI_PLAIN, "i");
    pl_process_provide(process, 1, some_type, PL_WASI_PLAIN, "i");
    const pl_linker *linker = (const pl_linker *)0x70;
    const pl_module *shim = (const pl_module *)&a;
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0);
    pl_failure failure;
    static const char *const names[] = {"f", "g"}, *const unknown[] = {"f", "unknown"},
                             *const lost[] = {"f", "x"};
    static const char *const many[PL_WASI_FUNCTIONS + 1];
    CHECK(pl_process_join(process, linker, "space", many, PL_WASI_FUNCTIONS + 1, shim, &memory,
                          &failure) == PL_ERROR &&
          !fake_take(&failure));
    CHECK(pl_process_join(process, linker, "space", unknown, 2, shim, &memory, &failure) ==
              PL_ERROR &&
          !fake_take(&failure));
    EXPECT("");
    CHECK(pl_process_join(process, linker, "space", lost, 2, shim, &memory, &failure) == PL_ERROR &&
          !fake_take(&failure));
    fail_at("instance_new", 1);
    CHECK(pl_process_join(process, linker, "space", names, 2, shim, &memory, &failure) ==
              PL_ERROR &&
          fake_take(&failure) == FAILS);
    EXPECT("new:A new:A");
    CHECK(pl_process_join(process, linker, "space", names, 2, shim, &memory, &failure) == PL_OK);
    EXPECT("new:A");
    CHECK(import_counts[2] == 3 && imports_of[2][0].kind == PL_EXTERN_MEMORY);
    CHECK(imports_of[2][1].of.handle.index == 100 + 'f' &&
          imports_of[2][2].of.handle.index == 100 + 'g');
    instances = pl_instances_new(group, context, process, host, NULL, GROUP);
    pl_instances_set_memory(instances, &memory);
    const pl_source sources[] = {{.kind = PL_SOURCE_WASI, .index = 1},
                                 {.kind = PL_SOURCE_WASI, .index = 0}};
    pl_library *library =
        fake_library(&b, &(pl_library_parts){.sources = sources, .source_count = 2, .place = 0});
    load(library);
    pl_safepoint_run(pl_group_safepoint(group));
    pl_value value = {.i64 = 3};
    CHECK(fake_enter(0, &value, 1) == NULL && fake_enter(1, &value, 1) == NULL);
    EXPECT("host:0 host:1 new:B call:A.g(3) call:A.f(3)");
    pl_library_release(library);
    tear_down();
    pl_process_free(process);
}

static void test_lack_of_memory_is_told(void) {
    set_up();
    for (int left = 0; left < 4; left++) {
        atomic_store(&inject_memory, left);
        CHECK(pl_instances_new(group, context, NULL, host, NULL, GROUP) == NULL);
    }
    atomic_store(&inject_memory, -1);
    pl_instances_free(NULL);
    tear_down();
}

int main(void) {
    check_begin(0);
    fake_install();
    RUN(test_each_import_comes_from_its_source);
    RUN(test_tags_and_callbacks_are_one_for_all_libraries);
    RUN(test_group_takes_from_a_library_only_what_it_lacks);
    RUN(test_libraries_have_their_places);
    RUN(test_memory_is_reached_only_inside);
    RUN(test_libraries_share_trampolines);
    RUN(test_an_export_without_arguments_is_run);
    RUN(test_thread_local_block_is_where_the_library_says);
    RUN(test_known_target_is_bound_without_python);
    RUN(test_unknown_target_is_pythons);
    RUN(test_target_that_cannot_be_bound_is_pythons);
    RUN(test_caller_that_is_gone_gets_no_target);
    RUN(test_bind_tells_if_it_cannot);
    RUN(test_stack_pointer_comes_back_only_after_a_failure);
    RUN(test_call_without_a_stack_pointer);
    RUN(test_dlsym_answers_what_the_group_knows);
    RUN(test_dlsym_of_wasix_answers_what_the_group_knows);
    RUN(test_thread_knows_its_number);
    RUN(test_process_is_one_and_what_is_not_there_says_so);
    RUN(test_waits_are_the_groups);
    RUN(test_builtins_are_safepoints);
    RUN(test_each_wasi_function_is_one_and_works_once_there_is_a_memory);
    RUN(test_a_shim_gives_a_process_its_functions);
    RUN(test_lack_of_memory_is_told);
    fake_reset(0);
    return 0;
}
