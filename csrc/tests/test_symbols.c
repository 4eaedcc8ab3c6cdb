/* symbols: what is found and by whom first, what is decided and what is left to the caller, among names that look alike. */
#include "check.h"

#include "symbols.h"

#include <stdlib.h>
#include <string.h>

enum { MANY = 5000, NAME = 32, TYPE = 7, OTHER_TYPE = 8 };

/* Lists of names as the core reads them. */
struct names {
    char text[MANY * NAME];
    uint32_t offsets[MANY + 1];
    uint32_t count;
};

static void add_bytes(struct names *names, const char *name, size_t length) {
    uint32_t at = names->offsets[names->count];
    memcpy(names->text + at, name, length);
    names->offsets[++names->count] = at + (uint32_t)length;
}

static void add(struct names *names, const char *name) {
    add_bytes(names, name, strlen(name));
}

static struct names defined, wished;
static pl_symbol symbols[MANY];
static pl_wanted wanted[MANY];
static pl_source sources[MANY];
static uint32_t rest[MANY], used[2];
static pl_late late[MANY];
static pl_resolved result = {.sources = sources, .rest = rest, .late = late, .used = used};
static const uint64_t types[] = {0, 0, 0, 0, 0, 0, 0, 700, 800}; /* the numbers of TYPE and OTHER_TYPE */
enum { TYPES = sizeof types / sizeof *types };
static pl_library *const here = (pl_library *)0x1000, *const there = (pl_library *)0x2000; /* never looked into */

static void set_up(void) {
    defined.count = wished.count = 0;
    memset(symbols, 0, sizeof symbols);
    memset(wanted, 0, sizeof wanted);
}

static void define(const char *name, pl_symbol symbol) {
    symbol.position = defined.count;
    symbols[defined.count] = symbol;
    add(&defined, name);
}

static void want(const char *name, uint32_t kind, uint64_t type) {
    wanted[wished.count] = (pl_wanted){.kind = kind, .same = wished.count, .type = type};
    add(&wished, name);
}

static pl_symbols_parts all(void) {
    return (pl_symbols_parts){.names = defined.text,
                              .offsets = defined.offsets,
                              .name_count = defined.count,
                              .symbols = symbols,
                              .symbol_count = defined.count,
                              .wanted_names = wished.text,
                              .wanted_offsets = wished.offsets,
                              .wanted = wanted,
                              .wanted_count = wished.count,
                              .types = types,
                              .type_count = TYPES};
}

static pl_symbols *table(void) {
    pl_symbols_parts parts = all();
    pl_symbols *made = pl_symbols_new(&parts);
    CHECK(made != NULL);
    return made;
}

static pl_symbol function(uint64_t type, uint32_t slot) {
    return (pl_symbol){.kind = PL_SYMBOL_FUNCTION, .type = type, .slot = slot};
}

static uint32_t find(const pl_candidate *scope, uint32_t count, const char *name) {
    return pl_symbols_find(scope, count, name, strlen(name));
}

static void test_every_name_is_found_and_no_other(void) {
    set_up();
    char name[NAME];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "%s%d", i % 2 ? "a_rather_long_name" : "s", i);
        define(name, function(TYPE, 0));
    }
    pl_symbols *made = table();
    pl_candidate scope = {.symbols = made};
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "%s%d", i % 2 ? "a_rather_long_name" : "s", i);
        CHECK(find(&scope, 1, name) == 0);
        snprintf(name, sizeof name, "%s%d", i % 2 ? "s" : "a_rather_long_name", i);
        CHECK(find(&scope, 1, name) == 1);
    }
    CHECK(find(&scope, 1, "") == 1 && find(&scope, 0, "s0") == 0);
    pl_symbols_free(made);
    pl_symbols_free(NULL);
}

static void test_names_are_bytes_and_may_be_empty(void) {
    set_up();
    symbols[1].position = 1;
    symbols[2].position = 2;
    add_bytes(&defined, "a\0b", 3);
    add_bytes(&defined, "", 0);
    add_bytes(&defined, "12345678", 8); /* one word of the hash, to the byte */
    pl_symbols *made = table();
    pl_candidate scope = {.symbols = made};
    CHECK(pl_symbols_find(&scope, 1, "a\0b", 3) == 0 && pl_symbols_find(&scope, 1, "a\0c", 3) == 1);
    CHECK(find(&scope, 1, "a") == 1 && find(&scope, 1, "") == 0);
    CHECK(find(&scope, 1, "12345678") == 0 && find(&scope, 1, "1234567") == 1 && pl_symbols_find(&scope, 1, "12345678\0", 9) == 1);
    pl_symbols_free(made);
}

static void test_a_module_without_symbols_has_none(void) {
    set_up();
    pl_symbols *made = table();
    pl_candidate scope = {.symbols = made};
    CHECK(find(&scope, 1, "anything") == 1);
    pl_symbols_resolve(made, &scope, 1, 1, 2, 1, &result);
    CHECK(result.rest_count == 0 && result.late_count == 0 && result.used_count == 0);
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
    symbols[1] = (pl_symbol){.position = 2, .kind = PL_SYMBOL_FUNCTION, .type = TYPE};
    pl_symbols_parts parts = all();
    parts.symbol_count = 2;
    pl_symbols *second = pl_symbols_new(&parts); /* it has "both" and "second" */
    pl_candidate scope[] = {{.symbols = first}, {.symbols = second}};
    CHECK(find(scope, 2, "both") == 0 && find(scope + 1, 1, "both") == 0);
    CHECK(find(scope, 2, "first") == 0 && find(scope, 2, "second") == 1 && find(scope, 2, "third") == 2);
    pl_symbols_free(first);
    pl_symbols_free(second);
}

static void test_what_is_decided_and_what_is_left(void) {
    set_up();
    define("function", function(TYPE, 3));
    define("slotless", function(TYPE, PL_NO_SLOT));
    define("near", (pl_symbol){.kind = PL_SYMBOL_DATA, .slot = PL_NO_SLOT, .value = 0xFFFFFFF0, .relative = 1});
    define("fixed", (pl_symbol){.kind = PL_SYMBOL_DATA, .slot = PL_NO_SLOT, .value = 1024});
    define("else", (pl_symbol){.kind = PL_SYMBOL_OTHER, .slot = PL_NO_SLOT});
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
    };
    enum { CASES = sizeof cases / sizeof *cases };
    for (int i = 0; i < CASES; i++) {
        want(cases[i].name, cases[i].kind, cases[i].type);
    }
    pl_symbols *made = table();
    pl_candidate scope = {.symbols = made, .library = here, .memory_base = 0xA0, .slot_base = 200, .has_slots = 1};
    uint32_t next = 0;
    pl_symbols_resolve(made, &scope, 1, 0x80000000, 17, 1, &result);
    for (uint32_t i = 0; i < CASES; i++) {
        if (cases[i].decided) {
            CHECK(sources[i].kind == cases[i].source.kind && sources[i].index == cases[i].source.index);
            CHECK(sources[i].value == cases[i].source.value);
            CHECK(sources[i].library == (cases[i].source.kind == PL_SOURCE_EXPORT ? here : NULL));
        } else {
            CHECK(next < result.rest_count && rest[next++] == i);
        }
    }
    CHECK(next == result.rest_count && result.late_count == 0 && result.used_count == 1 && used[0] == 0);
    /* Not there yet, and without slots: functions are bound late, and pointers are left. */
    scope.library = NULL;
    scope.has_slots = 0;
    pl_symbols_resolve(made, &scope, 1, 0, 0, 2, &result);
    CHECK(result.rest_count == next + 1 && result.late_count == 1 && late[0].index == 5);
    CHECK(late[0].number == 0 && late[0].position == 0);
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
    pl_symbols_parts parts = {.names = "", .offsets = none, .wanted_names = "", .wanted_offsets = none};
    pl_symbols *empty = pl_symbols_new(&parts);
    pl_candidate scope[] = {{.symbols = empty, .library = there}, {.symbols = made, .library = here, .has_slots = 1}};
    for (uint32_t stamp = 1; stamp < 4; stamp++) {
        pl_symbols_resolve(made, scope, 2, 0, 0, stamp, &result);
        CHECK(result.rest_count == 0 && result.used_count == 1 && used[0] == 1);
    }
    CHECK(sources[0].library == here && sources[0].index == 1 && sources[1].value == 0);
    scope[1].library = NULL;
    pl_symbols_resolve(made, scope, 2, 0, 0, 4, &result);
    CHECK(result.late_count == 3 && late[2].index == 4 && late[2].number == 1 && late[2].position == 1);
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
    pl_candidate scope = {.symbols = made};
    pl_symbols_resolve(made, &scope, 1, 0, 0, 1, &result);
    CHECK(result.late_count == 1 && late[0].index == 0 && result.rest_count == 1 && rest[0] == 1);
    CHECK(sources[2].kind == PL_SOURCE_PLT && sources[2].index == 0);
    pl_symbols_free(made);
}

static void test_trampolines_lead_to_what_was_found(void) {
    static const uint32_t none[1];
    pl_library_parts parts = {.trampoline_count = 3, .names = "", .offsets = none};
    pl_library *library = pl_library_new(&parts), *libraries[] = {here, there};
    static const pl_late found[] = {{.index = 8, .number = 1, .position = 5}, {.index = 9, .number = 0, .position = 6}};
    uint32_t position;
    pl_symbols_aim(library, found, 2, libraries);
    CHECK(pl_library_target(library, 0, &position) == there && position == 5);
    CHECK(pl_library_target(library, 1, &position) == here && position == 6);
    CHECK(pl_library_target(library, 2, &position) == NULL);
    pl_library_release(library);
}

static void test_records_that_point_elsewhere_are_refused(void) {
    set_up();
    define("f", function(TYPE, 0));
    define("g", function(TYPE, 1));
    want("f", PL_WANTED_FUNCTION, TYPE);
    want("g", PL_WANTED_FUNCTION, TYPE);
    pl_symbols_parts parts = all();
    CHECK(pl_symbols_check(&parts));
    symbols[1].position = 2;
    CHECK(!pl_symbols_check(&parts));
    symbols[1].position = 1;
    symbols[0].type = TYPES;
    CHECK(!pl_symbols_check(&parts));
    symbols[0].kind = PL_SYMBOL_DATA; /* which has no type */
    CHECK(pl_symbols_check(&parts));
    wanted[0].same = 1;
    CHECK(!pl_symbols_check(&parts));
    wanted[0].same = 0;
    wanted[1].type = TYPES;
    CHECK(!pl_symbols_check(&parts));
}

static void test_names_that_do_not_fit_are_refused(void) {
    static const uint32_t good[] = {0, 3, 3, 4}, back[] = {0, 3, 2, 4}, late_start[] = {1, 2};
    CHECK(pl_symbols_fit(good, 3, 4) && !pl_symbols_fit(good, 3, 3));
    CHECK(!pl_symbols_fit(back, 3, 4) && !pl_symbols_fit(late_start, 1, 4));
    CHECK(pl_symbols_fit(good, 0, 0));
}

static void test_lack_of_memory_gives_none(void) {
    set_up();
    define("f", function(TYPE, 0));
    want("f", PL_WANTED_FUNCTION, TYPE);
    pl_symbols_parts parts = all();
    int given = 0;
    for (pl_symbols *made = NULL; made == NULL; given++) {
        atomic_store(&inject_memory, given);
        made = pl_symbols_new(&parts);
        atomic_store(&inject_memory, -1);
        pl_symbols_free(made);
    }
    CHECK(given == 7); /* six allocations, each of which failed once */
}

int main(void) {
    check_begin(0);
    pl_symbols_key(0x0706050403020100u, 0x0f0e0d0c0b0a0908u);
    RUN(test_every_name_is_found_and_no_other);
    RUN(test_names_are_bytes_and_may_be_empty);
    RUN(test_a_module_without_symbols_has_none);
    RUN(test_the_first_module_of_the_scope_counts);
    RUN(test_what_is_decided_and_what_is_left);
    RUN(test_each_module_that_was_used_is_named_once);
    RUN(test_the_same_import_has_one_trampoline);
    RUN(test_trampolines_lead_to_what_was_found);
    RUN(test_records_that_point_elsewhere_are_refused);
    RUN(test_names_that_do_not_fit_are_refused);
    RUN(test_lack_of_memory_gives_none);
    return 0;
}
