/* symbols: the definitions and imports of a module, by name.
 *
 * A table is made once for each module's content: a hash table of the symbols it defines, as a
 * native library has in DT_GNU_HASH, and its imports with their hashes. A Bloom filter rejects
 * most tables of a scope. Names come from untrusted modules, so they are hashed with a key
 * (SipHash-1-3): no module can make a table slow. How names are looked up in several tables is
 * in lookup.h.
 *
 * Protects: nothing; a table is read-only once made, so any thread may read it. Requires: for
 * pl_symbols_new, the names outlive the table. Blocks: never. */
#ifndef PL_SYMBOLS_H
#define PL_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

/* The kinds of symbols. */
enum pl_symbol_kind {
    PL_SYMBOL_OTHER = 0,       /* a tag, a memory, a table: it has no value */
    PL_SYMBOL_FUNCTION = 1,    /* of `type`; its value is its slot */
    PL_SYMBOL_DATA = 2,        /* its value is its address */
    PL_SYMBOL_THREAD_LOCAL = 3 /* its value is its offset in the module's thread-local block */
};

/* The base of a symbol's value. */
enum pl_symbol_base {
    PL_BASE_NOWHERE = 0,  /* it has none */
    PL_BASE_ABSOLUTE = 1, /* 0 */
    PL_BASE_MEMORY = 2,   /* the module's memory base */
    PL_BASE_TABLE = 3,    /* its table base: the function is in an element segment */
    PL_BASE_SLOTS = 4,    /* the first of the slots of its exported functions, if they have some */
    PL_BASE_BLOCK = 5     /* the thread-local block */
};

/* The kinds of imports. */
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
    PL_WANTED_SYMBOL = 9    /* decided by the caller, once it is found */
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
    uint32_t
        same; /* the first import with the same name and type: itself, if there is none before it */
    uint64_t type;
} pl_wanted;

/* The parts of a table: records, and names one after the other with the offsets where each begins
 * and the last ends. The records are copied, the names are not. */
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
    /* numbers, equal for equal types of all modules; read by pl_symbols_new only */
    const uint64_t *types;
    uint32_t type_count;
} pl_symbols_parts;

typedef struct pl_symbols pl_symbols;

/* Sets the key of all hashes; before any table is made. */
void pl_symbols_key(uint64_t first, uint64_t second);
/* Returns whether `count` names at these offsets lie in `size` bytes. */
int pl_symbols_fit(const uint32_t *offsets, uint32_t count, size_t size);
/* Returns whether the indexes in the records are in bounds: for records that come from a file. */
int pl_symbols_check(const pl_symbols_parts *parts);
/* Returns NULL if out of memory. */
pl_symbols *pl_symbols_new(const pl_symbols_parts *parts);
void pl_symbols_free(pl_symbols *symbols);

/* Returns the hash of a name. */
uint64_t pl_symbols_hash(const char *name, size_t length);
/* Returns the symbol of a name, or NULL if the module does not define it. */
const pl_symbol *pl_symbols_find(const pl_symbols *symbols, uint64_t hash, const char *name,
                                 size_t length);

/* Return the number of symbols, and symbol number `index` in the order of the records. */
uint32_t pl_symbols_count(const pl_symbols *symbols);
const pl_symbol *pl_symbols_at(const pl_symbols *symbols, uint32_t index);

/* Return the number of imports, and one with its name and the hash of that. */
uint32_t pl_symbols_wanted_count(const pl_symbols *symbols);
const pl_wanted *pl_symbols_wanted(const pl_symbols *symbols, uint32_t index, const char **name,
                                   size_t *length, uint64_t *hash);

#endif
