/* lookup: the first definition of a name, its value, the imports that a load decides, and those
 * that it leaves to the caller. */
#include "tables.h"

#include "lookup.h"

static pl_source sources[MANY];
static pl_definition definitions[MANY];
static uint32_t rest[MANY], used[2];
static pl_lazy lazy[MANY];
static pl_resolved result = {
    .sources = sources, .found = definitions, .rest = rest, .lazy = lazy, .used = used};
/* never looked into */
static pl_library *const here = (pl_library *)0x1000, *const there = (pl_library *)0x2000;

static uint32_t find(const pl_scope_entry *scope, uint32_t count, const char *name) {
    pl_definition found;
    uint32_t number = pl_lookup(scope, count, name, strlen(name), &found);
    CHECK(found.number == number);
    return number;
}

static void test_a_definition_says_where_the_symbol_is(void) {
    set_up();
    define("element",
           (pl_symbol){
               .kind = PL_SYMBOL_FUNCTION, .base = PL_BASE_TABLE, .value = 4, .type_index = TYPE});
    define("fixed", (pl_symbol){.kind = PL_SYMBOL_FUNCTION,
                                .base = PL_BASE_ABSOLUTE,
                                .value = 9,
                                .type_index = TYPE});
    define("given", function(OTHER_TYPE, 2));
    define("slotless", (pl_symbol){.kind = PL_SYMBOL_FUNCTION, .type_index = TYPE});
    define("near", (pl_symbol){.kind = PL_SYMBOL_DATA, .base = PL_BASE_MEMORY, .value = 16});
    define("thread_local",
           (pl_symbol){.kind = PL_SYMBOL_THREAD_LOCAL, .base = PL_BASE_BLOCK, .value = 8});
    define("tag", (pl_symbol){.kind = PL_SYMBOL_OTHER, .type_index = TYPE});
    static const struct {
        uint32_t kind, type, has_value, value;
    } expected[] = {
        {PL_SYMBOL_FUNCTION, TYPE, 1, 304},
        {PL_SYMBOL_FUNCTION, TYPE, 1, 9},
        {PL_SYMBOL_FUNCTION, OTHER_TYPE, 1, 202},
        {PL_SYMBOL_FUNCTION, TYPE, 0, 0},
        {PL_SYMBOL_DATA, 0, 1, 1016},
        {PL_SYMBOL_THREAD_LOCAL, 0, 1, 8},
        {PL_SYMBOL_OTHER, TYPE, 0, 0},
    };
    pl_symbols *made = table();
    pl_scope_entry scope = {
        .symbols = made, .memory_base = 1000, .table_base = 300, .slot_base = 200, .has_slots = 1};
    pl_definition found;
    for (uint32_t i = 0; i < defined.count; i++) {
        const char *name = defined.text + defined.offsets[i];
        CHECK(pl_lookup(&scope, 1, name, defined.offsets[i + 1] - defined.offsets[i], &found) == 0);
        CHECK(found.number == 0 && found.position == i && found.kind == expected[i].kind &&
              found.type == expected[i].type);
        CHECK(found.has_value == expected[i].has_value &&
              (!found.has_value || found.value == expected[i].value));
    }
    scope.has_slots = 0;
    CHECK(pl_lookup(&scope, 1, "given", 5, &found) == 0 && !found.has_value);
    CHECK(pl_lookup(&scope, 1, "fixed", 5, &found) == 0 && found.has_value);
    CHECK(pl_lookup(&scope, 1, "absent", 6, &found) == 1 && found.number == 1);
    CHECK(pl_lookup(&scope, 0, "fixed", 5, &found) == 0 && found.number == 0);
    pl_symbols_free(made);
}

static void test_a_slot_and_an_address_lead_back_to_a_symbol(void) {
    set_up();
    define("tls", (pl_symbol){.kind = PL_SYMBOL_THREAD_LOCAL, .base = PL_BASE_BLOCK, .value = 8});
    define("low", (pl_symbol){.kind = PL_SYMBOL_DATA, .base = PL_BASE_MEMORY, .value = 16});
    define("alias", (pl_symbol){.kind = PL_SYMBOL_DATA, .base = PL_BASE_MEMORY, .value = 16});
    define("high", (pl_symbol){.kind = PL_SYMBOL_DATA, .base = PL_BASE_MEMORY, .value = 32});
    define("f", function(TYPE, 2));
    define("slotless", (pl_symbol){.kind = PL_SYMBOL_FUNCTION, .type_index = TYPE});
    pl_symbols *made = table();
    pl_scope_entry scope[] = {
        {.symbols = made, .memory_base = 1000, .slot_base = 100, .has_slots = 1},
        {.symbols = made, .memory_base = 5000, .slot_base = 200, .has_slots = 1},
        {.symbols = made, .memory_base = 9000}};
    pl_definition found;
    CHECK(pl_lookup_slot(scope, 3, 202, &found) == 1 && found.position == 4 && found.number == 1 &&
          found.type == TYPE);
    CHECK(pl_lookup_slot(scope, 3, 1016, &found) == 3 && found.number == 3);
    CHECK(pl_lookup_slot(scope, 3, 0, &found) == 3);
    CHECK(!pl_lookup_address(scope, 1015, &found) && !pl_lookup_address(scope, 0, &found));
    CHECK(pl_lookup_address(scope, 1031, &found) && found.position == 1 && found.value == 1016);
    CHECK(pl_lookup_address(scope, UINT32_MAX, &found) && found.position == 3);
    pl_symbols_free(made);
}

static void *look_elsewhere(void *argument) {
    pl_definition found;
    return pl_lookup_now(argument, "data", 4, &found) ? argument : NULL;
}

static void *found_elsewhere(pl_scope *scope) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, look_elsewhere, scope) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    return result;
}

static void test_a_lookup_under_the_read_lock_refuses_what_is_not_simple(void) {
    set_up();
    define("data", (pl_symbol){.kind = PL_SYMBOL_DATA, .base = PL_BASE_MEMORY, .value = 16});
    pl_symbols *made = table();
    pl_shared *shared = pl_shared_new();
    pl_recursive *main_lock = pl_recursive_new();
    pl_rwlock *lock = pl_shared_lock(shared);
    pl_scope_entry module = {.symbols = made, .memory_base = 1000};
    pl_scope scope = {.shared = shared, .main_lock = main_lock, .modules = &module, .count = 1};
    pl_definition found;
    CHECK(pl_lookup_now(&scope, "data", 4, &found) == 1 && found.value == 1016);
    CHECK(pl_lookup_now(&scope, "date", 4, &found) == 0);
    CHECK(pl_rwlock_readers(lock) == 0 && pl_recursive_holder(main_lock) == 0);
    /* beside another reader, and while the thread holds the main lock already */
    CHECK(pl_rwlock_try_read(lock) == PL_ACQUIRED && pl_recursive_try(main_lock));
    CHECK(pl_lookup_now(&scope, "data", 4, &found) == 1 && pl_recursive_depth(main_lock) == 1);
    CHECK(found_elsewhere(&scope) == NULL);
    pl_recursive_release(main_lock);
    CHECK(found_elsewhere(&scope) == &scope && pl_rwlock_readers(lock) == 1);
    pl_rwlock_release_read(lock);
    CHECK(pl_rwlock_try_write(lock) == PL_ACQUIRED);
    CHECK(pl_lookup_now(&scope, "data", 4, &found) == 0 && pl_rwlock_readers(lock) == -1);
    pl_shared_next_generation(shared);
    pl_rwlock_release_write(lock);
    CHECK(pl_lookup_now(&scope, "data", 4, &found) == 0);
    scope.generation = pl_shared_generation(shared);
    CHECK(pl_lookup_now(&scope, "data", 4, &found) == 1);
    CHECK(pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED));
    CHECK(pl_lookup_now(&scope, "data", 4, &found) == 0 && pl_recursive_holder(main_lock) == 0);
    pl_shared_free(shared);
    pl_recursive_free(main_lock);
    pl_symbols_free(made);
}

static void test_a_module_without_symbols_has_none(void) {
    set_up();
    pl_symbols *made = table();
    pl_scope_entry scope = {.symbols = made};
    CHECK(find(&scope, 1, "anything") == 1);
    pl_lookup_imports(made, &scope, 1, 1, 2, 1, &result);
    CHECK(result.rest_count == 0 && result.lazy_count == 0 && result.used_count == 0);
    pl_symbols_free(made);
}

static void test_the_first_module_of_the_scope_counts(void) {
    set_up();
    define("both", function(TYPE, 0));
    define("first", function(TYPE, 0));
    pl_symbols *first = table();
    struct names kept = defined; /* tables do not copy names */
    set_up();
    defined = kept;
    define("second", function(TYPE, 0));
    symbols[0] = function(TYPE, 0);
    symbols[1] = (pl_symbol){.position = 2, .kind = PL_SYMBOL_FUNCTION, .type_index = TYPE};
    pl_symbols_parts parts = all();
    parts.symbol_count = 2;
    pl_symbols *second = pl_symbols_new(&parts); /* it has "both" and "second" */
    pl_scope_entry scope[] = {{.symbols = first}, {.symbols = second}};
    CHECK(find(scope, 2, "both") == 0 && find(scope + 1, 1, "both") == 0);
    CHECK(find(scope, 2, "first") == 0 && find(scope, 2, "second") == 1 &&
          find(scope, 2, "third") == 2);
    pl_symbols_free(first);
    pl_symbols_free(second);
}

static void test_what_is_decided_and_what_is_left(void) {
    set_up();
    define("function", function(TYPE, 3));
    define("slotless", (pl_symbol){.kind = PL_SYMBOL_FUNCTION, .type_index = TYPE});
    define("near",
           (pl_symbol){.kind = PL_SYMBOL_DATA, .base = PL_BASE_MEMORY, .value = 0xFFFFFFF0});
    define("fixed", (pl_symbol){.kind = PL_SYMBOL_DATA, .base = PL_BASE_ABSOLUTE, .value = 1024});
    define("else", (pl_symbol){.kind = PL_SYMBOL_OTHER});
    static const struct {
        const char *name;
        uint32_t kind;
        uint64_t type;
        int decided;
        pl_source source;
    } cases[] = {
        {"memory", PL_WANTED_MEMORY, 0, 1, {.kind = PL_SOURCE_MEMORY}},
        {"table", PL_WANTED_TABLE, 0, 1, {.kind = PL_SOURCE_TABLE}},
        {"sp", PL_WANTED_STACK_POINTER, 0, 1, {.kind = PL_SOURCE_STACK_POINTER}},
        {"base", PL_WANTED_MEMORY_BASE, 0, 1, {.kind = PL_SOURCE_CONSTANT, .value = 0x80000000}},
        {"base", PL_WANTED_TABLE_BASE, 0, 1, {.kind = PL_SOURCE_CONSTANT, .value = 17}},
        {"function", PL_WANTED_FUNCTION, TYPE, 1, {.kind = PL_SOURCE_EXPORT, .index = 0}},
        {"function", PL_WANTED_FUNCTION, OTHER_TYPE, 0, {.kind = 0}},
        {"near", PL_WANTED_FUNCTION, TYPE, 0, {.kind = 0}},
        {"absent", PL_WANTED_FUNCTION, TYPE, 0, {.kind = 0}},
        {"near", PL_WANTED_DATA, 0, 1, {.kind = PL_SOURCE_CELL, .value = 0x90}},
        {"fixed", PL_WANTED_DATA, 0, 1, {.kind = PL_SOURCE_CELL, .value = 1024}},
        {"else", PL_WANTED_DATA, 0, 0, {.kind = 0}},
        {"function", PL_WANTED_DATA, 0, 0, {.kind = 0}},
        {"function", PL_WANTED_POINTER, 0, 1, {.kind = PL_SOURCE_CELL, .value = 203}},
        {"slotless", PL_WANTED_POINTER, 0, 0, {.kind = 0}},
        {"near", PL_WANTED_POINTER, 0, 0, {.kind = 0}},
        {"function", PL_WANTED_OTHER, 0, 0, {.kind = 0}},
        {"function", PL_WANTED_SYMBOL, 0, 0, {.kind = 0}},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    for (int i = 0; i < CASES; i++) {
        want(cases[i].name, cases[i].kind, cases[i].type);
    }
    pl_symbols *made = table();
    pl_scope_entry scope = {
        .symbols = made, .library = here, .memory_base = 0xA0, .slot_base = 200, .has_slots = 1};
    uint32_t next = 0;
    pl_lookup_imports(made, &scope, 1, 0x80000000, 17, 1, &result);
    for (uint32_t i = 0; i < CASES; i++) {
        if (cases[i].decided) {
            CHECK(sources[i].kind == cases[i].source.kind &&
                  sources[i].index == cases[i].source.index);
            CHECK(sources[i].value == cases[i].source.value);
            CHECK(sources[i].library == (cases[i].source.kind == PL_SOURCE_EXPORT ? here : NULL));
        } else {
            CHECK(next < result.rest_count && rest[next++] == i);
        }
    }
    /* What is a symbol was found, whether it was decided or not. */
    CHECK(result.found[5].number == 0 && result.found[6].number == 0 &&
          result.found[6].position == 0 && result.found[6].value == 203);
    CHECK(result.found[8].number == 1 && result.found[CASES - 2].number == 1 &&
          result.found[CASES - 1].number == 0);
    CHECK(next == result.rest_count && result.lazy_count == 0 && result.used_count == 1 &&
          used[0] == 0);
    /* Not there yet, and without slots: functions are bound lazy, and pointers are left. */
    scope.library = NULL;
    scope.has_slots = 0;
    pl_lookup_imports(made, &scope, 1, 0, 0, 2, &result);
    CHECK(result.rest_count == next + 1 && result.lazy_count == 1 && lazy[0].index == 5);
    CHECK(lazy[0].number == 0 && lazy[0].position == 0);
    CHECK(sources[5].kind == PL_SOURCE_PLT && sources[5].index == 0 && sources[5].library == NULL);
    pl_symbols_free(made);
}

static void test_each_module_that_was_used_is_named_once(void) {
    set_up();
    define("f", function(TYPE, 0));
    define("g", function(TYPE, 1));
    for (int i = 0; i < 3; i++) {
        want("g", PL_WANTED_FUNCTION, TYPE);
        want("f", PL_WANTED_POINTER, 0);
    }
    pl_symbols *made = table();
    set_up();
    static const uint32_t none[1];
    pl_symbols_parts parts = {
        .names = "", .offsets = none, .wanted_names = "", .wanted_offsets = none};
    pl_symbols *empty = pl_symbols_new(&parts);
    pl_scope_entry scope[] = {{.symbols = empty, .library = there},
                              {.symbols = made, .library = here, .has_slots = 1}};
    for (uint32_t stamp = 1; stamp < 4; stamp++) {
        pl_lookup_imports(made, scope, 2, 0, 0, stamp, &result);
        CHECK(result.rest_count == 0 && result.used_count == 1 && used[0] == 1);
    }
    CHECK(sources[0].library == here && sources[0].index == 1 && sources[1].value == 0);
    scope[1].library = NULL;
    pl_lookup_imports(made, scope, 2, 0, 0, 4, &result);
    CHECK(result.lazy_count == 3 && lazy[2].index == 4 && lazy[2].number == 1 &&
          lazy[2].position == 1);
    CHECK(sources[4].kind == PL_SOURCE_PLT && sources[4].index == 2);
    pl_symbols_free(made);
    pl_symbols_free(empty);
}

static void test_the_same_import_has_one_trampoline(void) {
    set_up();
    define("f", function(TYPE, 0));
    want("f", PL_WANTED_FUNCTION, TYPE);
    want("f", PL_WANTED_FUNCTION, OTHER_TYPE);
    want("f", PL_WANTED_FUNCTION, TYPE);
    wanted[2].same = 0;
    pl_symbols *made = table();
    pl_scope_entry scope = {.symbols = made};
    pl_lookup_imports(made, &scope, 1, 0, 0, 1, &result);
    CHECK(result.lazy_count == 1 && lazy[0].index == 0 && result.rest_count == 1 && rest[0] == 1);
    CHECK(sources[2].kind == PL_SOURCE_PLT && sources[2].index == 0);
    pl_symbols_free(made);
}

static void test_trampolines_lead_to_what_was_found(void) {
    static const uint32_t none[1];
    static const pl_module *const blocks[] = {(const pl_module *)0x3000};
    pl_library_parts parts = {
        .trampolines = blocks, .trampoline_count = 3, .names = "", .offsets = none};
    pl_library *library = pl_library_new(&parts), *libraries[] = {here, there};
    static const pl_lazy found[] = {{.index = 8, .number = 1, .position = 5},
                                    {.index = 9, .number = 0, .position = 6}};
    uint32_t position;
    pl_lookup_bind(library, found, 2, libraries);
    CHECK(pl_library_target(library, 0, &position) == there && position == 5);
    CHECK(pl_library_target(library, 1, &position) == here && position == 6);
    CHECK(pl_library_target(library, 2, &position) == NULL);
    pl_library_release(library);
}

int main(void) {
    check_begin(0);
    pl_symbols_key(0x0706050403020100u, 0x0f0e0d0c0b0a0908u);
    RUN(test_a_definition_says_where_the_symbol_is);
    RUN(test_a_slot_and_an_address_lead_back_to_a_symbol);
    RUN(test_a_lookup_under_the_read_lock_refuses_what_is_not_simple);
    RUN(test_a_module_without_symbols_has_none);
    RUN(test_the_first_module_of_the_scope_counts);
    RUN(test_what_is_decided_and_what_is_left);
    RUN(test_each_module_that_was_used_is_named_once);
    RUN(test_the_same_import_has_one_trampoline);
    RUN(test_trampolines_lead_to_what_was_found);
    return 0;
}
