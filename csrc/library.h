/* library: one module as every group instantiates it.
 *
 * What a symbol means is decided once, when the module is loaded (resolution, bases, slots), and
 * written down here as data: for each import where it comes from, for each exported function its
 * slot in the table. A group carries that out without deciding anything, without Python and
 * without the GIL (instances.h), so it comes out the same in all of them.
 *
 * States: filled in by its maker, under the write lock, before any group sees it (pl_library_new
 * copies what it is given); then read-only but for two atomic parts: the targets of the
 * trampolines, which are found one by one as the guest calls them, and `unloaded`.
 *
 * Targets: pl_library_bind publishes one (release), pl_library_target loads it (acquire). They
 * are taken back (pl_library_unbind) by the leader of an unload while every group is at the
 * barrier, parked or dead; whoever loads one is RUNNING, so it never sees one taken back. A
 * target is two words, its number stored relaxed before the library is released. They are read
 * as one, since between two different targets of a trampoline there is always a miss: groups
 * that find a target at the same time, under read locks, find the same one and store the same
 * words (lookup.h), and a reader of the library that was missed is gone by the time of the next
 * aim.
 *
 * Life: counted. The maker has it, and each group that has instantiated it. Blocking: never. Any
 * thread may read. */
#ifndef PL_LIBRARY_H
#define PL_LIBRARY_H

#include "api.h"

/* Where an import comes from. */
enum pl_source_kind {
    PL_SOURCE_MEMORY = 0,        /* the group's memory */
    PL_SOURCE_TABLE = 1,         /* its function table */
    PL_SOURCE_STACK_POINTER = 2, /* its stack pointer */
    PL_SOURCE_CONSTANT = 3,      /* an immutable i32 global of `value` */
    PL_SOURCE_CELL = 4,          /* a mutable i32 global of `value` */
    /* a mutable i32 global: `value` bytes from the thread-local block of `library` in this group */
    PL_SOURCE_TLS_CELL = 5,
    PL_SOURCE_EXPORT = 6, /* export `index` of `library` */
    PL_SOURCE_PLT = 7,    /* trampoline `index` of this library */
    PL_SOURCE_WASI = 8,   /* function `index` of the process (wasi.h) */
    PL_SOURCE_HOST = 9,   /* a host function of `type`, called back with `handle` */
    /* function `index` of the core itself (builtin.h), of `type`; it gets `handle` */
    PL_SOURCE_BUILTIN = 10,
    PL_SOURCE_TAG = 11, /* exception tag `index` of the group, of `type` */
    /* function `index` of the group, an enum pl_atomics_kind, of `type` */
    PL_SOURCE_ATOMICS = 13,
    /* callback `index` of the group, of `type` and, as callback.h has it, of type `value`; it
     * gets `handle` */
    PL_SOURCE_CALLBACK = 12
};

/* Trampolines in one module: few enough to compile in a moment, so that a load can be ended
 * between two of them. */
enum { PL_PLT_BLOCK = 256 };

typedef struct pl_library pl_library;

typedef struct pl_source {
    uint32_t kind; /* enum pl_source_kind */
    uint32_t index;
    int64_t value;
    pl_library *library;
    const pl_type *type; /* wasm_functype_t, wasm_tagtype_t */
    uintptr_t handle;
} pl_source;

/* What a library is made of. Exports are counted in the order of the module; -1 is none. The
 * names are not copied. */
typedef struct pl_library_parts {
    const pl_module *code;
    /* of the late bound imports, PL_PLT_BLOCK in each module but the last; or NULL */
    const pl_module *const *trampolines;
    uint32_t trampoline_count;
    /* whose trampolines it uses, from number `plt_base` on, in place of its own: loaded before
     * it, and longer. Or NULL */
    pl_library *plt_of;
    uint32_t plt_base;
    uintptr_t resolver; /* the handle that is called back when a trampoline has no target */
    const pl_source *sources;
    uint32_t source_count;
    const char *names;       /* of all exports, one after the other */
    const uint32_t *offsets; /* export_count + 1: where each begins, and where the last ends */
    uint32_t export_count;
    /* the exported functions that have slots side by side in the table, */
    const uint32_t *slot_exports;
    uint32_t slot_count;
    uint32_t slot_base; /* from here on */
    uint32_t place;     /* its place in each group's list: one at a time has it */
    /* what the group takes from this library if it has none yet */
    int32_t export_memory, export_table, export_stack_pointer;
    int32_t export_tls_base;   /* a mutable i32 global */
    int32_t export_tls_init;   /* a function (i32) -> () */
    int32_t export_tls_relocs; /* a function () -> () */
    /* a function () -> (i32) that makes a block and answers its address: WASIX's
     * __wasix_init_tls */
    int32_t export_tls_make;
    /* of the code, the same for no other; 0: instances are not to be used again (pool.h) */
    uint64_t code_number;
    uint64_t trampolines_number;                               /* that of the trampolines */
    uint32_t memory_base, memory_size, table_base, table_size; /* its place */
    /* the code exports a table called PL_WAITS for the functions that stand in for its waits
     * (atomics.h), uncounted */
    int32_t rewritten;
} pl_library_parts;

/* NULL if there is no memory. */
pl_library *pl_library_new(const pl_library_parts *parts);
const pl_library_parts *pl_library_parts_of(const pl_library *library);
void pl_library_retain(pl_library *library);
void pl_library_release(pl_library *library);

/* The name of export `index`, not terminated. */
const char *pl_library_name(const pl_library *library, uint32_t index, size_t *length);

/* Has it have `count` trampolines, its own and those that others use, and `resolver` called
 * back: before it is loaded, if it has none yet. 0, or -1 if there is no memory. */
int pl_library_set_trampolines(pl_library *library, const pl_module *const *trampolines,
                               uint32_t count, uintptr_t resolver);
/* How many modules its trampolines are in. */
uint32_t pl_library_blocks(const pl_library *library);
/* Whose trampoline, and which, trampoline `index` of a library is: its own, or as `plt_of` says. */
pl_library *pl_library_plt(const pl_library *library, uint32_t *index);

/* Trampoline `index` leads to export `export_index` of `target` from now on. */
void pl_library_bind(pl_library *library, uint32_t index, pl_library *target,
                     uint32_t export_index);
/* It leads nowhere, as at first. */
void pl_library_unbind(pl_library *library, uint32_t index);
/* Where it leads, or NULL. */
pl_library *pl_library_target(const pl_library *library, uint32_t index, uint32_t *export_index);

/* What instantiating it wrote into its part of the memory, but for the zeros at the end; none if
 * it was not taken. pl_library_take_image copies it, if that was never tried before.
 * pl_library_share_image gives a library the image of another one, and writes it to `data`. By
 * the leader of a load, under the write lock. */
void pl_library_take_image(pl_library *library, const uint8_t *data, size_t size);
int pl_library_has_image(const pl_library *library);
void pl_library_share_image(pl_library *library, const pl_library *from, uint8_t *data);

/* It has been unloaded: a group that was parked does not load it any more. Under the write lock;
 * read under a read lock. */
void pl_library_set_unloaded(pl_library *library);
int pl_library_is_unloaded(const pl_library *library);

#endif
