/* replay: the order of the steps of an operation, skipped steps, and the error record of a failed
 * step. */
#include "fake.h"

#include "replay.h"
#include "rendezvous.h"

enum { GROUP = 40, OTHER = 41 };

static const pl_type *const host_type = (const pl_type *)0x4006;
static pl_shared *shared;
static pl_group *group;
static pl_instances *instances;

static fake_module a = {.name = "A",
                        .exports = {{"f", PL_EXTERN_FUNC},
                                    {"g", PL_EXTERN_FUNC},
                                    {"data", PL_EXTERN_GLOBAL},
                                    {"tls_base", PL_EXTERN_GLOBAL},
                                    {"tls_init", PL_EXTERN_FUNC},
                                    {"tls_relocs", PL_EXTERN_FUNC}}};
static fake_module b = {.name = "B", .exports = {{"h", PL_EXTERN_FUNC}, {"i", PL_EXTERN_FUNC}}};
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
                                              {"stack_pointer", PL_EXTERN_GLOBAL},
                                              {"start", PL_EXTERN_FUNC}}};

/* A has slots from 4 on for f and g, B calls two functions late */
static pl_library *library_a, *library_b;

static int host(uintptr_t handle, pl_value *values, size_t count, char *message, size_t capacity) {
    (void)handle, (void)values, (void)count, (void)message, (void)capacity;
    return 0;
}

static int never_replay(uintptr_t handle, uint64_t from, uint64_t to) {
    (void)handle, (void)from, (void)to;
    CHECK(!"replayed by another group");
    return -1;
}

static pl_library *make_a(uint32_t place) {
    static const uint32_t slot_exports[] = {0, 1};
    return fake_library(
        &a, &(pl_library_parts){
                .slot_exports = slot_exports, .slot_count = 2, .slot_base = 4, .place = place});
}

static pl_library *make_b(uint32_t place, const pl_source *sources, uint32_t count) {
    return fake_library(&b, &(pl_library_parts){.trampolines = blocks,
                                                .trampoline_count = 2,
                                                .resolver = 9,
                                                .sources = sources,
                                                .source_count = count,
                                                .place = place});
}

static void set_up_bare(void) {
    fake_reset(4);
    shared = pl_shared_new();
    group = pl_group_new(shared, GROUP, never_replay, NULL);
    instances = pl_instances_new(group, context, NULL, host, NULL, GROUP);
}

static void set_up(void) {
    set_up_bare();
    pl_instances_set_table(
        instances, &(pl_extern){.kind = PL_EXTERN_TABLE, .of = {.handle = {FAKE_STORE, 0, 0}}});
    library_a = make_a(0);
    library_b = make_b(1, NULL, 0);
}

static void tear_down(void) {
    fake_take(&pl_instances_error(instances)->failure);
    pl_instances_free(instances);
    pl_group_free(group);
    pl_shared_free(shared);
    pl_library_release(library_a);
    pl_library_release(library_b);
    library_a = library_b = NULL;
    CHECK(fake_alive == 0);
}

static int apply(const pl_operation *operation) {
    return pl_replay_operation(instances, operation, GROUP, 0);
}

static int follow(const pl_operation *operation) {
    return pl_replay_operation(instances, operation, GROUP, 1);
}

/* Both are loaded, and trampoline 1 of B leads to A.g. */
static void load_both(void) {
    CHECK(apply(&(pl_operation){.table_size = 8,
                                .loaded = (pl_library *[]){library_a, library_b},
                                .loaded_count = 2}) == 0);
    CHECK(pl_instances_bind(instances, library_b, 1, library_a, 1) == 0);
    EXPECT("grow:4 new:A set:4=A.f set:5=A.g host:0 new:B~ new:B plt:B~.1=A.g");
}

static void check_error(int stage, uint32_t detail, const pl_library *library, int kind) {
    pl_error_record *error = pl_instances_error(instances);
    CHECK(error->stage == stage && error->detail == detail && error->library == library);
    CHECK(fake_take(&error->failure) == kind);
}

/* What is done */

static void test_everything_in_its_order(void) {
    set_up();
    load_both();
    pl_library *fresh = make_a(0); /* in the place of the one that goes */
    pl_operation operation = {
        .table_size = 10,
        .emptied = (pl_slots[]){{4, 2}, {7, 1}},
        .emptied_count = 2,
        .unbound = (pl_unbinding[]){{library_b, 1}},
        .unbound_count = 1,
        .dropped = (pl_library *[]){library_a},
        .dropped_count = 1,
        .loaded = (pl_library *[]){fresh},
        .loaded_count = 1,
        .blocks = (pl_block[]){{fresh, OTHER, 100}, {fresh, GROUP, 200}, {fresh, GROUP, 300}},
        .block_count = 3,
        .patches = (pl_patch[]){{library_b, 8, 0}, {fresh, 9, 1}},
        .patch_count = 2,
        .fillings = (pl_filling[]){{{.kind = PL_SOURCE_HOST, .type = host_type, .handle = 11}, 7}},
        .filling_count = 1};
    CHECK(follow(&operation) == 0);
    EXPECT("grow:2 set:4=null set:5=null set:7=null plt:B~.1=B~.s1 new:A call:A.tls_init(200) "
           "call:A.tls_relocs() set:4=A.f set:5=A.g "
           "set:8=B.h set:9=A.g host:1 set:7=host1");
    CHECK(hosts[1].type == host_type && ((pl_import *)hosts[1].environment)->function.handle == 11);
    CHECK(pl_instances_serial(instances, library_a) == 0 &&
          pl_instances_serial(instances, fresh) == 3);
    pl_library_release(fresh);
    tear_down();
}

static void test_nothing_wanted_is_nothing_done(void) {
    set_up();
    for (uint64_t size = 0; size <= 4; size++) {
        CHECK(apply(&(pl_operation){.table_size = size}) == 0 &&
              follow(&(pl_operation){.table_size = size}) == 0);
    }
    EXPECT("");
    tear_down();
}

static void test_block_is_the_groups_own(void) {
    set_up();
    pl_block blocks[] = {{library_b, GROUP, 500}, {library_a, OTHER, 100}};
    pl_operation operation = {.loaded = (pl_library *[]){library_a},
                              .loaded_count = 1,
                              .blocks = blocks,
                              .block_count = 2};
    slot_count = 8;
    CHECK(apply(&operation) == 0);
    EXPECT("new:A set:4=A.f set:5=A.g"); /* none of them: the library's own copy serves */
    CHECK(pl_instances_tls_base(instances, library_a) == 0);
    blocks[1].group = GROUP;
    CHECK(apply(&operation) == 0); /* once more: the record is made anew */
    EXPECT("new:A call:A.tls_init(100) call:A.tls_relocs() set:4=A.f set:5=A.g");
    tear_down();
}

static fake_module c = {.name = "C", .exports = {{"tls_make", PL_EXTERN_FUNC}}};
static int makes;

static int make_it(const char *name, pl_value *values, size_t count) {
    if (strcmp(name, "C.tls_make") != 0) {
        return 0;
    }
    CHECK(count == 1);
    values[0].i64 = 0x7000 + 16 * makes++;
    return makes > 2 ? TRAPS : 0;
}

static void test_library_makes_its_block_once_all_are_there(void) {
    set_up();
    pl_library *own = fake_library(&c, &(pl_library_parts){.place = 5});
    pl_block blocks[] = {{own, OTHER, PL_BLOCK_OWN}, {own, GROUP, PL_BLOCK_OWN}};
    pl_operation operation = {.loaded = (pl_library *[]){own, library_a},
                              .loaded_count = 2,
                              .blocks = blocks,
                              .block_count = 1,
                              .patches = (pl_patch[]){{library_a, 7, 0}},
                              .patch_count = 1};
    on_call = make_it;
    slot_count = 8;
    /* another's */
    CHECK(apply(&operation) == 0 && makes == 0 && pl_instances_tls_base(instances, own) == 0);
    EXPECT("new:C new:A set:4=A.f set:5=A.g set:7=A.f");
    operation.block_count = 2;
    CHECK(apply(&operation) == 0 && pl_instances_tls_base(instances, own) == 0x7000);
    EXPECT("new:C new:A set:4=A.f set:5=A.g set:7=A.f call:C.tls_make(0)");
    memset(slots, 0, sizeof slots);
    CHECK(follow(&operation) == 0 && pl_instances_tls_base(instances, own) == 0x7010);
    memset(slots, 0, sizeof slots);
    CHECK(follow(&operation) == -1);
    check_error(PL_STAGE_TLS, PL_TRAP, own, TRAPS);
    pl_library_set_unloaded(own);
    operation.loaded_count = operation.patch_count = 0;
    CHECK(follow(&operation) == 0 && makes == 3);
    pl_library_release(own);
    tear_down();
}

static void test_slots_beyond_the_table_are_empty_already(void) {
    set_up();
    slots[3] = fake_func(0, 0);
    instance_count = 1;
    CHECK(follow(&(pl_operation){.emptied = (pl_slots[]){{2, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}},
                                 .emptied_count = 2}) == 0);
    EXPECT("set:2=null set:3=null");
    CHECK(slots[3].store == 0);
    tear_down();
}

static void test_what_concerns_a_library_that_is_not_there_is_nothing(void) {
    set_up();
    pl_operation operation = {.unbound = (pl_unbinding[]){{library_a, 0}, {library_b, 1}},
                              .unbound_count = 2,
                              .dropped = (pl_library *[]){library_a, library_b},
                              .dropped_count = 2};
    CHECK(follow(&operation) == 0);
    EXPECT("");
    load_both();
    CHECK(follow(&operation) == 0); /* A has no trampolines */
    EXPECT("plt:B~.1=B~.s1");
    CHECK(pl_instances_serial(instances, library_a) == 0 &&
          pl_instances_serial(instances, library_b) == 0);
    CHECK(follow(&operation) == 0);
    EXPECT("");
    tear_down();
}

static void test_who_catches_up_leaves_out_what_is_gone_by_now(void) {
    set_up();
    pl_operation operation = {.table_size = 10,
                              .loaded = (pl_library *[]){library_a, library_b},
                              .loaded_count = 2,
                              .blocks = (pl_block[]){{library_a, GROUP, 100}},
                              .block_count = 1,
                              .patches = (pl_patch[]){{library_a, 8, 0}, {library_b, 9, 0}},
                              .patch_count = 2};
    pl_library_set_unloaded(library_a);
    CHECK(follow(&operation) == 0);
    EXPECT("grow:6 host:0 new:B~ new:B set:9=B.h");
    CHECK(pl_instances_serial(instances, library_a) == 0);
    CHECK(apply(&operation) == 0); /* the leader means what it says */
    EXPECT("new:A call:A.tls_init(100) call:A.tls_relocs() set:4=A.f set:5=A.g host:1 new:B~ new:B "
           "set:8=A.f set:9=B.h");
    tear_down();
}

static void test_table_that_comes_with_a_library_grows_before_it_is_used(void) {
    set_up_bare();
    library_a = make_a(0);
    library_b = fake_library(&main_module, &(pl_library_parts){.place = 1});
    pl_operation operation = {.table_size = 9,
                              .loaded = (pl_library *[]){library_b, library_a},
                              .loaded_count = 2,
                              .patches = (pl_patch[]){{library_b, 8, 3}},
                              .patch_count = 1};
    CHECK(follow(&operation) == 0);
    EXPECT("new:M grow:5 new:A set:4=A.f set:5=A.g set:8=M.start");
    CHECK(pl_instances_memory(instances)->kind == PL_EXTERN_MEMORY &&
          pl_instances_stack_pointer(instances)->kind == PL_EXTERN_GLOBAL);
    tear_down();
}

static void test_without_a_table_only_slots_are_missing(void) {
    set_up_bare();
    library_a = make_a(0);
    pl_operation operation = {.table_size = 9,
                              .emptied = (pl_slots[]){{1, 4}},
                              .emptied_count = 1,
                              .loaded = (pl_library *[]){library_a},
                              .loaded_count = 1};
    CHECK(follow(&operation) == 0);
    EXPECT("new:A");
    operation = (pl_operation){.patches = (pl_patch[]){{library_a, 8, 0}}, .patch_count = 1};
    CHECK(follow(&operation) == -1);
    check_error(PL_STAGE_TABLE, 9, library_a, 0);
    operation =
        (pl_operation){.fillings = &(pl_filling){{.kind = PL_SOURCE_HOST, .type = host_type}, 6},
                       .filling_count = 1};
    CHECK(follow(&operation) == -1);
    check_error(PL_STAGE_TABLE, 7, NULL, 0);
    tear_down();
}

/* What fails, at which step, and what is told of it */

static void test_table_that_cannot_grow(void) {
    set_up();
    CHECK(apply(&(pl_operation){.table_size = FAKE_SLOTS + 1,
                                .loaded = (pl_library *[]){library_a},
                                .loaded_count = 1}) == -1);
    EXPECT("grow:29"); /* and nothing else */
    check_error(PL_STAGE_TABLE, FAKE_SLOTS + 1, NULL, FAILS);
    tear_down();
}

static void test_slot_that_cannot_be_set(void) {
    set_up();
    pl_operation operation = {.table_size = 10,
                              .loaded = (pl_library *[]){library_a},
                              .loaded_count = 1,
                              .patches = (pl_patch[]){{library_a, 8, 1}},
                              .patch_count = 1,
                              .fillings =
                                  &(pl_filling){{.kind = PL_SOURCE_HOST, .type = host_type}, 9},
                              .filling_count = 1};
    static const char *const done[] = {"grow:6 new:A set:4=A.f", "new:A set:4=A.f set:5=A.g",
                                       "new:A set:4=A.f set:5=A.g set:8=A.g",
                                       "new:A set:4=A.f set:5=A.g set:8=A.g host:0 set:9=host0"};
    static const uint32_t last[] = {4, 5, 8, 9};
    for (int i = 0; i < 4; i++) {
        fail_at("table_set", i + 1);
        CHECK(apply(&operation) == -1);
        EXPECT(done[i]);
        check_error(PL_STAGE_TABLE, last[i] + 1, i < 3 ? library_a : NULL, FAILS);
        pl_instances_drop(instances, library_a);
    }
    CHECK(apply(&operation) == 0);
    tear_down();
}

static void test_slot_that_is_taken(void) {
    set_up();
    pl_operation operation = {.table_size = 10,
                              .loaded = (pl_library *[]){library_a},
                              .loaded_count = 1,
                              .patches = (pl_patch[]){{library_a, 8, 1}},
                              .patch_count = 1,
                              .fillings =
                                  &(pl_filling){{.kind = PL_SOURCE_HOST, .type = host_type}, 9},
                              .filling_count = 1};
    slot_count = 10;
    instance_count = 1;
    instances_of[0] = &b;
    static const uint32_t taken[] = {4, 5, 8, 9};
    static const char *const done[] = {"new:A", "new:A set:4=A.f", "new:A set:4=A.f set:5=A.g",
                                       "new:A set:4=A.f set:5=A.g set:8=A.g"};
    for (int i = 0; i < 4; i++) {
        host_count = 0;
        memset(slots, 0, sizeof slots);
        slots[taken[i]] = fake_func(0, 1);
        CHECK(follow(&operation) == -1);
        EXPECT(done[i]);
        check_error(PL_STAGE_TAKEN, taken[i], i < 3 ? library_a : NULL, 0);
        CHECK(slots[taken[i]].body == fake_func(0, 1).body); /* it is left as it was */
        pl_instances_drop(instances, library_a);
        /* the leader knows that they are free, and looks at nothing */
        CHECK(apply(&operation) == 0);
        EXPECT("new:A set:4=A.f set:5=A.g set:8=A.g host:0 set:9=host0");
        pl_instances_drop(instances, library_a);
    }
    tear_down();
}

static void test_export_that_is_not_there(void) {
    set_up();
    pl_patch wanted = {library_a, 8, 0};
    pl_operation operation = {.patches = &wanted, .patch_count = 1};
    CHECK(apply(&operation) == -1); /* A is not loaded */
    check_error(PL_STAGE_EXPORT, 0, library_a, 0);
    load_both();
    wanted.export_index = 2; /* no function */
    CHECK(apply(&operation) == -1);
    check_error(PL_STAGE_EXPORT, 2, library_a, 0);
    wanted.export_index = 1000;
    CHECK(apply(&operation) == -1);
    check_error(PL_STAGE_EXPORT, 1000, library_a, 0);
    EXPECT("");
    for (int i = 0; i < 2; i++) { /* of a slot */
        pl_instances_drop(instances, library_a);
        fail_at("instance_export_get", i + 1);
        CHECK(apply(&(pl_operation){.loaded = (pl_library *[]){library_a}, .loaded_count = 1}) ==
              -1);
        check_error(PL_STAGE_EXPORT, (uint32_t)i, library_a, 0);
    }
    for (int i = 0; i < 2; i++) { /* of what initialises thread-local data */
        pl_instances_drop(instances, library_a);
        fail_at("instance_export_get", i + 1);
        CHECK(apply(&(pl_operation){.loaded = (pl_library *[]){library_a},
                                    .loaded_count = 1,
                                    .blocks = (pl_block[]){{library_a, GROUP, 16}},
                                    .block_count = 1}) == -1);
        check_error(PL_STAGE_EXPORT, (uint32_t)(4 + i), library_a, 0);
    }
    tear_down();
}

static void test_instance_that_cannot_be_made(void) {
    set_up();
    pl_operation operation = {.loaded = (pl_library *[]){library_b, library_a}, .loaded_count = 2};
    static const char *const done[] = {"host:0 new:B~", "host:1 new:B~ new:B",
                                       "host:2 new:B~ new:B new:A"};
    slot_count = 10;
    for (int i = 0; i < 3; i++) {
        fail_at("instance_new", i + 1);
        CHECK(apply(&operation) == -1);
        EXPECT(done[i]);
        check_error(PL_STAGE_INSTANTIATE, 0, i < 2 ? library_b : library_a, FAILS);
        CHECK(pl_instances_serial(instances, i < 2 ? library_b : library_a) == 0);
        pl_extern found; /* what there is of it is of no use */
        CHECK(pl_instances_export(instances, i < 2 ? library_b : library_a, 0, &found) == -1);
        pl_instances_drop(instances, library_a);
        pl_instances_drop(instances, library_b);
    }
    CHECK(apply(&operation) == 0);
    tear_down();
}

static int trap_in_new(const fake_module *module) { return module == &a ? TRAPS : 0; }

static int fail_in_call(const char *name, pl_value *values, size_t count) {
    (void)values, (void)count;
    return strcmp(name, "A.tls_init") == 0 ? FAILS : 0;
}

static int trap_in_call(const char *name, pl_value *values, size_t count) {
    (void)values, (void)count;
    return strcmp(name, "A.tls_relocs") == 0 ? TRAPS : 0;
}

static void test_guest_code_that_traps_or_fails(void) {
    set_up();
    pl_operation operation = {.loaded = (pl_library *[]){library_a},
                              .loaded_count = 1,
                              .blocks = (pl_block[]){{library_a, GROUP, 16}},
                              .block_count = 1};
    slot_count = 10;
    on_new = trap_in_new;
    CHECK(apply(&operation) == -1);
    check_error(PL_STAGE_INSTANTIATE, 0, library_a, TRAPS);
    on_new = NULL;
    on_call = fail_in_call;
    CHECK(apply(&operation) == -1);
    check_error(PL_STAGE_TLS, PL_ERROR, library_a, FAILS);
    on_call = trap_in_call;
    CHECK(apply(&operation) == -1);
    check_error(PL_STAGE_TLS, PL_TRAP, library_a, TRAPS);
    on_call = NULL;
    EXPECT("new:A new:A call:A.tls_init(16) new:A call:A.tls_init(16) call:A.tls_relocs()");
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    CHECK(apply(&operation) == -1);
    check_error(PL_STAGE_TLS, PL_ABORTED, library_a, 0);
    tear_down();
}

/* Sources that cannot be had: the error record says which. */
static void test_source_that_is_not_there(void) {
    set_up_bare();
    library_a = make_a(0);
    const pl_source good = {.kind = PL_SOURCE_CONSTANT, .value = 5},
                    bad[] = {{.kind = PL_SOURCE_MEMORY},
                             {.kind = PL_SOURCE_TABLE},
                             {.kind = PL_SOURCE_STACK_POINTER},
                             {.kind = PL_SOURCE_EXPORT, .library = library_a, .index = 0},
                             {.kind = PL_SOURCE_PLT, .index = 2},
                             {.kind = PL_SOURCE_TLS_CELL, .library = library_a, .value = 4},
                             {.kind = PL_SOURCE_WASI, .index = PL_WASI_FUNCTIONS}};
    static const int stages[] = {PL_STAGE_OBJECT, PL_STAGE_OBJECT, PL_STAGE_OBJECT,
                                 PL_STAGE_EXPORT, PL_STAGE_EXPORT, PL_STAGE_TLS_CELL,
                                 PL_STAGE_ROOM};
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        library_b = make_b(1, (pl_source[]){good, bad[i]}, 2);
        CHECK(apply(&(pl_operation){.loaded = (pl_library *[]){library_b}, .loaded_count = 1}) ==
              -1);
        check_error(stages[i], 1, library_b, 0);
        CHECK(strstr(journal, "constant:5") != NULL && strstr(journal, "new:B ") == NULL);
        journal[journal_length = 0] = '\0';
        pl_instances_drop(instances, library_b);
        pl_library_release(library_b);
    }
    library_b = NULL;
    tear_down();
}

static void test_global_or_tag_that_cannot_be_made(void) {
    set_up_bare();
    static const char *const functions[] = {"global_new", "global_new", "tag_new"};
    const pl_source sources[] = {
        {.kind = PL_SOURCE_CELL, .value = -1},
        {.kind = PL_SOURCE_CONSTANT, .value = 1},
        {.kind = PL_SOURCE_TAG, .index = 3, .type = (const pl_type *)0x4004}};
    for (uint32_t i = 0; i < 3; i++) {
        library_b = make_b(1, sources + i, 1);
        fail_at(functions[i], 1);
        CHECK(apply(&(pl_operation){.loaded = (pl_library *[]){library_b}, .loaded_count = 1}) ==
              -1);
        check_error(PL_STAGE_MAKE, 0, library_b, FAILS);
        CHECK(apply(&(pl_operation){.loaded = (pl_library *[]){library_b}, .loaded_count = 1}) ==
              0);
        pl_library_release(library_b);
    }
    library_b = NULL;
    tear_down();
}

/* Without memory at each place where some is asked for: it is told, nothing is lost, and the
 * next try goes through. */
static void test_lack_of_memory_is_told_and_undone(void) {
    int refused = 0;
    for (int left = 0;; left++) {
        set_up_bare();
        const pl_source sources[] = {
            {.kind = PL_SOURCE_TAG, .index = 2, .type = (const pl_type *)0x4004},
            {.kind = PL_SOURCE_HOST, .type = host_type, .handle = 1},
            {.kind = PL_SOURCE_BUILTIN, .type = host_type, .handle = 2},
            {.kind = PL_SOURCE_CALLBACK, .type = host_type, .handle = 3, .index = 1}};
        library_b = make_b(5, sources, 4);
        pl_operation operation = {.loaded = (pl_library *[]){library_b}, .loaded_count = 1};
        atomic_store(&inject_memory, left);
        int failed = apply(&operation);
        atomic_store(&inject_memory, -1);
        if (failed) {
            refused++;
            check_error(PL_STAGE_ROOM, pl_instances_error(instances)->detail, library_b, 0);
            pl_instances_drop(instances, library_b);
            CHECK(apply(&operation) == 0);
        }
        tear_down();
        if (!failed) {
            break;
        }
    }
    /* the record, the imports, trampolines and resolver, the tag, the host function, the
     * builtin, the callback and its place */
    CHECK(refused == 9);
    set_up();
    atomic_store(&inject_memory, 0);
    pl_operation operation = {.fillings =
                                  &(pl_filling){{.kind = PL_SOURCE_HOST, .type = host_type}, 1},
                              .filling_count = 1};
    CHECK(apply(&operation) == -1);
    atomic_store(&inject_memory, -1);
    check_error(PL_STAGE_ROOM, 0, NULL, 0);
    tear_down();
}

/* A group that follows in C */

static int reported;
static pl_follower follower;

static int report(uintptr_t handle) {
    /* before others look for the reason */
    CHECK(handle == GROUP && pl_cancel_cause(pl_shared_cancel(shared)) == 0);
    reported++;
    return 0;
}

static void lead(pl_log *log, const pl_operation *operation) {
    uintptr_t late;
    pl_group *leader = pl_group_new(shared, OTHER, never_replay, NULL);
    CHECK(pl_rwlock_try_write(pl_shared_lock(shared)) == PL_ACQUIRED);
    CHECK(pl_lead_open(leader) != 0 && pl_lead_meet(leader, -1, &late) == PL_ACQUIRED);
    CHECK(pl_log_append(log, operation, NULL) == pl_bus_sent(pl_shared_operations(shared)) + 1);
    CHECK(pl_lead_publish(leader) != 0 && pl_lead_finish(leader) == PL_ACQUIRED);
    pl_group_free(leader);
}

static void test_follower_carries_out_what_it_missed(void) {
    set_up();
    pl_log *log = pl_shared_log(shared);
    follower = (pl_follower){.instances = instances, .log = log, .group = GROUP, .failed = report};
    reported = 0;
    pl_follower_install(&follower);
    pl_block blocks[] = {{library_a, GROUP, 64}, {library_a, OTHER, 128}};
    pl_operation first = {.table_size = 8,
                          .loaded = (pl_library *[]){library_a},
                          .loaded_count = 1,
                          .blocks = blocks,
                          .block_count = 2};
    pl_operation second = {.loaded = (pl_library *[]){library_b}, .loaded_count = 1};
    lead(log, &first);
    lead(log, NULL); /* withdrawn, or not replayed by C */
    lead(log, &second);
    EXPECT("");
    pl_safepoint_run(pl_group_safepoint(group));
    CHECK(pl_group_safepoint_poll(group) == PL_ACQUIRED && reported == 0);
    EXPECT("grow:4 new:A call:A.tls_init(64) call:A.tls_relocs() set:4=A.f set:5=A.g host:0 new:B~ "
           "new:B");
    CHECK(pl_group_applied(group) == 3 && pl_group_safepoint_poll(group) == PL_ACQUIRED);
    EXPECT("");
    tear_down();
}

static void test_follower_that_fails_tells_and_goes_no_further(void) {
    set_up();
    pl_log *log = pl_shared_log(shared);
    follower = (pl_follower){.instances = instances, .log = log, .group = GROUP, .failed = report};
    reported = 0;
    pl_follower_install(&follower);
    slots[3] = fake_func(0, 0);
    pl_operation first = {.loaded = (pl_library *[]){library_b}, .loaded_count = 1};
    pl_operation second = {.patches = (pl_patch[]){{library_b, 3, 0}}, .patch_count = 1};
    pl_operation third = {.table_size = 20};
    lead(log, &first);
    lead(log, &second);
    lead(log, &third);
    pl_safepoint_run(pl_group_safepoint(group));
    CHECK(pl_group_safepoint_poll(group) == PL_CANCELLED && reported == 1);
    EXPECT("host:0 new:B~ new:B");
    check_error(PL_STAGE_TAKEN, 3, library_b, 0);
    CHECK(pl_cancel_cause(pl_shared_cancel(shared)) == PL_CAUSE_REPLAY &&
          pl_group_applied(group) == 0);
    tear_down();
}

int main(void) {
    check_begin(0);
    fake_install();
    RUN(test_everything_in_its_order);
    RUN(test_nothing_wanted_is_nothing_done);
    RUN(test_block_is_the_groups_own);
    RUN(test_library_makes_its_block_once_all_are_there);
    RUN(test_slots_beyond_the_table_are_empty_already);
    RUN(test_what_concerns_a_library_that_is_not_there_is_nothing);
    RUN(test_who_catches_up_leaves_out_what_is_gone_by_now);
    RUN(test_table_that_comes_with_a_library_grows_before_it_is_used);
    RUN(test_without_a_table_only_slots_are_missing);
    RUN(test_table_that_cannot_grow);
    RUN(test_slot_that_cannot_be_set);
    RUN(test_slot_that_is_taken);
    RUN(test_export_that_is_not_there);
    RUN(test_instance_that_cannot_be_made);
    RUN(test_guest_code_that_traps_or_fails);
    RUN(test_source_that_is_not_there);
    RUN(test_global_or_tag_that_cannot_be_made);
    RUN(test_lack_of_memory_is_told_and_undone);
    RUN(test_follower_carries_out_what_it_missed);
    RUN(test_follower_that_fails_tells_and_goes_no_further);
    fake_reset(0);
    return 0;
}
