/* symbols: what a module defines and what it imports, by name, and how the imports of a load are looked up.
 *
 * A table is made once for each module's content: a hash table of the symbols it defines, as a native library has in DT_GNU_HASH, and its
 * imports with their hashes. A load looks each import up in the tables of its scope, one after the other; a small filter says of most tables
 * at once that they do not have it. Nothing is built for a load but the list of tables. Names come from modules that nobody trusts, so they
 * are hashed with a key (SipHash-1-3): nobody can make a table slow.
 *
 * What is found here is what most imports are: functions and data of the modules of the scope, the program's memory and table, and the
 * module's bases. Everything else is left to the caller, which has the words for it.
 *
 * States: read-only once made, so any thread may read. Blocking: never.
 */
#ifndef PL_SYMBOLS_H
#define PL_SYMBOLS_H

#include "library.h"

/* What a symbol is. */
enum pl_symbol_kind {
    PL_SYMBOL_OTHER = 0,    /* what the caller has to look at */
    PL_SYMBOL_FUNCTION = 1, /* of `type` */
    PL_SYMBOL_DATA = 2      /* at `value`, from the module's memory base if `relative` */
};

/* What an import asks for. */
enum pl_wanted_kind {
    PL_WANTED_OTHER = 0,
    PL_WANTED_MEMORY = 1,
    PL_WANTED_TABLE = 2,
    PL_WANTED_STACK_POINTER = 3,
    PL_WANTED_MEMORY_BASE = 4,
    PL_WANTED_TABLE_BASE = 5,
    PL_WANTED_FUNCTION = 6, /* of `type` */
    PL_WANTED_DATA = 7,     /* GOT.mem: its address */
    PL_WANTED_POINTER = 8   /* GOT.func: its slot */
};

enum { PL_NO_SLOT = 0xFFFFFFFF };

typedef struct pl_symbol {
    uint32_t position; /* among the module's exports, which name it */
    uint32_t kind;     /* enum pl_symbol_kind */
    uint32_t slot;     /* place among the slots of the module's functions, or PL_NO_SLOT */
    uint32_t value;
    uint32_t relative;
    uint32_t unused;
    uint64_t type; /* of a function: its place in pl_symbols_parts.types */
} pl_symbol;

typedef struct pl_wanted {
    uint32_t kind; /* enum pl_wanted_kind */
    uint32_t same; /* the first import that asks for the same: itself, if none before it does */
    uint64_t type;
} pl_wanted;

/* An import of a function that is there, but not instantiated yet: it becomes a trampoline. `number` is the module's in the scope, `position`
 * that of its export. */
typedef struct pl_late {
    uint32_t index;
    uint32_t number;
    uint32_t position;
} pl_late;

/* What a table is made of: records, and names one after the other with where each begins and the last ends. The records are copied, the names
 * are not. */
typedef struct pl_symbols_parts {
    const char *names; /* of all exports */
    const uint32_t *offsets;
    uint32_t name_count;
    const pl_symbol *symbols; /* each name once */
    uint32_t symbol_count;
    const char *wanted_names; /* of all imports */
    const uint32_t *wanted_offsets;
    const pl_wanted *wanted;
    uint32_t wanted_count;
    const uint64_t *types; /* numbers, equal for equal types of whatever module; not looked at again */
    uint32_t type_count;
} pl_symbols_parts;

typedef struct pl_symbols pl_symbols;

/* A module in a scope. `library` is NULL while it is not instantiated yet: its functions are then bound late. `has_slots`: its functions
 * have slots from `slot_base` on. `stamp` is pl_symbols_resolve's, 0 at first. */
typedef struct pl_candidate {
    const pl_symbols *symbols;
    pl_library *library;
    uint32_t memory_base;
    uint32_t slot_base;
    uint32_t has_slots;
    uint32_t stamp;
} pl_candidate;

/* The key of all hashes; before any table is made. */
void pl_symbols_key(uint64_t first, uint64_t second);
/* Whether `count` names that begin and end at these offsets lie in `size` bytes. */
int pl_symbols_fit(const uint32_t *offsets, uint32_t count, size_t size);
/* Whether all that the records point to is there; to be asked of records that come from a file. */
int pl_symbols_check(const pl_symbols_parts *parts);
/* NULL if there is no memory. */
pl_symbols *pl_symbols_new(const pl_symbols_parts *parts);
void pl_symbols_free(pl_symbols *symbols);

/* The first of `count` modules that defines a name, or `count`. */
uint32_t pl_symbols_find(const pl_candidate *scope, uint32_t count, const char *name, size_t length);

/* What came out of pl_symbols_resolve, and how many of each there are. */
typedef struct pl_resolved {
    pl_source *sources; /* one for each import */
    uint32_t *rest;     /* the indexes of the imports that are left to the caller; room for all */
    uint32_t rest_count;
    pl_late *late; /* those that are bound late; their sources have their places here. Room for all */
    uint32_t late_count;
    uint32_t *used; /* the numbers of the modules that imports were found in, each once; room for `count` */
    uint32_t used_count;
} pl_resolved;

/* Decides the imports of a module whose bases are given. The caller has made room in `resolved`. `stamp` is another one each time. */
void pl_symbols_resolve(const pl_symbols *symbols, pl_candidate *scope, uint32_t count, uint32_t memory_base, uint32_t table_base,
                        uint32_t stamp, pl_resolved *resolved);

/* Lets the first `count` trampolines of `library` lead to where these imports were found; `libraries` are those of the scope, by number. */
void pl_symbols_aim(pl_library *library, const pl_late *late, uint32_t count, pl_library *const *libraries);

#endif
