/* spare: instances of libraries that were unloaded, kept to be used again.
 *
 * wasmtime frees an instance only with its store, and with it all globals and host functions that were made for its imports. So a program
 * that opens and closes libraries would grow. Instead each group keeps what it has unloaded, and a load of the same code to the same place
 * takes it back: nothing is instantiated.
 *
 * It is as good as new, because all that it could have changed is put back:
 *
 * - its part of the memory, to the image of what instantiating it wrote there (pl_image), which the leader of its first load has taken before
 *   relocations and constructors ran. Only a leader does that: what a follower finds there is the leader's;
 * - its part of the table, to what its element segments put there, and the table of its trampolines, to the stubs;
 * - the cells of its GOT, to the values that this load has decided. All other globals that it can change are not its own: Python
 *   (wasm/reuse.py) lets nothing be kept that defines mutable globals, tables or memories, has thread-local data, or may drop segments in
 *   code that runs later than its start function. The start function is not run again: what it did is in the image;
 * - host functions that were made for it, to the handles of this load.
 *
 * What it was given cannot be exchanged, so it must be what this load gives: the same functions of the same instances, known by their
 * identities. A library that was loaded in between to another place leaves it no worse.
 *
 * Threads: a spare is the group's own. An image is shared and read-only; a library's image is set by the leader under the write lock, and read
 * under it. Blocking: never.
 */
#ifndef PL_SPARE_H
#define PL_SPARE_H

#include "library.h"
#include "object.h"

struct pl_import;

/* The trampolines of a library in one group, and what resolves them, block by block. They stay as long as the group. */
typedef struct pl_plt_block {
    pl_instance instance;
    struct pl_import *resolver;
} pl_plt_block;

typedef struct pl_plt {
    struct pl_plt *next;
    uint32_t count;
    pl_plt_block blocks[];
} pl_plt;

typedef struct pl_spare {
    pl_library *library; /* that it was made for: what is equal in it and another library may be shared by them */
    uint64_t identity;   /* of the instance, in this group */
    pl_instance instance;
    struct pl_plt *plt; /* the group's, or NULL */
    pl_extern *externs;       /* what was imported, by source */
    struct pl_import **hosts; /* the host functions among them that were made for it */
    uint64_t *origins;        /* the identities of the instances whose exports are among them */
    pl_func *elements;        /* its part of the table; an empty slot has store 0 */
    pl_func *stubs;
    struct pl_spare *next;
} pl_spare;

/* An empty one for a library, with room for all; NULL if there is no memory. */
pl_spare *pl_spare_new(pl_library *library);
void pl_spare_free(pl_spare *spare);
/* Takes the image of a library, if it is the first time that it is loaded; without memory for it there is none, and it is not used again. */
void pl_spare_take_image(pl_library *library, pl_context *context, const pl_extern *memory);
/* Remembers the slots of a fresh instance: 0, 1 if its part of the table is not there, or -1 if the trampolines lack an export. */
int pl_spare_note_slots(pl_spare *spare, pl_context *context, const pl_extern *table);
/* Whether what differs between the two does not matter, but for the origins of what they import. With `leading`, there must be an image. */
int pl_spare_fits(const pl_spare *spare, const pl_library *library, int leading);
/* Puts memory (with `leading`), table and trampolines back: 0, or -1 and wasmtime's error, if it has one. The next restoring puts
 * all of it back. */
int pl_spare_restore(const pl_spare *spare, pl_library *library, pl_context *context, const pl_extern *memory, const pl_extern *table,
                     int leading, pl_error **error);

#endif
