/* tables: the symbols of modules, made by hand. */
#ifndef PL_TABLES_H
#define PL_TABLES_H

#include "check.h"

#include "symbols.h"

#include <stdlib.h>
#include <string.h>

enum { MANY = 5000, NAME = 32, TYPE = 7, OTHER_TYPE = 8 };

/* Lists of names in the format of the core. */
struct names {
    char text[MANY * NAME];
    uint32_t offsets[MANY + 1];
    uint32_t count;
};

static inline void add_bytes(struct names *names, const char *name, size_t length) {
    uint32_t at = names->offsets[names->count];
    memcpy(names->text + at, name, length);
    names->offsets[++names->count] = at + (uint32_t)length;
}

static inline void add(struct names *names, const char *name) {
    add_bytes(names, name, strlen(name));
}

static struct names defined, wished;
static pl_symbol symbols[MANY];
static pl_wanted wanted[MANY];
/* the numbers of TYPE and OTHER_TYPE */
static const uint64_t types[] = {0, 0, 0, 0, 0, 0, 0, 700, 800};
enum { TYPES = sizeof types / sizeof *types };

static inline void set_up(void) {
    defined.count = wished.count = 0;
    memset(symbols, 0, sizeof symbols);
    memset(wanted, 0, sizeof wanted);
}

static inline void define(const char *name, pl_symbol symbol) {
    symbol.position = defined.count;
    symbols[defined.count] = symbol;
    add(&defined, name);
}

static inline void want(const char *name, uint32_t kind, uint64_t type) {
    wanted[wished.count] = (pl_wanted){.kind = kind, .same = wished.count, .type = type};
    add(&wished, name);
}

static inline pl_symbols_parts all(void) {
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

static inline pl_symbols *table(void) {
    pl_symbols_parts parts = all();
    pl_symbols *made = pl_symbols_new(&parts);
    CHECK(made != NULL);
    return made;
}

/* A function whose slot is that many after the first slot of its module. */
static inline pl_symbol function(uint32_t type, uint32_t slot) {
    return (pl_symbol){
        .kind = PL_SYMBOL_FUNCTION, .base = PL_BASE_SLOTS, .value = slot, .type_index = type};
}

#endif
