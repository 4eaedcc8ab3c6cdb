/* symbols: what a module defines and what it imports, by name.
 *
 * A table is made once for each module's content: a hash table of the symbols it defines, as a
 * native library has in DT_GNU_HASH, and its imports with their hashes. A Bloom filter rejects
 * most tables of a scope. Names come from modules that nobody trusts, so they are hashed with a
 * key (SipHash-1-3): nobody can make a table slow. How names are looked up in several tables is
 * in lookup.h.
 *
 * States: read-only once made, so any thread may read. Blocking: never. */
#ifndef PL_SYMBOLS_H
#define PL_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

/* What a symbol is. */
enum pl_symbol_kind {
    PL_SYMBOL_OTHER = 0,       /* a tag, a memory, a table: it has no value */
    PL_SYMBOL_FUNCTION = 1,    /* of `type`; its value is its slot */
    PL_SYMBOL_DATA = 2,        /* its value is its address */
    PL_SYMBOL_THREAD_LOCAL = 3 /* its value is its offset in the module's thread-local block */
};

/* What the value of a symbol is counted from. */
enum pl_symbol_base {
    PL_BASE_NOWHERE = 0,  /* it has none */
    PL_BASE_ABSOLUTE = 1, /* 0 */
    PL_BASE_MEMORY = 2,   /* the module's memory base */
    PL_BASE_TABLE = 3,    /* its table base: the function is in an element segment */
    PL_BASE_SLOTS = 4,    /* the first of the slots of its exported functions, if they have some */
    PL_BASE_BLOCK = 5     /* the thread-local block */
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
    PL_WANTED_POINTER = 8,  /* GOT.func: its slot */
    PL_WANTED_SYMBOL = 9    /* what the caller has to look at, once it is found */
};

typedef struct pl_symbol {
    uint32_t position;   /* among the module's exports, which name it */
    uint32_t kind;       /* enum pl_symbol_kind */
    uint32_t base;       /* enum pl_symbol_base */
    uint32_t value;      /* from there */
    uint32_t type_index; /* the place of its type among those of the module */
    uint32_t unused;
    uint64_t type; /* the number of its type; pl_symbols_new fills it in */
} pl_symbol;

typedef struct pl_wanted {
    uint32_t kind; /* enum pl_wanted_kind */
    uint32_t same; /* the first import that asks for the same: itself, if none before it does */
    uint64_t type;
} pl_wanted;

/* What a table is made of: records, and names one after the other with where each begins and the
 * last ends. The records are copied, the names are not. */
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
    /* numbers, equal for equal types of whatever module; not looked at again */
    const uint64_t *types;
    uint32_t type_count;
} pl_symbols_parts;

typedef struct pl_symbols pl_symbols;

/* The key of all hashes; before any table is made. */
void pl_symbols_key(uint64_t first, uint64_t second);
/* Whether `count` names that begin and end at these offsets lie in `size` bytes. */
int pl_symbols_fit(const uint32_t *offsets, uint32_t count, size_t size);
/* Whether all that the records point to is there; to be asked of records that come from a file. */
int pl_symbols_check(const pl_symbols_parts *parts);
/* NULL if there is no memory. */
pl_symbols *pl_symbols_new(const pl_symbols_parts *parts);
void pl_symbols_free(pl_symbols *symbols);

/* The hash of a name. */
uint64_t pl_symbols_hash(const char *name, size_t length);
/* What the module defines under a name, or NULL. */
const pl_symbol *pl_symbols_find(const pl_symbols *symbols, uint64_t hash, const char *name,
                                 size_t length);

/* The number of symbols, and symbol number `index` in the order of the records. */
uint32_t pl_symbols_count(const pl_symbols *symbols);
const pl_symbol *pl_symbols_at(const pl_symbols *symbols, uint32_t index);

/* An import, with its name and the hash of that; `index` is below the number of imports. */
uint32_t pl_symbols_wanted_count(const pl_symbols *symbols);
const pl_wanted *pl_symbols_wanted(const pl_symbols *symbols, uint32_t index, const char **name,
                                   size_t *length, uint64_t *hash);

#endif
