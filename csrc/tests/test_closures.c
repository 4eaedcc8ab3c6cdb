/* closures: one instance for each slot and type, which is changed if possible, and reused when it
 * is left over. */
#include "fake.h"

#include "closures.h"
#include "replay.h"

enum { GROUP = 40, FIRST = 8, COUNT = 4 };

static pl_shared *shared;
static pl_group *group;
static pl_instances *instances;
static fake_module one = {.name = "one", .exports = {{"closure", PL_EXTERN_FUNC}}};
static fake_module two = {.name = "two", .exports = {{"closure", PL_EXTERN_FUNC}}};
static fake_module bad = {.name = "bad", .exports = {{"other", PL_EXTERN_FUNC}}};

static int host(uintptr_t handle, pl_value *values, size_t count, char *message, size_t capacity) {
    (void)handle, (void)values, (void)count, (void)message, (void)capacity;
    return 0;
}

static int replay(uintptr_t handle, uint64_t from, uint64_t to) {
    (void)handle, (void)from, (void)to;
    return 0;
}

static pl_extern handle_of(uint8_t kind, uint64_t index) {
    return (pl_extern){.kind = kind, .of = {.handle = {FAKE_STORE, index, 0}}};
}

static void set_up(void) {
    fake_reset(16);
    shared = pl_shared_new();
    group = pl_group_new(shared, GROUP, replay, NULL);
    instances = pl_instances_new(group, context, NULL, host, NULL, GROUP);
    pl_extern memory = handle_of(PL_EXTERN_MEMORY, 0), table = handle_of(PL_EXTERN_TABLE, 0),
              top = handle_of(PL_EXTERN_GLOBAL, 1990);
    pl_instances_set_memory(instances, &memory);
    pl_instances_set_table(instances, &table);
    pl_instances_set_stack_pointer(instances, &top);
}

static void tear_down(void) {
    fake_take(&pl_instances_error(instances)->failure);
    pl_instances_free(instances);
    pl_group_free(group);
    pl_shared_free(shared);
    CHECK(fake_alive == 0);
}

static pl_closures *closures(void) { return pl_instances_closures(instances); }

static int prepare(uint32_t slot, fake_module *code, uint32_t backing, uint32_t environment) {
    pl_closure wanted = {.slot = slot,
                         .code = (const pl_module *)code,
                         .backing = backing,
                         .environment = environment};
    pl_operation operation = {.closures = &wanted, .closure_count = 1};
    return pl_replay_operation(instances, &operation, GROUP, 1);
}

/* What the closure in a slot is about, as the globals of its instance say: backing + 1000 *
 * environment. */
static int32_t about(uint32_t slot) {
    for (size_t i = 0; i < instance_count; i++) {
        pl_func made = fake_func(i, 0);
        if (memcmp(&made, slots + slot, sizeof made) == 0) {
            CHECK(import_counts[i] == 5 && imports_of[i][0].kind == PL_EXTERN_MEMORY &&
                  imports_of[i][1].kind == PL_EXTERN_TABLE);
            CHECK(imports_of[i][2].of.handle.index == 1990);
            return globals[imports_of[i][3].of.handle.index] +
                   1000 * globals[imports_of[i][4].of.handle.index];
        }
    }
    return -1;
}

static void test_slots_are_noted(void) {
    set_up();
    CHECK(!pl_closures_has(closures(), FIRST));
    pl_operation operation = {.noted = (pl_slots[]){{FIRST, COUNT}, {2, 1}, {100, 3}, {50, 2}},
                              .noted_count = 4};
    CHECK(pl_replay_operation(instances, &operation, GROUP, 1) == 0);
    for (uint32_t slot = 0; slot < 200; slot++) {
        int is_noted = (slot >= FIRST && slot < FIRST + COUNT) || slot == 2 ||
                       (slot >= 100 && slot < 103) || slot == 50 || slot == 51;
        CHECK(pl_closures_has(closures(), slot) == is_noted);
    }
    CHECK(!pl_closures_has(closures(), UINT32_MAX));
    CHECK(pl_closures_note(closures(), UINT32_MAX, 1) == 0 &&
          pl_closures_has(closures(), UINT32_MAX));
    EXPECT("");
    tear_down();
}

static void test_closure_is_made_once_for_a_slot_and_a_type(void) {
    set_up();
    CHECK(pl_closures_note(closures(), FIRST, COUNT) == 0);
    CHECK(prepare(8, &one, 5, 6) == 0 && about(8) == 6005);
    EXPECT("cell:0 cell:0 new:one set:8=one.closure");
    CHECK(prepare(8, &one, 7, 1) == 0 && about(8) == 1007);
    EXPECT("set:8=one.closure");
    CHECK(prepare(9, &one, 5, 6) == 0 && about(9) == 6005 && about(8) == 1007);
    EXPECT("cell:0 cell:0 new:one set:9=one.closure");
    tear_down();
}

static void test_instance_that_is_left_over_is_used_again(void) {
    set_up();
    CHECK(pl_closures_note(closures(), FIRST, COUNT) == 0);
    CHECK(prepare(8, &one, 1, 0) == 0 && prepare(9, &one, 2, 0) == 0 &&
          prepare(8, &two, 3, 0) == 0 && prepare(9, &two, 4, 0) == 0);
    EXPECT("cell:0 cell:0 new:one set:8=one.closure cell:0 cell:0 new:one set:9=one.closure "
           "cell:0 cell:0 new:two set:8=two.closure cell:0 cell:0 new:two set:9=two.closure");
    CHECK(prepare(10, &one, 5, 1) == 0 && prepare(11, &one, 6, 0) == 0);
    EXPECT("set:10=one.closure set:11=one.closure");
    CHECK(about(8) == 3 && about(9) == 4 && about(10) == 1005 && about(11) == 6);
    tear_down();
}

static void check_error(int stage, uint32_t detail, int kind) {
    pl_error_record *error = pl_instances_error(instances);
    CHECK(error->stage == stage && error->detail == detail && error->library == NULL);
    CHECK(fake_take(&error->failure) == kind);
}

static void test_failure_leaves_what_there_was(void) {
    set_up();
    CHECK(prepare(8, &one, 1, 0) == -1); /* a slot that is not noted */
    check_error(PL_STAGE_TABLE, 9, 0);
    CHECK(pl_closures_note(closures(), FIRST, COUNT) == 0 && prepare(8, &one, 1, 2) == 0);
    static const struct {
        const char *function;
        int at, stage;
    } cases[] = {{"global_new", 1, PL_STAGE_MAKE},
                 {"global_new", 2, PL_STAGE_MAKE},
                 {"instance_new", 1, PL_STAGE_INSTANTIATE}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fail_at(cases[i].function, cases[i].at);
        CHECK(prepare(8, &two, 3, 4) == -1);
        check_error(cases[i].stage, 8, FAILS);
        CHECK(about(8) == 2001);
    }
    CHECK(prepare(8, &bad, 3, 4) == -1);
    check_error(PL_STAGE_EXPORT, 8, 0);
    fail_at("table_set", 1);
    CHECK(prepare(8, &one, 3, 4) == -1);
    check_error(PL_STAGE_TABLE, 9, FAILS);
    CHECK(about(8) == 4003 && prepare(8, &one, 1, 2) == 0 && about(8) == 2001);
    journal[journal_length = 0] = '\0';
    tear_down();
}

static void test_lack_of_memory_is_told(void) {
    set_up();
    CHECK(pl_closures_note(closures(), FIRST, COUNT) == 0);
    atomic_store(&inject_memory, 0);
    CHECK(prepare(8, &one, 1, 2) == -1);
    check_error(PL_STAGE_ROOM, 8, 0);
    for (int left = 0; left < 2; left++) {
        atomic_store(&inject_memory, left);
        CHECK(pl_closures_note(closures(), 100, 5) == -1 && !pl_closures_has(closures(), 100));
    }
    atomic_store(&inject_memory, -1);
    CHECK(pl_closures_note(closures(), 100, 5) == 0 && prepare(8, &one, 1, 2) == 0);
    journal[journal_length = 0] = '\0';
    tear_down();
}

static void test_group_without_a_stack_has_none(void) {
    set_up();
    pl_instances *bare = pl_instances_new(group, context, NULL, host, NULL, GROUP);
    pl_extern table = handle_of(PL_EXTERN_TABLE, 0);
    pl_closure wanted = {.slot = 8, .code = (const pl_module *)&one};
    CHECK(pl_closures_note(pl_instances_closures(bare), FIRST, COUNT) == 0);
    CHECK(pl_closures_prepare(pl_instances_closures(bare), bare, &wanted) == -1 &&
          pl_instances_error(bare)->stage == PL_STAGE_TABLE);
    pl_instances_set_table(bare, &table);
    CHECK(pl_closures_prepare(pl_instances_closures(bare), bare, &wanted) == -1 &&
          pl_instances_error(bare)->stage == PL_STAGE_OBJECT);
    pl_instances_free(bare);
    tear_down();
}

int main(void) {
    check_begin(0);
    fake_install();
    RUN(test_slots_are_noted);
    RUN(test_closure_is_made_once_for_a_slot_and_a_type);
    RUN(test_instance_that_is_left_over_is_used_again);
    RUN(test_failure_leaves_what_there_was);
    RUN(test_lack_of_memory_is_told);
    RUN(test_group_without_a_stack_has_none);
    fake_reset(0);
    return 0;
}
