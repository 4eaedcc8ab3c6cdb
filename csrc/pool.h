/* pool: instances of libraries that were unloaded, to be reused by a load of the same code at
 * the same place.
 *
 * wasmtime frees an instance only with its store, and with it all globals and host functions
 * that were made for its imports. Without a pool, a program that opens and closes libraries
 * would grow.
 *
 * A reused instance is as good as a fresh one, because whatever the library could have changed
 * is restored:
 *
 * - its part of the memory, from the image of what instantiating it wrote there (pl_image). The
 *   leader of its first load takes the image before relocations and constructors run. Only the
 *   leader restores memory; a follower's memory already has the leader's data;
 * - its part of the table, to what its element segments put there, and the table of its
 *   trampolines, to the stubs;
 * - the cells of its GOT, to the values that this load has decided. It owns no other global that
 *   it can change: Python (wasm/reuse.py) pools no library that defines mutable globals, tables
 *   or memories, has thread-local data, or may drop segments in code that runs later than its
 *   start function. The start function is not run again: what it did is in the image;
 * - host functions that were made for it, to the handles of this load.
 *
 * Imports of an instance are fixed, so it is reused only if every import resolves to the same
 * object: functions of instances with the same identities.
 *
 * Protects: nothing. Requires: the thread of the group, which owns its pooled instances; the
 * write lock to set a library's image, the write or read lock to read it. Blocks: never. An
 * image is shared and read-only. */
#ifndef PL_POOL_H
#define PL_POOL_H

#include "library.h"
#include "wrappers.h"

struct pl_import;

/* The trampolines of a library in one group, and what resolves them, block by block. They stay
 * as long as the group. */
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
    /* that it was made for: what is equal in it and another library may be shared by them */
    pl_library *library;
    uint64_t identity; /* of the instance, in this group */
    pl_instance instance;
    struct pl_plt *plt;       /* the group's, or NULL */
    pl_extern *externs;       /* what was imported, by source */
    struct pl_import **hosts; /* the host functions among them that were made for it */
    uint64_t *origins;        /* the identities of the instances whose exports are among them */
    pl_func *elements;        /* its part of the table; an empty slot has store 0 */
    pl_func *stubs;
    struct pl_pooled *next;
} pl_pooled;

/* An empty one for a library, with room for all; NULL if there is no memory. */
pl_pooled *pl_pooled_new(pl_library *library);
void pl_pooled_free(pl_pooled *pooled);
/* Takes the image of a library, if it is the first time that it is loaded; without memory for it
 * there is none, and it is not used again. */
void pl_pooled_take_image(pl_library *library, pl_context *context, const pl_extern *memory);
/* Remembers the slots of a fresh instance: 0, 1 if its part of the table is not there, or -1 if
 * the trampolines lack an export. */
int pl_pooled_note_slots(pl_pooled *pooled, pl_context *context, const pl_extern *table);
/* Whether what differs between the two does not matter, but for the origins of what they import.
 * With `leading`, there must be an image. */
int pl_pooled_fits(const pl_pooled *pooled, const pl_library *library, int leading);
/* Puts memory (with `leading`), table and trampolines back: 0, or -1 and wasmtime's error, if it
 * has one. The next restoring puts all of it back. */
int pl_pooled_restore(const pl_pooled *pooled, pl_library *library, pl_context *context,
                      const pl_extern *memory, const pl_extern *table, int leading,
                      pl_error **error);

#endif
