/* call_dynamic: packing of values, errors before and after the call, when a type is looked up
 * again, and reflection. */
#include "fake.h"

#include "builtin.h"
#include "call_dynamic.h"

enum { GROUP = 40, SLOT = 5, AT = 1000, TO = 2000, INVAL = 28, OVERFLOWED = 61, MEMVIOLATION = 78 };

static pl_shared *shared;
static pl_group *group;
static pl_instances *instances;
static pl_library *caller, *target;
static fake_module guest = {.name = "G", .exports = {{"f", PL_EXTERN_FUNC}}};
static fake_module invoker = {.name = "I", .exports = {{"invoke", PL_EXTERN_FUNC}}};

/* What Python says of SLOT. */
static const pl_signature *said;
static int questions, changes_meanwhile, fails;

static int host(uintptr_t handle, pl_value *values, size_t count, char *message, size_t capacity) {
    CHECK(handle == 9 && count == 1 && values[0].i32 == SLOT && capacity == PL_MESSAGE_CAPACITY);
    CHECK(pl_safepoint_state(pl_group_safepoint(group)) == PL_PARKED);
    questions++;
    uint64_t changes = pl_shared_generation(shared);
    if (changes_meanwhile > 0) {
        changes_meanwhile--;
        pl_shared_next_generation(shared);
    }
    pl_calls_put(pl_instances_calls(instances), changes, SLOT, said);
    if (fails) {
        strcpy(message, "no");
    }
    return fails;
}

static int replay(uintptr_t handle, uint64_t from, uint64_t to) {
    (void)handle, (void)from, (void)to;
    return 0;
}

static void set_up(void) {
    static const pl_source sources[] = {
        {.kind = PL_SOURCE_BUILTIN, .index = PL_BUILTIN_CALL_DYNAMIC, .handle = 9},
        {.kind = PL_SOURCE_BUILTIN, .index = PL_BUILTIN_REFLECT_SIGNATURE, .handle = 9}};
    static const uint32_t slot_exports[] = {0};
    fake_reset(8);
    shared = pl_shared_new();
    group = pl_group_new(shared, GROUP, replay, NULL);
    instances = pl_instances_new(group, context, NULL, host, NULL, GROUP);
    pl_extern memory = {.kind = PL_EXTERN_MEMORY, .of = {.handle = {FAKE_STORE, 0, 0}}};
    pl_extern table = {.kind = PL_EXTERN_TABLE, .of = {.handle = {FAKE_STORE, 0, 0}}};
    pl_instances_set_memory(instances, &memory);
    pl_instances_set_table(instances, &table);
    target = fake_library(
        &guest, &(pl_library_parts){
                    .slot_exports = slot_exports, .slot_count = 1, .slot_base = SLOT, .place = 0});
    caller = fake_library(&invoker,
                          &(pl_library_parts){.sources = sources, .source_count = 2, .place = 1});
    CHECK(pl_instances_load(instances, target, 0, 0) == 0 &&
          pl_instances_load(instances, caller, 0, 0) == 0);
    pl_safepoint_run(pl_group_safepoint(group));
    journal[journal_length = 0] = '\0';
    said = NULL;
    questions = changes_meanwhile = fails = 0;
}

static void tear_down(void) {
    pl_instances_free(instances);
    pl_group_free(group);
    pl_shared_free(shared);
    pl_library_release(target);
    pl_library_release(caller);
    CHECK(fake_alive == 0);
}

/* A type, as text: the letters i l f d v for the values, parameters before the colon. */
static const pl_signature *type_of(const char *text) {
    static pl_signature signature;
    static uint8_t types[64];
    signature = (pl_signature){.invoke = fake_func(1, 0), .types = types};
    uint32_t *count = &signature.param_count;
    size_t length = 0;
    for (; *text; text++) {
        if (*text == ':') {
            count = &signature.result_count;
            continue;
        }
        types[length++] = (uint8_t)(strchr("ilfdv", *text) - "ilfdv");
        ++*count;
    }
    return &signature;
}

static int32_t call_at(uint32_t slot, uint32_t from, uint32_t size, uint32_t to, uint32_t room,
                       int strict) {
    pl_value values[6] = {{.i32 = (int32_t)slot}, {.i32 = (int32_t)from}, {.i32 = (int32_t)size},
                          {.i32 = (int32_t)to},   {.i32 = (int32_t)room}, {.i32 = strict}};
    CHECK(fake_enter(0, values, 6) == NULL);
    CHECK(pl_safepoint_state(pl_group_safepoint(group)) == PL_RUNNING && values[0].i64 >= 0);
    return values[0].i32;
}

static int32_t call(uint32_t size, uint32_t room, int strict) {
    return call_at(SLOT, AT, size, TO, room, strict);
}

/* The called function: it keeps its arguments, and its results are bytes that count up from
 * 0x81. */
static pl_value seen[40];
static size_t seen_count;

static int called(const char *name, pl_value *values, size_t count) {
    CHECK(strcmp(name, "I.invoke") == 0 && count <= 40);
    memcpy(seen, values, count * sizeof *values);
    seen_count = count;
    for (size_t i = 0; i < count; i++) {
        for (uint8_t j = 0; j < 16; j++) {
            values[i].v128[j] = (uint8_t)(0x81 + 16 * i + j);
        }
    }
    return 0;
}

static void fill_guest(void) {
    for (uint32_t i = 0; i < 200; i++) {
        fake_memory[AT + i] = (uint8_t)(i + 1);
        fake_memory[TO + i] = 0xee;
    }
    on_call = called;
}

static void test_values_are_packed(void) {
    set_up();
    said = type_of("ilfdv:vdfli");
    fill_guest();
    CHECK(call(40, 40, 1) == 0 && seen_count == 6 && seen[5].i32 == SLOT);
    CHECK(seen[0].i32 == 0x04030201 && seen[1].i64 == INT64_C(0x0c0b0a0908070605) &&
          (uint32_t)seen[2].i32 == 0x100f0e0d);
    CHECK(memcmp(&seen[3], fake_memory + AT + 16, 8) == 0 &&
          memcmp(&seen[4], fake_memory + AT + 24, 16) == 0);
    const uint8_t *to = fake_memory + TO;
    CHECK(to[0] == 0x81 && to[15] == 0x90 && to[16] == 0x91 && to[23] == 0x98 && to[24] == 0xa1 &&
          to[28] == 0xb1 && to[36] == 0xc1);
    CHECK(to[39] == 0xc4 && to[40] == 0xee);
    EXPECT("call:I.invoke(67305985)");
    tear_down();
}

static void test_strict_sizes_are_exact(void) {
    set_up();
    said = type_of("ii:il");
    fill_guest();
    CHECK(call(7, 12, 1) == INVAL && call(9, 12, 1) == INVAL && call(0, 12, 1) == INVAL);
    EXPECT("");
    CHECK(call(8, 11, 1) == INVAL && fake_memory[TO + 3] == 0x84 && fake_memory[TO + 4] == 0xee);
    CHECK(call(8, 13, 1) == INVAL && fake_memory[TO + 11] == 0x98 && fake_memory[TO + 12] == 0xee);
    fill_guest();
    CHECK(call(8, 3, 1) == INVAL && fake_memory[TO] == 0xee);
    CHECK(call(8, 12, 1) == 0 && call(8, 11, 2) == 0);
    tear_down();
}

static void test_lax_values_are_what_fits(void) {
    set_up();
    said = type_of("lil:lil");
    fill_guest();
    CHECK(call(6, 6, 0) == 0); /* the wide ones do not fit; the one between takes what is there */
    CHECK(seen[0].i64 == 0 && seen[1].i32 == 0x04030201 && seen[2].i64 == 0);
    CHECK(fake_memory[TO] == 0x91 && fake_memory[TO + 3] == 0x94 && fake_memory[TO + 4] == 0xee);
    CHECK(call(0, 0, 0) == 0 && seen[1].i64 == 0);
    CHECK(call(100, 100, 0) == 0 && fake_memory[TO + 19] == 0xa8 && fake_memory[TO + 20] == 0xee);
    tear_down();
}

static void test_memory_is_looked_at_where_it_is_used(void) {
    set_up();
    said = type_of("i:i");
    fill_guest();
    CHECK(call_at(SLOT, FAKE_MEMORY - 3, 4, TO, 4, 1) == MEMVIOLATION &&
          call_at(SLOT, UINT32_MAX, 4, TO, 4, 0) == MEMVIOLATION);
    EXPECT("");
    CHECK(call_at(SLOT, FAKE_MEMORY - 4, 4, FAKE_MEMORY - 3, 4, 1) == MEMVIOLATION);
    /* nothing fits, so nothing is used */
    CHECK(call_at(SLOT, UINT32_MAX, 3, UINT32_MAX, 3, 0) == 0);
    CHECK(call_at(SLOT, FAKE_MEMORY - 4, 4, FAKE_MEMORY - 4, 4, 1) == 0);
    tear_down();
}

static void test_no_function(void) {
    set_up();
    fill_guest();
    CHECK(call_at(0, AT, 0, TO, 0, 1) == INVAL && call_at(8, AT, 0, TO, 0, 1) == INVAL &&
          call_at(UINT32_MAX, AT, 0, TO, 0, 0) == INVAL);
    CHECK(questions == 0);
    CHECK(call(0, 0, 0) == INVAL && questions == 1); /* an unknown function */
    CHECK(call(0, 0, 0) == INVAL && questions == 1);
    pl_signature strange = {.param_count = 1, .result_count = 2, .types = (const uint8_t *)""};
    said = &strange;
    pl_shared_next_generation(shared);
    CHECK(call(0, 0, 0) == INVAL && questions == 2);
    EXPECT("");
    tear_down();
}

static void test_type_is_asked_for_once_as_long_as_nothing_changes(void) {
    set_up();
    said = type_of(":");
    on_call = called;
    for (int i = 0; i < 3; i++) {
        CHECK(call(0, 0, 1) == 0 && questions == 1);
    }
    pl_shared_next_generation(shared);
    changes_meanwhile = 2;
    CHECK(call(0, 0, 1) == 0 && questions == 4);
    changes_meanwhile = 1000000; /* it never gets a valid type */
    pl_shared_next_generation(shared);
    CHECK(call(0, 0, 1) == INVAL);
    changes_meanwhile = 0;
    fails = 1;
    pl_value values[6] = {{.i32 = SLOT}};
    pl_shared_next_generation(shared);
    for (size_t function = 0; function < 2; function++) {
        pl_trap *trap = fake_enter(function, values, 6);
        CHECK(trap != NULL && strcmp(trap_text, "no") == 0);
        fake_free(trap);
        pl_shared_next_generation(shared);
    }
    tear_down();
}

static int failing(const char *name, pl_value *values, size_t count) {
    (void)name, (void)values;
    return count > 1 ? FAILS : TRAPS;
}

static void test_failure_of_the_function_passes_through(void) {
    set_up();
    on_call = failing;
    for (int i = 0; i < 2; i++) {
        said = type_of(i == 0 ? ":" : "i:");
        pl_value values[6] = {{.i32 = SLOT}, {.i32 = AT}, {.i32 = 4 * i}};
        pl_trap *trap = fake_enter(0, values, 6);
        CHECK(trap != NULL && (i == 0 || strcmp(trap_text, "what the error says") == 0));
        fake_free(trap);
        pl_shared_next_generation(shared);
    }
    tear_down();
}

static void test_many_values_and_no_memory_for_them(void) {
    char text[42] = "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii:i";
    set_up();
    said = type_of(text);
    fill_guest();
    CHECK(call(128, 4, 1) == 0 && seen_count == 33 && (uint32_t)seen[31].i32 == 0x807f7e7d &&
          seen[32].i32 == SLOT);
    atomic_store(&inject_memory, 0);
    pl_value values[6] = {{.i32 = SLOT}, {.i32 = AT}, {.i32 = 128},
                          {.i32 = TO},   {.i32 = 4},  {.i32 = 1}};
    pl_trap *trap = fake_enter(0, values, 6);
    atomic_store(&inject_memory, -1);
    CHECK(trap != NULL && strstr(trap_text, "no memory") != NULL);
    fake_free(trap);
    tear_down();
}

/* reflect_signature(slot, AT, params, TO, results, out) */
static int32_t reflect(uint32_t slot, uint32_t params, uint32_t results, uint32_t out) {
    pl_value values[6] = {{.i32 = (int32_t)slot},    {.i32 = AT},
                          {.i32 = (int32_t)params},  {.i32 = TO},
                          {.i32 = (int32_t)results}, {.i32 = (int32_t)out}};
    CHECK(fake_enter(1, values, 6) == NULL);
    return values[0].i32;
}

static int is_signature(int cacheable, int params, int results) {
    const uint8_t expected[6] = {(uint8_t)cacheable, 0, (uint8_t)params, 0, (uint8_t)results, 0};
    return memcmp(fake_memory + 100, expected, sizeof expected) == 0;
}

static void test_reflection(void) {
    set_up();
    said = type_of("vd:l");
    fill_guest();
    CHECK(reflect(SLOT, 2, 1, 100) == 0 && is_signature(1, 2, 1) &&
          memcmp(fake_memory + AT, "\4\3\3", 3) == 0);
    CHECK(fake_memory[TO] == 1 && fake_memory[TO + 1] == 0xee);
    fill_guest();
    CHECK(reflect(SLOT, 1, 9, 100) == OVERFLOWED && is_signature(1, 2, 1) && fake_memory[AT] == 1 &&
          fake_memory[TO] == 0xee);
    CHECK(reflect(SLOT, 9, 0, 100) == OVERFLOWED && fake_memory[AT] == 1);
    /* of 16 bits */
    CHECK(reflect(SLOT, 0x10002, 0x10001, 100) == 0 &&
          reflect(SLOT, 0x10001, 0x10001, 100) == OVERFLOWED);
    CHECK(reflect(SLOT, 2, 1, FAKE_MEMORY - 5) == MEMVIOLATION);
    memset(fake_memory + 100, 9, 6);
    CHECK(reflect(0, 2, 1, 100) == INVAL && is_signature(1, 0, 0));
    CHECK(reflect(8, 2, 1, 100) == INVAL && is_signature(0, 0, 0));
    CHECK(pl_closures_note(pl_instances_closures(instances), 4, 2) == 0);
    CHECK(reflect(SLOT, 2, 1, 100) == 0 && is_signature(0, 2, 1) &&
          reflect(4, 2, 1, 100) == INVAL && is_signature(0, 0, 0));
    pl_signature strange = {.param_count = 1, .result_count = 2, .types = (const uint8_t *)""};
    said = &strange;
    pl_shared_next_generation(shared);
    CHECK(reflect(SLOT, 8, 8, 100) == INVAL && is_signature(0, 1, 2));
    EXPECT("");
    tear_down();
}

static void test_lists_outside(void) {
    set_up();
    said = type_of("i:i");
    pl_value values[6] = {{.i32 = SLOT}, {.i32 = FAKE_MEMORY}, {.i32 = 1},
                          {.i32 = TO},   {.i32 = 1},           {.i32 = 100}};
    CHECK(fake_enter(1, values, 6) == NULL && values[0].i32 == MEMVIOLATION);
    values[0].i32 = SLOT;
    values[1].i32 = AT;
    values[3].i32 = -1;
    CHECK(fake_enter(1, values, 6) == NULL && values[0].i32 == MEMVIOLATION &&
          fake_memory[AT] == 0);
    said = type_of(":");
    pl_shared_next_generation(shared);
    values[0].i32 = SLOT;
    values[1].i32 = -1; /* nothing to write there */
    CHECK(fake_enter(1, values, 6) == NULL && values[0].i32 == 0);
    tear_down();
}

int main(void) {
    check_begin(0);
    fake_install();
    RUN(test_values_are_packed);
    RUN(test_strict_sizes_are_exact);
    RUN(test_lax_values_are_what_fits);
    RUN(test_memory_is_looked_at_where_it_is_used);
    RUN(test_no_function);
    RUN(test_type_is_asked_for_once_as_long_as_nothing_changes);
    RUN(test_failure_of_the_function_passes_through);
    RUN(test_many_values_and_no_memory_for_them);
    RUN(test_reflection);
    RUN(test_lists_outside);
    fake_reset(0);
    return 0;
}
