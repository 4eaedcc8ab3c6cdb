/* dlsym_cache: the results of dlsym in one group, so that the next dlsym of a name is a probe of a
 * hash table.
 *
 * Key: calling module, handle, name. An entry is valid for the generation (pl_shared_generation)
 * that it was stored under: when the generation moves, the cache is cleared. Only values that
 * are the same for all groups are stored, so clearing it is always right.
 *
 * Bounded: PL_DLSYM_CACHE_CAPACITY / 2 entries with names of at most PL_DLSYM_NAME_LENGTH bytes;
 * a full cache is cleared.
 *
 * Protects: nothing. Requires: the thread of the group. Blocks: never. Memory order: none; one
 * thread uses it. */
#ifndef PL_DLSYM_CACHE_H
#define PL_DLSYM_CACHE_H

#include <stddef.h>
#include <stdint.h>

enum { PL_DLSYM_CACHE_CAPACITY = 512, PL_DLSYM_NAME_LENGTH = 240 };

typedef struct pl_dlsym_cache pl_dlsym_cache;

/* Returns NULL if out of memory. */
pl_dlsym_cache *pl_dlsym_cache_new(void);
void pl_dlsym_cache_free(pl_dlsym_cache *cache);
/* Stores a value for a generation. A name that is too long is not stored. */
void pl_dlsym_cache_put(pl_dlsym_cache *cache, uint64_t generation, uintptr_t caller, int64_t scope,
                        const char *name, size_t length, uint32_t value);
/* Returns 1 and the value if it was stored under the same generation, else 0. */
int pl_dlsym_cache_get(pl_dlsym_cache *cache, uint64_t generation, uintptr_t caller, int64_t scope,
                       const char *name, size_t length, uint32_t *value);

#endif
