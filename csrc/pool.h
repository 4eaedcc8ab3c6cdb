/* pool: instances of unloaded libraries, for reuse by a load of the same code at the same
 * addresses.
 *
 * wasmtime frees an instance only with its store, and with it all globals and host functions that
 * were created for its imports. Without a pool, a program that opens and closes libraries would
 * grow.
 *
 * A reused instance is equivalent to a fresh one, because all state that the library could have
 * changed is restored:
 *
 * - its part of the memory, from the image of the data that instantiation wrote there (pl_image).
 *   The leader of its first load takes the image before relocations and constructors run. Only the
 *   leader restores memory; a follower's memory already has the leader's data;
 * - its part of the table, to the entries of its element segments, and the table of its
 *   trampolines, to the stubs;
 * - the cells of its GOT, to the values of this load. It has no other global that it can change:
 *   Python (wasm/reuse.py) pools no library that defines mutable globals, tables or memories, has
 *   thread-local data, or may drop segments in code that runs later than its start function. The
 *   start function is not run again: its effects are in the image;
 * - host functions that were created for it, to the handles of this load.
 *
 * Imports of an instance are fixed, so it is reused only if every import resolves to the same
 * object: functions of instances with the same identities.
 *
 * Protects: nothing.
 * Requires: the thread of the group, which owns its pooled instances; the write lock to set a
 * library's image, the write or read lock to read it.
 * Blocks: never.
 * Threads: the group's. An image is shared and read-only. */
#ifndef PL_POOL_H
#define PL_POOL_H

#include "library.h"
#include "wrappers.h"

struct pl_import;

/* The trampolines of a library in one group, and their resolvers, block by block. They are freed
 * with the group. */
typedef struct pl_plt_block {
    pl_instance instance;
    struct pl_import *resolver;
} pl_plt_block;

typedef struct pl_plt {
    struct pl_plt *next;
    uint32_t count;
    pl_plt_block blocks[];
} pl_plt;

typedef struct pl_pooled {
    /* that it was created for: equal parts of another library may be shared with it */
    pl_library *library;
    uint64_t identity; /* of the instance, in this group */
    pl_instance instance;
    struct pl_plt *plt;       /* the group's, or NULL */
    pl_extern *externs;       /* the imports, by source */
    struct pl_import **hosts; /* the imported host functions that were created for it */
    uint64_t *origins;        /* the identities of the instances whose exports are among them */
    pl_func *elements;        /* its part of the table; an empty slot has store 0 */
    pl_func *stubs;
    struct pl_pooled *next;
} pl_pooled;

/* Creates an empty entry for a library, with room for all; NULL if out of memory. */
pl_pooled *pl_pooled_new(pl_library *library);
void pl_pooled_free(pl_pooled *pooled);
/* Takes the image of a library at its first load; if out of memory there is no image, and the
 * instance is not reused. */
void pl_pooled_take_image(pl_library *library, pl_context *context, const pl_extern *memory);
/* Stores the slots of a fresh instance. Returns 0; 1 if its part of the table is out of bounds; -1
 * if the trampolines lack an export. */
int pl_pooled_note_slots(pl_pooled *pooled, pl_context *context, const pl_extern *table);
/* Returns whether the instance may stand for the library, apart from the origins of its imports.
 * With `leading`, it requires an image. */
int pl_pooled_fits(const pl_pooled *pooled, const pl_library *library, int leading);
/* Restores memory (with `leading`), table and trampolines. Returns 0, or -1 and wasmtime's error,
 * if there is one; the next call restores all of it again. */
int pl_pooled_restore(const pl_pooled *pooled, pl_library *library, pl_context *context,
                      const pl_extern *memory, const pl_extern *table, int leading,
                      pl_error **error);

#endif
