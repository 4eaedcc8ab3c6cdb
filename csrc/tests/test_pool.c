/* pool: a dropped instance is reused, with everything restored, and only if that is correct. */
#include "fake.h"

#include "replay.h"

enum { GROUP = 40, BASE = 64, SIZE = 16 };

static const pl_type *const host_type = (const pl_type *)0x4006;
static pl_shared *shared;
static pl_group *group;
static pl_instances *instances;

static fake_module a = {.name = "A", .exports = {{"f", PL_EXTERN_FUNC}, {"g", PL_EXTERN_FUNC}}};
static fake_module b = {.name = "B", .exports = {{"h", PL_EXTERN_FUNC}}};
static fake_module trampolines = {
    .name = "A~",
    .exports = {{"plt", PL_EXTERN_TABLE}, {"t0", PL_EXTERN_FUNC}, {"s0", PL_EXTERN_FUNC}}};
static const pl_module *const blocks[] = {(const pl_module *)&trampolines};

static int host(uintptr_t handle, pl_value *values, size_t count, char *message, size_t capacity) {
    (void)handle, (void)values, (void)count, (void)message, (void)capacity;
    return 0;
}

static int never_replay(uintptr_t handle, uint64_t from, uint64_t to) {
    (void)handle, (void)from, (void)to;
    return -1;
}

/* What instantiating A does: data, and a function in its first slot. */
static int fill(const fake_module *module) {
    if (module == &a) {
        memcpy(fake_memory + BASE, "data", 4);
        slots[8] = fake_func(instance_count - 1, 1);
    }
    return 0;
}

static void set_up(void) {
    fake_reset(16);
    on_new = fill;
    shared = pl_shared_new();
    group = pl_group_new(shared, GROUP, never_replay, NULL);
    instances = pl_instances_new(group, context, NULL, host, NULL, GROUP);
    pl_instances_set_table(
        instances, &(pl_extern){.kind = PL_EXTERN_TABLE, .of = {.handle = {FAKE_STORE, 0, 0}}});
    pl_instances_set_memory(
        instances, &(pl_extern){.kind = PL_EXTERN_MEMORY, .of = {.handle = {FAKE_STORE, 0, 0}}});
}

static void tear_down(void) {
    fake_take(&pl_instances_error(instances)->failure);
    pl_instances_free(instances);
    pl_group_free(group);
    pl_shared_free(shared);
    CHECK(fake_alive == 0);
}

/* A load of A: a cell of `value`, and host functions with the handles `handle` and `handle` + 1. */
static pl_library *make(int64_t value, uintptr_t handle, pl_library *from, uint64_t code) {
    const pl_source sources[] = {{.kind = PL_SOURCE_CELL, .value = value},
                                 {.kind = PL_SOURCE_HOST, .type = host_type, .handle = handle},
                                 {.kind = PL_SOURCE_EXPORT, .index = 0, .library = from}};
    return fake_library(&a, &(pl_library_parts){.trampolines = blocks,
                                                .trampoline_count = 1,
                                                .resolver = handle + 1,
                                                .sources = sources,
                                                .source_count = from != NULL ? 3 : 2,
                                                .code_number = code,
                                                .trampolines_number = 70,
                                                .memory_base = BASE,
                                                .memory_size = SIZE,
                                                .table_base = 8,
                                                .table_size = 2,
                                                .place = 0});
}

static void spoil(void) {
    memset(fake_memory + BASE, 0xee, SIZE);
    memset(slots + 8, 0, 2 * sizeof *slots);
}

/* Loads A, spoils it and drops it. */
static pl_library *load_and_drop(int64_t value, uintptr_t handle, pl_library *from) {
    pl_library *library = make(value, handle, from, 7);
    CHECK(pl_instances_load(instances, library, 0, 0) == 0);
    journal[journal_length = 0] = '\0';
    spoil();
    /* as the linker does before it gives the place out again */
    memset(fake_memory + BASE, 0, SIZE);
    pl_instances_drop(instances, library);
    return library;
}

static void test_everything_is_put_back(void) {
    set_up();
    pl_library *first = load_and_drop(5, 20, NULL), *second = make(6, 30, NULL, 7);
    plt[0][0] = fake_func(1, 0); /* it was bound */
    CHECK(pl_instances_load(instances, second, 0, 0) == 0);
    EXPECT("set:8=A.g set:9=null plt:A~.0=A~.s0");
    CHECK(memcmp(fake_memory + BASE, "data\0\0\0\0\0\0\0\0\0\0\0", SIZE) == 0);
    CHECK(globals[FAKE_INSTANCES * FAKE_EXPORTS] == 6);
    CHECK(((pl_import *)hosts[0].environment)->function.handle == 31 &&
          ((pl_import *)hosts[1].environment)->function.handle == 30);
    CHECK(pl_instances_serial(instances, second) == 2 &&
          pl_instances_serial(instances, first) == 0);
    pl_library_release(first);
    pl_library_release(second);
    tear_down();
}

static void test_follower_leaves_the_memory_alone(void) {
    set_up();
    pl_library *first = load_and_drop(5, 20, NULL), *second = make(5, 20, NULL, 7);
    CHECK(pl_instances_load(instances, second, 0, 1) == 0);
    EXPECT("set:8=A.g set:9=null plt:A~.0=A~.s0");
    CHECK(fake_memory[BASE] == 0);
    pl_library_release(first);
    pl_library_release(second);
    tear_down();
}

static void test_leader_needs_an_image(void) {
    set_up();
    pl_library *first = make(5, 20, NULL, 7), *second = make(5, 20, NULL, 7);
    /* it has only followed: what was in the memory was another's */
    CHECK(pl_instances_load(instances, first, 0, 1) == 0);
    pl_instances_drop(instances, first);
    slots[8] = (pl_func){0, NULL};
    journal[journal_length = 0] = '\0';
    CHECK(pl_instances_load(instances, second, 0, 0) == 0);
    EXPECT("host:2 new:A~ cell:5 host:3 new:A");
    pl_library_release(first);
    pl_library_release(second);
    tear_down();
}

static void test_another_code_or_place_is_another_instance(void) {
    set_up();
    pl_library *first = load_and_drop(5, 20, NULL), *other = make(5, 20, NULL, 8),
               *never = make(5, 20, NULL, 0);
    CHECK(pl_instances_load(instances, other, 0, 0) == 0);
    pl_instances_drop(instances, other);
    CHECK(pl_instances_load(instances, never, 0, 0) == 0);
    pl_instances_drop(instances, never);
    CHECK(pl_instances_load(instances, never, 0, 0) == 0); /* it is never kept */
    EXPECT("host:2 new:A~ cell:5 host:3 new:A host:4 new:A~ cell:5 host:5 new:A host:6 new:A~ "
           "cell:5 host:7 new:A");
    pl_library_release(first);
    pl_library_release(other);
    pl_library_release(never);
    tear_down();
}

static void test_what_it_imports_is_of_the_same_instance(void) {
    set_up();
    pl_library *one = fake_library(&b, &(pl_library_parts){.place = 1}),
               *other = fake_library(&b, &(pl_library_parts){.place = 1});
    CHECK(pl_instances_load(instances, one, 0, 0) == 0);
    pl_library *first = load_and_drop(5, 20, one), *again = make(5, 20, one, 7),
               *changed = make(5, 20, other, 7);
    CHECK(pl_instances_load(instances, again, 0, 0) == 0);
    EXPECT("set:8=A.g set:9=null plt:A~.0=A~.s0");
    pl_instances_drop(instances, again);
    pl_instances_drop(instances, one);
    CHECK(pl_instances_load(instances, other, 0, 0) == 0);
    CHECK(pl_instances_load(instances, changed, 0, 0) == 0);
    EXPECT("new:B host:2 new:A~ cell:5 host:3 new:A");
    pl_library *const all[] = {one, other, first, again, changed};
    for (size_t i = 0; i < 5; i++) {
        pl_library_release(all[i]);
    }
    tear_down();
}

static void test_failure_is_told_and_the_instance_is_there_for_the_next(void) {
    static const struct {
        const char *function;
        int at, stage;
    } faults[] = {{"global_set", 1, PL_STAGE_MAKE},
                  {"table_set", 1, PL_STAGE_TABLE},
                  {"table_set", 3, PL_STAGE_TABLE}};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        set_up();
        pl_library *first = load_and_drop(5, 20, NULL), *second = make(6, 30, NULL, 7);
        fail_at(faults[i].function, faults[i].at);
        CHECK(pl_instances_load(instances, second, 0, 0) == -1);
        CHECK(pl_instances_error(instances)->stage == faults[i].stage &&
              pl_instances_error(instances)->library == second);
        fake_take(&pl_instances_error(instances)->failure);
        pl_instances_drop(instances, second);
        journal[journal_length = 0] = '\0';
        CHECK(pl_instances_load(instances, second, 0, 0) == 0);
        EXPECT("set:8=A.g set:9=null plt:A~.0=A~.s0");
        pl_library_release(first);
        pl_library_release(second);
        tear_down();
    }
}

static void test_place_outside_of_the_memory_has_no_image(void) {
    set_up();
    pl_library *library = fake_library(
        &b,
        &(pl_library_parts){.code_number = 3, .memory_base = FAKE_MEMORY - 8, .memory_size = 9});
    for (int i = 0; i < 2; i++) {
        CHECK(pl_instances_load(instances, library, 0, 0) == 0);
        pl_instances_drop(instances, library);
    }
    EXPECT("new:B new:B");
    pl_library_release(library);
    tear_down();
}

static void test_without_memory_there_is_trouble_or_a_fresh_instance(void) {
    for (long allocations = 0; allocations < 12; allocations++) {
        set_up();
        pl_library *first = make(5, 20, NULL, 7), *second = make(6, 30, NULL, 7);
        inject_memory = allocations;
        int failed = pl_instances_load(instances, first, 0, 0);
        inject_memory = -1;
        CHECK(failed == 0 || pl_instances_error(instances)->stage == PL_STAGE_ROOM);
        pl_instances_drop(instances, first);
        memset(slots, 0, sizeof slots);
        CHECK(pl_instances_load(instances, second, 0, 0) == 0);
        CHECK(pl_instances_serial(instances, second) != 0);
        pl_library_release(first);
        pl_library_release(second);
        tear_down();
    }
}

int main(void) {
    check_begin(0);
    fake_install();
    RUN(test_everything_is_put_back);
    RUN(test_follower_leaves_the_memory_alone);
    RUN(test_leader_needs_an_image);
    RUN(test_another_code_or_place_is_another_instance);
    RUN(test_what_it_imports_is_of_the_same_instance);
    RUN(test_failure_is_told_and_the_instance_is_there_for_the_next);
    RUN(test_place_outside_of_the_memory_has_no_image);
    RUN(test_without_memory_there_is_trouble_or_a_fresh_instance);
    return 0;
}
