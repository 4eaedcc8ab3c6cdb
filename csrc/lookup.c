/* Discipline: the caller holds the lock, except of pl_lookup_now, which takes it; nothing is kept
 * here. */
#include "lookup.h"

#include "hold.h"

/* Finds the first module that defines the name, and the symbol; `count` and NULL if none does. */
static uint32_t find_in(const pl_scope_entry *scope, uint32_t count, uint64_t hash,
                        const char *name, size_t length, const pl_symbol **symbol) {
    *symbol = NULL;
    uint32_t number = 0;
    while (number < count &&
           (*symbol = pl_symbols_find(scope[number].symbols, hash, name, length)) == NULL) {
        number++;
    }
    return number;
}

/* Returns the definition of a symbol, at the addresses of its module. */
static pl_definition define(const pl_scope_entry *scope, uint32_t number, const pl_symbol *symbol) {
    const pl_scope_entry *module = scope + number;
    pl_definition found = {.number = number,
                           .position = symbol->position,
                           .kind = symbol->kind,
                           .type = symbol->type_index,
                           .has_value = symbol->base != PL_BASE_NOWHERE,
                           .value = symbol->value};
    switch (symbol->base) {
    case PL_BASE_MEMORY:
        found.value += module->memory_base;
        break;
    case PL_BASE_TABLE:
        found.value += module->table_base;
        break;
    case PL_BASE_SLOTS:
        found.has_value = module->has_slots;
        found.value += module->slot_base;
        break;
    default:
        break;
    }
    return found;
}

uint32_t pl_lookup(const pl_scope_entry *scope, uint32_t count, const char *name, size_t length,
                   pl_definition *found) {
    const pl_symbol *symbol;
    uint32_t number = find_in(scope, count, pl_symbols_hash(name, length), name, length, &symbol);
    *found = symbol != NULL ? define(scope, number, symbol) : (pl_definition){.number = count};
    return number;
}

uint32_t pl_lookup_slot(const pl_scope_entry *scope, uint32_t count, uint32_t slot,
                        pl_definition *found) {
    for (uint32_t number = 0; number < count; number++) {
        const uint32_t symbols = pl_symbols_count(scope[number].symbols);
        for (uint32_t i = 0; i < symbols; i++) {
            *found = define(scope, number, pl_symbols_at(scope[number].symbols, i));
            if (found->kind == PL_SYMBOL_FUNCTION && found->has_value && found->value == slot) {
                return number;
            }
        }
    }
    *found = (pl_definition){.number = count};
    return count;
}

int pl_lookup_address(const pl_scope_entry *module, uint32_t address, pl_definition *found) {
    const uint32_t symbols = pl_symbols_count(module->symbols);
    int is_found = 0;
    for (uint32_t i = 0; i < symbols; i++) {
        const pl_definition each = define(module, 0, pl_symbols_at(module->symbols, i));
        if (each.kind == PL_SYMBOL_DATA && each.has_value && each.value <= address &&
            (!is_found || each.value > found->value)) {
            *found = each;
            is_found = 1;
        }
    }
    return is_found;
}

/* The rest of pl_lookup_now, by a thread that holds the main lock. */
static int look_up_now(const pl_scope *scope, const char *name, size_t length,
                       pl_definition *found) {
    int is_found = 0;
    pl_hold lock;
    pl_hold_init(&lock, scope->shared, NULL);
    if (pl_cancel_cause(pl_shared_cancel(scope->shared)) == 0 &&
        pl_hold_read(&lock) == PL_ACQUIRED) {
        is_found = pl_shared_generation(scope->shared) == scope->generation &&
                   pl_lookup(scope->modules, scope->count, name, length, found) < scope->count;
    }
    pl_hold_destroy(&lock);
    return is_found;
}

int pl_lookup_now(const pl_scope *scope, const char *name, size_t length, pl_definition *found) {
    if (!pl_recursive_try(scope->main_lock)) {
        return 0;
    }
    int is_found = look_up_now(scope, name, length, found);
    pl_recursive_release(scope->main_lock);
    return is_found;
}

/* Returns whether name and type alone decide an import. */
static int decide(const pl_wanted *wanted, const pl_scope_entry *module, const pl_definition *found,
                  uint64_t type, pl_source *source) {
    switch (wanted->kind) {
    case PL_WANTED_FUNCTION:
        *source = (pl_source){
            .kind = PL_SOURCE_EXPORT, .index = found->position, .library = module->library};
        return found->kind == PL_SYMBOL_FUNCTION && type == wanted->type;
    case PL_WANTED_DATA:
        *source = (pl_source){.kind = PL_SOURCE_CELL, .value = found->value};
        return found->kind == PL_SYMBOL_DATA && found->has_value;
    case PL_WANTED_POINTER:
        *source = (pl_source){.kind = PL_SOURCE_CELL, .value = found->value};
        return found->kind == PL_SYMBOL_FUNCTION && found->has_value;
    default: /* PL_WANTED_SYMBOL */
        return 0;
    }
}

/* Looks import `i` up. Returns 0 if it is not decided here. */
static int look_up(const pl_symbols *symbols, uint32_t i, pl_scope_entry *scope, uint32_t count,
                   uint32_t stamp, pl_resolved *resolved) {
    const char *name;
    size_t length;
    uint64_t hash;
    const pl_wanted *wanted = pl_symbols_wanted(symbols, i, &name, &length, &hash);
    const pl_symbol *symbol;
    pl_source *source = resolved->sources + i;
    uint32_t number = find_in(scope, count, hash, name, length, &symbol);
    if (symbol == NULL) {
        return 0;
    }
    const pl_definition found = resolved->found[i] = define(scope, number, symbol);
    if (!decide(wanted, scope + number, &found, symbol->type, source)) {
        return 0;
    }
    if (source->kind == PL_SOURCE_EXPORT && source->library == NULL) {
        if (wanted->same < i) {
            *source = resolved->sources[wanted->same]; /* it has the same definition */
            return 1;
        }
        *source = (pl_source){.kind = PL_SOURCE_PLT, .index = resolved->lazy_count};
        resolved->lazy[resolved->lazy_count++] =
            (pl_lazy){.index = i, .number = number, .position = symbol->position};
    }
    if (scope[number].stamp != stamp) {
        scope[number].stamp = stamp;
        resolved->used[resolved->used_count++] = number;
    }
    return 1;
}

void pl_lookup_imports(const pl_symbols *symbols, pl_scope_entry *scope, uint32_t count,
                       uint32_t memory_base, uint32_t table_base, uint32_t stamp,
                       pl_resolved *resolved) {
    const uint32_t wanted_count = pl_symbols_wanted_count(symbols);
    resolved->rest_count = resolved->lazy_count = resolved->used_count = 0;
    for (uint32_t i = 0; i < wanted_count; i++) {
        const char *name;
        size_t length;
        uint64_t hash;
        pl_source *source = resolved->sources + i;
        int decided = 1;
        *source = (pl_source){.kind = PL_SOURCE_MEMORY};
        resolved->found[i] = (pl_definition){.number = count};
        switch (pl_symbols_wanted(symbols, i, &name, &length, &hash)->kind) {
        case PL_WANTED_MEMORY:
            break;
        case PL_WANTED_TABLE:
            source->kind = PL_SOURCE_TABLE;
            break;
        case PL_WANTED_STACK_POINTER:
            source->kind = PL_SOURCE_STACK_POINTER;
            break;
        case PL_WANTED_MEMORY_BASE:
            *source = (pl_source){.kind = PL_SOURCE_CONSTANT, .value = memory_base};
            break;
        case PL_WANTED_TABLE_BASE:
            *source = (pl_source){.kind = PL_SOURCE_CONSTANT, .value = table_base};
            break;
        case PL_WANTED_FUNCTION:
        case PL_WANTED_DATA:
        case PL_WANTED_POINTER:
        case PL_WANTED_SYMBOL:
            decided = look_up(symbols, i, scope, count, stamp, resolved);
            break;
        default:
            decided = 0;
        }
        if (!decided) {
            resolved->rest[resolved->rest_count++] = i;
        }
    }
}

void pl_lookup_bind(pl_library *library, const pl_lazy *lazy, uint32_t count,
                    pl_library *const *libraries) {
    for (uint32_t i = 0; i < count; i++) {
        pl_library_bind(library, i, libraries[lazy[i].number], lazy[i].position);
    }
}
