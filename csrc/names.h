/* names: what one group has looked up by name already, so that the next dlsym of it is a probe
 * of a hash table.
 *
 * A name means something to who asks (the caller's module) in a scope (a handle). The table
 * belongs to one group and is used by its thread alone, so there is nothing to synchronize;
 * instead it is as good as the count of changes it was filled under (pl_shared_generation): when
 * that has moved, everything is forgotten. Only values that are the same for all groups are
 * kept, so forgetting is always right.
 *
 * Bounded: PL_NAMES_CAPACITY entries with names of at most PL_NAME_LENGTH bytes; when it is full
 * it is emptied. Blocking: never. */
#ifndef PL_NAMES_H
#define PL_NAMES_H

#include <stddef.h>
#include <stdint.h>

enum { PL_NAMES_CAPACITY = 512, PL_NAME_LENGTH = 240 };

typedef struct pl_names pl_names;

/* NULL if there is no memory. */
pl_names *pl_names_new(void);
void pl_names_free(pl_names *names);
/* Remembers a value, as of `changes`. A name that is too long is not kept. */
void pl_names_put(pl_names *names, uint64_t changes, uintptr_t caller, int64_t scope,
                  const char *name, size_t length, uint32_t value);
/* Answers 1 and the value if it was put under the same `changes`, else 0. */
int pl_names_get(pl_names *names, uint64_t changes, uintptr_t caller, int64_t scope,
                 const char *name, size_t length, uint32_t *value);

#endif
