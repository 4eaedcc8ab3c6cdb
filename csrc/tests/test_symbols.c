/* symbols: what a table has, among names that look alike, and what it is made from. */
#include "tables.h"

static const pl_symbol *find(const pl_symbols *table_, const char *name, size_t length) {
    return pl_symbols_find(table_, pl_symbols_hash(name, length), name, length);
}

static int has(const pl_symbols *table_, const char *name) {
    return find(table_, name, strlen(name)) != NULL;
}

static void test_every_name_is_found_and_no_other(void) {
    set_up();
    char name[NAME];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "%s%d", i % 2 ? "a_rather_long_name" : "s", i);
        define(name, function(TYPE, 0));
    }
    pl_symbols *made = table();
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "%s%d", i % 2 ? "a_rather_long_name" : "s", i);
        const pl_symbol *symbol = find(made, name, strlen(name));
        CHECK(symbol != NULL && symbol->position == (uint32_t)i && symbol->type == 700);
        snprintf(name, sizeof name, "%s%d", i % 2 ? "s" : "a_rather_long_name", i);
        CHECK(!has(made, name));
    }
    CHECK(!has(made, ""));
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
    CHECK(find(made, "a\0b", 3) != NULL && find(made, "a\0c", 3) == NULL);
    CHECK(!has(made, "a") && has(made, ""));
    CHECK(has(made, "12345678") && !has(made, "1234567") && find(made, "12345678\0", 9) == NULL);
    pl_symbols_free(made);
}

static void test_imports_have_their_names(void) {
    set_up();
    want("first", PL_WANTED_FUNCTION, TYPE);
    want("", PL_WANTED_DATA, 0);
    pl_symbols *made = table();
    const char *name;
    size_t length;
    uint64_t hash;
    CHECK(pl_symbols_wanted_count(made) == 2 && !has(made, "first"));
    const pl_wanted *import = pl_symbols_wanted(made, 0, &name, &length, &hash);
    CHECK(import->kind == PL_WANTED_FUNCTION && import->type == 700 && length == 5 &&
          memcmp(name, "first", 5) == 0);
    CHECK(hash == pl_symbols_hash("first", 5));
    CHECK(pl_symbols_wanted(made, 1, &name, &length, &hash)->kind == PL_WANTED_DATA && length == 0);
    pl_symbols_free(made);
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
    symbols[0].type_index = TYPES;
    CHECK(!pl_symbols_check(&parts));
    symbols[0].type_index = 0;
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
    RUN(test_imports_have_their_names);
    RUN(test_records_that_point_elsewhere_are_refused);
    RUN(test_names_that_do_not_fit_are_refused);
    RUN(test_lack_of_memory_gives_none);
    return 0;
}
