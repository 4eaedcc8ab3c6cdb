/* lookup: where a symbol is bound. All lookups of symbols are here.
 *
 * A scope is an ordered list of modules. The first one that defines a name counts, weak or
 * strong, as with ld.so. A load looks up all imports of a module at once (pl_lookup_imports);
 * dlsym of the host and of guests, the first call through a trampoline, destructors, keys, the
 * debug output and `pylinker check` look up one name (pl_lookup, pl_lookup_now) or read the
 * results of a load. All of them get a pl_definition: the module, the export, and its slot or
 * address. dladdr goes the other way (pl_lookup_slot, pl_lookup_address).
 *
 * A load decides most imports here: functions and data of the modules of the scope, the
 * program's memory and table, and the module's bases. The rest is left to the caller (`rest`);
 * a symbol among it has been looked up all the same.
 *
 * Protects: nothing. A scope entry repeats what the linker has decided of a module (its bases,
 * its slots, its record); it is written before the lookup by the thread that looks up, or under
 * the write lock by the load that brings the module.
 * Requires: the read lock of the linker, or the write lock for pl_lookup_imports, so that no
 * module of the scope is unloaded; the tables of the scope are alive. pl_lookup_now takes the
 * lock itself. A scope that several threads use is not written (pl_lookup only reads it).
 * Blocks: never.
 * Memory order: plain reads; the lock orders them after the load that wrote them. pl_lookup_bind
 * publishes its targets with release (library.h). */
#ifndef PL_LOOKUP_H
#define PL_LOOKUP_H

#include "library.h"
#include "recursive.h"
#include "shared.h"
#include "symbols.h"

/* A module in a scope. `library` is NULL while it is not instantiated yet: its functions are
 * then bound lazily. `has_slots`: its exported functions have slots from `slot_base` on. `stamp`
 * is pl_lookup_imports', 0 at first. */
typedef struct pl_scope_entry {
    const pl_symbols *symbols;
    pl_library *library;
    uint32_t memory_base;
    uint32_t table_base;
    uint32_t slot_base;
    uint32_t has_slots;
    uint32_t stamp;
    uint32_t unused;
} pl_scope_entry;

/* The definition of a name. */
typedef struct pl_definition {
    uint32_t number;    /* of the module in the scope; the number of modules: none defines it */
    uint32_t position;  /* of its export */
    uint32_t kind;      /* enum pl_symbol_kind */
    uint32_t type;      /* the place of its type among those of its module */
    uint32_t has_value; /* whether there is a value: a function may have no slot yet */
    /* the slot of a function, the address of data, the offset of thread-local data in its block */
    uint32_t value;
} pl_definition;

/* Finds the first of `count` modules that defines a name. Returns its number, or `count`. */
uint32_t pl_lookup(const pl_scope_entry *scope, uint32_t count, const char *name, size_t length,
                   pl_definition *found);

/* The reverse, for dladdr: linear in the number of symbols. */

/* Finds the first of `count` modules with a function in a table slot. Returns its number and the
 * definition, or `count`. A function that is not exported is not found. */
uint32_t pl_lookup_slot(const pl_scope_entry *scope, uint32_t count, uint32_t slot,
                        pl_definition *found);
/* Finds the data symbol of a module with the greatest address at or below `address`. Returns 1
 * and the definition, or 0. */
int pl_lookup_address(const pl_scope_entry *module, uint32_t address, pl_definition *found);

/* A scope of loaded modules, for threads that hold no lock. `main_lock` is that of the main
 * group. `generation` is pl_shared_generation, read before the modules were listed: once that
 * has moved, the scope is not looked into any more. */
typedef struct pl_scope {
    pl_shared *shared;
    pl_recursive *main_lock;
    const pl_scope_entry *modules;
    uint64_t generation;
    uint32_t count;
} pl_scope;

/* Looks a name up under the read lock, which it takes and releases. Returns 1 and the
 * definition; or 0 if no module defines the name, or if that cannot be said at once: the linker
 * is cancelled, another thread holds the main lock or the lock for writing, or the generation
 * has moved. Never blocks. The group of the calling thread need not have replayed everything:
 * what is read is the same for all groups. The main lock is held meanwhile so that a child of
 * fork() knows whether a thread that is not there was in here. */
int pl_lookup_now(const pl_scope *scope, const char *name, size_t length, pl_definition *found);

/* An import of a function of a module that is not instantiated yet: it becomes a PLT entry.
 * `number` is the module's in the scope, `position` that of its export. */
typedef struct pl_lazy {
    uint32_t index;
    uint32_t number;
    uint32_t position;
} pl_lazy;

/* The decisions about the imports of a module. */
typedef struct pl_resolved {
    pl_source *sources;   /* one for each import */
    pl_definition *found; /* one for each import: its definition, if it is a symbol */
    uint32_t *rest;       /* the indexes of the imports that are left to the caller; room for all */
    uint32_t rest_count;
    /* those that are bound lazily, in the order of their PLT entries. Room for all */
    pl_lazy *lazy;
    uint32_t lazy_count;
    /* the numbers of the modules that decided imports were found in, each once; room for `count` */
    uint32_t *used;
    uint32_t used_count;
} pl_resolved;

/* Decides the imports of a module whose bases are given. The caller has allocated the arrays of
 * `resolved`. `stamp` is another one each time. */
void pl_lookup_imports(const pl_symbols *symbols, pl_scope_entry *scope, uint32_t count,
                       uint32_t memory_base, uint32_t table_base, uint32_t stamp,
                       pl_resolved *resolved);

/* Binds the first `count` PLT entries of `library` to the definitions of these imports;
 * `libraries` are those of the scope, by number. */
void pl_lookup_bind(pl_library *library, const pl_lazy *lazy, uint32_t count,
                    pl_library *const *libraries);

#endif
