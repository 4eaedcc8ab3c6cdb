/* symbols: what an import is found to mean, in which module, and what is left to the caller. */
#include "check.h"

#include "symbols.h"

#include <stdio.h>
#include <string.h>

enum { NAMES = 40, MANY = 3 };

/* A module that defines f0, f1, ... of types 0 and 1 in turn, and data d; it imports what the tests say. */
static char text[NAMES * 4];
static uint32_t offsets[NAMES + 1];
static pl_symbol symbols[NAMES];
static const uint64_t types[] = {100, 200};
static int room; /* stands in for an instantiated library, which is not looked at */
#define THERE ((pl_library *)(void *)&room)

static pl_symbols_parts module_of(const char *wanted_names, const uint32_t *wanted_offsets, const pl_wanted *wanted, uint32_t count) {
    size_t length = 0;
    for (uint32_t i = 0; i < NAMES; i++) {
        offsets[i] = (uint32_t)length;
        length += (size_t)snprintf(text + length, sizeof text - length, i == NAMES - 1 ? "d" : "f%u", (unsigned)i);
        symbols[i] = (pl_symbol){.position = i, .kind = PL_SYMBOL_FUNCTION, .slot = i, .type = i % 2};
    }
    offsets[NAMES] = (uint32_t)length;
    symbols[NAMES - 1] = (pl_symbol){.position = NAMES - 1, .kind = PL_SYMBOL_DATA, .slot = PL_NO_SLOT, .value = 8, .relative = 1};
    return (pl_symbols_parts){.names = text,
                              .offsets = offsets,
                              .name_count = NAMES,
                              .symbols = symbols,
                              .symbol_count = NAMES,
                              .wanted_names = wanted_names,
                              .wanted_offsets = wanted_offsets,
                              .wanted = wanted,
                              .wanted_count = count,
                              .types = types,
                              .type_count = 2};
}

/* Imports: f2 twice, of its type; f3 of another; the address of d; the slot of f5; a name that nobody defines; the memory base. */
static const char wanted_text[] = "f2f2f3df5nobase";
static const uint32_t wanted_offsets[] = {0, 2, 4, 6, 7, 9, 11, 15};
static const pl_wanted wanted[] = {
    {.kind = PL_WANTED_FUNCTION, .same = 0, .type = 0}, {.kind = PL_WANTED_FUNCTION, .same = 0, .type = 0},
    {.kind = PL_WANTED_FUNCTION, .same = 2, .type = 0}, {.kind = PL_WANTED_DATA, .same = 3},
    {.kind = PL_WANTED_POINTER, .same = 4},             {.kind = PL_WANTED_FUNCTION, .same = 5, .type = 0},
    {.kind = PL_WANTED_MEMORY_BASE, .same = 6},
};
enum { WANTED = sizeof wanted / sizeof *wanted };

static pl_symbols *made;
static pl_source sources[WANTED];
static uint32_t rest[WANTED], used[MANY];
static pl_late late[WANTED];
static pl_resolved resolved = {.sources = sources, .rest = rest, .late = late, .used = used};

static void set_up(void) {
    pl_symbols_parts parts = module_of(wanted_text, wanted_offsets, wanted, WANTED);
    pl_symbols_key(1, 2);
    CHECK(pl_symbols_fit(offsets, NAMES, sizeof text) && pl_symbols_check(&parts));
    made = pl_symbols_new(&parts);
    CHECK(made != NULL);
}

static void test_first_module_of_the_scope_is_found(void) {
    set_up();
    pl_symbols_parts none = {.names = text, .offsets = offsets, .wanted_offsets = wanted_offsets};
    pl_symbols *empty = pl_symbols_new(&none);
    pl_candidate scope[MANY] = {{.symbols = empty}, {.symbols = made}, {.symbols = made}};
    CHECK(pl_symbols_find(scope, MANY, "f7", 2) == 1);
    CHECK(pl_symbols_find(scope, MANY, "f77", 3) == MANY);
    CHECK(pl_symbols_find(scope, MANY, "", 0) == MANY);
    pl_symbols_free(empty);
    pl_symbols_free(made);
}

static void test_imports_of_a_module_that_is_there_are_direct(void) {
    set_up();
    pl_candidate scope[] = {{.symbols = made, .library = THERE, .memory_base = 1000, .slot_base = 50, .has_slots = 1}};
    pl_symbols_resolve(made, scope, 1, 4096, 7, 1, &resolved);
    CHECK(resolved.late_count == 0 && resolved.used_count == 1 && used[0] == 0);
    CHECK(sources[0].kind == PL_SOURCE_EXPORT && sources[0].index == 2 && sources[0].library == THERE);
    CHECK(sources[1].kind == PL_SOURCE_EXPORT && sources[1].index == 2);
    CHECK(sources[3].kind == PL_SOURCE_CELL && sources[3].value == 1008);
    CHECK(sources[4].kind == PL_SOURCE_CELL && sources[4].value == 55);
    CHECK(sources[6].kind == PL_SOURCE_CONSTANT && sources[6].value == 4096);
    CHECK(resolved.rest_count == 2 && rest[0] == 2 && rest[1] == 5); /* another type, and nobody's */
    pl_symbols_free(made);
}

static void test_imports_of_a_module_that_is_not_there_are_late(void) {
    set_up();
    pl_candidate scope[] = {{.symbols = made, .memory_base = 1000}};
    pl_symbols_resolve(made, scope, 1, 4096, 7, 1, &resolved);
    CHECK(resolved.late_count == 1 && late[0].index == 0 && late[0].number == 0 && late[0].position == 2);
    CHECK(sources[0].kind == PL_SOURCE_PLT && sources[0].index == 0);
    CHECK(sources[1].kind == PL_SOURCE_PLT && sources[1].index == 0); /* the same import, the same trampoline */
    CHECK(resolved.rest_count == 3 && rest[1] == 4); /* it has no slots */
    pl_symbols_free(made);
}

static void test_records_that_lie_are_refused(void) {
    pl_symbols_parts parts = module_of(wanted_text, wanted_offsets, wanted, WANTED);
    CHECK(pl_symbols_check(&parts));
    symbols[3].position = NAMES;
    CHECK(!pl_symbols_check(&parts));
    symbols[3].position = 3;
    symbols[4].type = 2;
    CHECK(!pl_symbols_check(&parts));
    pl_wanted changed[WANTED];
    memcpy(changed, wanted, sizeof changed);
    parts = module_of(wanted_text, wanted_offsets, changed, WANTED);
    changed[0].same = 1;
    CHECK(!pl_symbols_check(&parts));
    changed[0].same = 0;
    changed[5].type = 2;
    CHECK(!pl_symbols_check(&parts));
    CHECK(!pl_symbols_fit(offsets, NAMES, offsets[NAMES] - 1));
    uint32_t down[] = {0, 3, 2, 4};
    CHECK(!pl_symbols_fit(down, 3, 4));
    uint32_t late_start[] = {1, 2};
    CHECK(!pl_symbols_fit(late_start, 1, 4));
}

int main(void) {
    check_begin(0);
    RUN(test_first_module_of_the_scope_is_found);
    RUN(test_imports_of_a_module_that_is_there_are_direct);
    RUN(test_imports_of_a_module_that_is_not_there_are_late);
    RUN(test_records_that_lie_are_refused);
    return 0;
}
