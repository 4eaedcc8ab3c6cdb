/* Discipline: one thread. */
#include "names.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    uint64_t hash;
    uintptr_t caller;
    int64_t scope;
    char *name; /* NULL: empty */
    size_t length;
    uint32_t value;
};

struct pl_names {
    uint64_t changes;
    size_t count;
    /* PL_NAMES_CAPACITY, made when the first is put; at most half of them are in use */
    struct entry *entries;
};

pl_names *pl_names_new(void) { return calloc(1, sizeof(pl_names)); }

static void clear(pl_names *names) {
    for (size_t i = 0; names->count != 0 && i < PL_NAMES_CAPACITY; i++) {
        free(names->entries[i].name);
        names->entries[i].name = NULL;
    }
    names->count = 0;
}

void pl_names_free(pl_names *names) {
    if (names != NULL) {
        clear(names);
        free(names->entries);
        free(names);
    }
}

/* FNV-1a. A guest that makes its own names collide slows itself down, and no more than the
 * capacity allows. */
static uint64_t hash_of(uintptr_t caller, int64_t scope, const char *name, size_t length) {
    uint64_t hash =
        (UINT64_C(0xcbf29ce484222325) ^ caller) * UINT64_C(0x100000001b3) ^ (uint64_t)scope;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (uint8_t)name[i]) * UINT64_C(0x100000001b3);
    }
    return hash ^ hash >> 32;
}

/* The entry of a name, or the empty one where it would go. */
static struct entry *probe(pl_names *names, uint64_t hash, uintptr_t caller, int64_t scope,
                           const char *name, size_t length) {
    for (size_t i = hash % PL_NAMES_CAPACITY;; i = (i + 1) % PL_NAMES_CAPACITY) {
        struct entry *entry = names->entries + i;
        if (entry->name == NULL ||
            (entry->hash == hash && entry->caller == caller && entry->scope == scope &&
             entry->length == length && memcmp(entry->name, name, length) == 0)) {
            return entry;
        }
    }
}

void pl_names_put(pl_names *names, uint64_t changes, uintptr_t caller, int64_t scope,
                  const char *name, size_t length, uint32_t value) {
    if (length > PL_NAME_LENGTH) {
        return;
    }
    if (names->entries == NULL) {
        names->entries = calloc(PL_NAMES_CAPACITY, sizeof *names->entries);
        if (names->entries == NULL) {
            return;
        }
    }
    if (names->changes != changes || names->count >= PL_NAMES_CAPACITY / 2) {
        clear(names);
        names->changes = changes;
    }
    uint64_t hash = hash_of(caller, scope, name, length);
    struct entry *entry = probe(names, hash, caller, scope, name, length);
    if (entry->name == NULL) {
        char *copy = malloc(length + 1);
        if (copy == NULL) {
            return;
        }
        memcpy(copy, name, length);
        *entry = (struct entry){
            .hash = hash, .caller = caller, .scope = scope, .name = copy, .length = length};
        names->count++;
    }
    entry->value = value;
}

int pl_names_get(pl_names *names, uint64_t changes, uintptr_t caller, int64_t scope,
                 const char *name, size_t length, uint32_t *value) {
    if (names->count == 0 || names->changes != changes || length > PL_NAME_LENGTH) {
        return 0;
    }
    const struct entry *entry =
        probe(names, hash_of(caller, scope, name, length), caller, scope, name, length);
    if (entry->name == NULL) {
        return 0;
    }
    *value = entry->value;
    return 1;
}
