/* Discipline: used by the thread of its group only. */
#include "dlsym_cache.h"

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

struct pl_dlsym_cache {
    uint64_t generation;
    size_t count;
    /* PL_DLSYM_CACHE_CAPACITY, allocated by the first put; at most half of them are in use */
    struct entry *entries;
};

pl_dlsym_cache *pl_dlsym_cache_new(void) { return calloc(1, sizeof(pl_dlsym_cache)); }

static void clear(pl_dlsym_cache *cache) {
    for (size_t i = 0; cache->count != 0 && i < PL_DLSYM_CACHE_CAPACITY; i++) {
        free(cache->entries[i].name);
        cache->entries[i].name = NULL;
    }
    cache->count = 0;
}

void pl_dlsym_cache_free(pl_dlsym_cache *cache) {
    if (cache != NULL) {
        clear(cache);
        free(cache->entries);
        free(cache);
    }
}

/* FNV-1a. A guest that makes its own cache collide slows itself down, and no more than the
 * capacity allows. */
static uint64_t hash_of(uintptr_t caller, int64_t scope, const char *name, size_t length) {
    uint64_t hash =
        (UINT64_C(0xcbf29ce484222325) ^ caller) * UINT64_C(0x100000001b3) ^ (uint64_t)scope;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (uint8_t)name[i]) * UINT64_C(0x100000001b3);
    }
    return hash ^ hash >> 32;
}

/* Returns the entry of a name, or the empty one where it would be stored. */
static struct entry *probe(pl_dlsym_cache *cache, uint64_t hash, uintptr_t caller, int64_t scope,
                           const char *name, size_t length) {
    for (size_t i = hash % PL_DLSYM_CACHE_CAPACITY;; i = (i + 1) % PL_DLSYM_CACHE_CAPACITY) {
        struct entry *entry = cache->entries + i;
        if (entry->name == NULL ||
            (entry->hash == hash && entry->caller == caller && entry->scope == scope &&
             entry->length == length && memcmp(entry->name, name, length) == 0)) {
            return entry;
        }
    }
}

void pl_dlsym_cache_put(pl_dlsym_cache *cache, uint64_t generation, uintptr_t caller, int64_t scope,
                        const char *name, size_t length, uint32_t value) {
    if (length > PL_DLSYM_NAME_LENGTH) {
        return;
    }
    if (cache->entries == NULL) {
        cache->entries = calloc(PL_DLSYM_CACHE_CAPACITY, sizeof *cache->entries);
        if (cache->entries == NULL) {
            return;
        }
    }
    if (cache->generation != generation || cache->count >= PL_DLSYM_CACHE_CAPACITY / 2) {
        clear(cache);
        cache->generation = generation;
    }
    uint64_t hash = hash_of(caller, scope, name, length);
    struct entry *entry = probe(cache, hash, caller, scope, name, length);
    if (entry->name == NULL) {
        char *copy = malloc(length + 1);
        if (copy == NULL) {
            return;
        }
        memcpy(copy, name, length);
        *entry = (struct entry){
            .hash = hash, .caller = caller, .scope = scope, .name = copy, .length = length};
        cache->count++;
    }
    entry->value = value;
}

int pl_dlsym_cache_get(pl_dlsym_cache *cache, uint64_t generation, uintptr_t caller, int64_t scope,
                       const char *name, size_t length, uint32_t *value) {
    if (cache->count == 0 || cache->generation != generation || length > PL_DLSYM_NAME_LENGTH) {
        return 0;
    }
    const struct entry *entry =
        probe(cache, hash_of(caller, scope, name, length), caller, scope, name, length);
    if (entry->name == NULL) {
        return 0;
    }
    *value = entry->value;
    return 1;
}
