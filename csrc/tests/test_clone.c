/* clone: the contents of a new group, the order of their creation, and the result of a failed
 * step. */
#include "fake.h"

#include "clone.h"

enum { GROUP = 40, OTHER = 41, STACK_TOP = 4096 };

static const pl_type *const table_type = (const pl_type *)0x4005;
static pl_shared *shared;
static pl_group *group;
static pl_watch watch;
static pl_library *library;
static const pl_extern memory = {.kind = PL_EXTERN_MEMORY, .of = {.handle = {FAKE_STORE, 0, 5}}};

static fake_module a = {.name = "A",
                        .exports = {{"f", PL_EXTERN_FUNC}, {"tls_init", PL_EXTERN_FUNC}}};
static fake_module main_module = {
    .name = "M", .exports = {{"table", PL_EXTERN_TABLE}, {"stack_pointer", PL_EXTERN_GLOBAL}}};

static int host(uintptr_t handle, pl_value *values, size_t count, char *message, size_t capacity) {
    (void)handle, (void)values, (void)count, (void)message, (void)capacity;
    return 0;
}

static int replay(uintptr_t handle, uint64_t from, uint64_t to) {
    return handle != GROUP || from > to;
}

static void set_up(void) {
    static const uint32_t slot_exports[] = {0};
    fake_reset(0);
    shared = pl_shared_new();
    group = pl_group_new(shared, GROUP, replay, NULL);
    watch = (pl_watch){.group = group};
    library = fake_library(
        &a, &(pl_library_parts){
                .slot_exports = slot_exports, .slot_count = 1, .slot_base = 3, .place = 0});
}

static void tear_down(void) {
    pl_library_release(library);
    pl_group_free(group);
    pl_shared_free(shared);
    CHECK(fake_alive == 0);
}

static pl_clone clone_of(const pl_operation *snapshot) {
    return (pl_clone){.engine = (pl_engine *)0x7000,
                      .group = group,
                      .handle = GROUP,
                      .callback = host,
                      .watch = &watch,
                      .memory_limit = 1 << 20,
                      .table_limit = 30,
                      .memory = &memory,
                      .table = table_type,
                      .stack_pointer = fake_types.cell,
                      .stack_top = STACK_TOP,
                      .snapshot = snapshot};
}

/* Frees what came of it, and says how the error record was: TRAPS, FAILS or 0. */
static int end(pl_clone *clone) {
    int kind =
        clone->instances != NULL ? fake_take(&pl_instances_error(clone->instances)->failure) : 0;
    pl_instances_free(clone->instances);
    pl_store_free(clone->store);
    return kind;
}

static void test_group_has_everything_in_a_store_of_its_own(void) {
    set_up();
    pl_block others[] = {{library, GROUP, 8}}, own[] = {{library, OTHER, 16}, {library, GROUP, 24}};
    pl_operation snapshot = {.table_size = 6,
                             .loaded = &library,
                             .loaded_count = 1,
                             .blocks = others,
                             .block_count = 1,
                             .patches = &(pl_patch){library, 5, 0},
                             .patch_count = 1};
    pl_clone clone = clone_of(&snapshot);
    clone.blocks = own;
    clone.block_count = 2;
    CHECK(pl_clone_group(&clone) == 0);
    EXPECT("store limit:1048576,30 watch table cell:4096 grow:5 new:A call:A.tls_init(24) "
           "set:3=A.f set:5=A.f");
    /* which serves the next one, too */
    CHECK(snapshot.blocks == others && snapshot.block_count == 1);
    CHECK(pl_instances_group(clone.instances) == group &&
          pl_instances_context(clone.instances) == context);
    CHECK(pl_instances_memory(clone.instances)->of.handle.more == 5);
    CHECK(globals[pl_instances_stack_pointer(clone.instances)->of.handle.index] == STACK_TOP);
    CHECK(pl_instances_serial(clone.instances, library) == 1 &&
          pl_instances_tls_base(clone.instances, library) == 24);
    CHECK(pl_safepoint_state(pl_group_safepoint(group)) == PL_PARKED);
    CHECK(end(&clone) == 0);
    tear_down();
}

static void test_main_module_brings_what_is_its_own(void) {
    set_up();
    pl_library *main_library = fake_library(&main_module, &(pl_library_parts){.place = 1});
    pl_operation snapshot = {
        .table_size = 6, .loaded = (pl_library *[]){main_library, library}, .loaded_count = 2};
    pl_clone clone = clone_of(&snapshot);
    clone.table = clone.stack_pointer = NULL;
    slot_count = 1; /* as its file says */
    CHECK(pl_clone_group(&clone) == 0);
    EXPECT("store limit:1048576,30 watch new:M grow:5 new:A set:3=A.f");
    CHECK(pl_instances_stack_pointer(clone.instances) != NULL &&
          pl_instances_table(clone.instances) != NULL);
    CHECK(end(&clone) == 0);
    pl_library_release(main_library);
    tear_down();
}

static void test_each_failure_is_handed_over_with_what_there_is(void) {
    static const struct {
        const char *function;
        int stage;
    } faults[] = {{"table_new", PL_STAGE_TABLE},
                  {"global_new", PL_STAGE_MAKE},
                  {"table_grow", PL_STAGE_TABLE},
                  {"instance_new", PL_STAGE_INSTANTIATE},
                  {"table_set", PL_STAGE_TABLE}};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        set_up();
        pl_operation snapshot = {.table_size = 6, .loaded = &library, .loaded_count = 1};
        pl_clone clone = clone_of(&snapshot);
        fail_at(faults[i].function, 1);
        CHECK(pl_clone_group(&clone) == -1);
        CHECK(clone.store != NULL && pl_instances_error(clone.instances)->stage == faults[i].stage);
        CHECK(end(&clone) == FAILS);
        tear_down();
    }
}

static void test_lack_of_memory_is_told(void) {
    for (int left = 0; left < 2; left++) {
        set_up();
        pl_operation snapshot = {.table_size = 6};
        pl_clone clone = clone_of(&snapshot);
        atomic_store(&inject_memory, left);
        CHECK(pl_clone_group(&clone) == -1);
        atomic_store(&inject_memory, -1);
        CHECK(clone.store != NULL && clone.instances == NULL);
        CHECK(end(&clone) == 0);
        tear_down();
    }
}

int main(void) {
    check_begin(0);
    fake_install();
    RUN(test_group_has_everything_in_a_store_of_its_own);
    RUN(test_main_module_brings_what_is_its_own);
    RUN(test_each_failure_is_handed_over_with_what_there_is);
    RUN(test_lack_of_memory_is_told);
    fake_reset(0);
    return 0;
}
