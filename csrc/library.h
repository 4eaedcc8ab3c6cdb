/* library: one module as every group instantiates it.
 *
 * Symbol resolution, bases and slots are decided once, when the module is loaded, and stored here
 * as data: the source of each import, and the table slot of each exported function. A group
 * instantiates from this data without deciding anything, without Python and without the GIL
 * (instances.h), so the result is the same in all groups.
 *
 * States: filled in by its creator, under the write lock, before any group sees it (pl_library_new
 * copies its arguments); then read-only except for two atomic parts: the targets of the
 * trampolines, which are found one by one as the guest calls them, and `unloaded`.
 *
 * Targets: pl_library_bind publishes one (release), pl_library_target loads it (acquire). The
 * leader of an unload clears them (pl_library_unbind) while every group is at the barrier, parked
 * or dead; a thread that loads a target is RUNNING, so it never sees one being cleared. A target is
 * two words; its number is stored relaxed before the library is released. They are read
 * consistently, because between two different targets of a trampoline there is always a
 * pl_library_unbind: groups that find a target at the same time, under read locks, find the same
 * one and store the same words (lookup.h), and no reader of the old target is left when the next
 * one is bound.
 *
 * Protects: nothing.
 * Requires: the write lock to create and change it, except for the targets.
 * Blocks: never.
 * Memory order: release and acquire for the targets, SeqCst for `unloaded`.
 * Threads: any may read. Reference-counted: its creator and each group that has instantiated it own
 * a reference. */
#ifndef PL_LIBRARY_H
#define PL_LIBRARY_H

#include "api.h"

/* The source of an import. */
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
    PL_SOURCE_HOST = 9,   /* a host function of `type` with `handle` */
    /* function `index` of the core itself (builtin.h), of `type`; it gets `handle` */
    PL_SOURCE_BUILTIN = 10,
    PL_SOURCE_TAG = 11, /* exception tag `index` of the group, of `type` */
    /* function `index` of the group, an enum pl_atomics_kind, of `type` */
    PL_SOURCE_ATOMICS = 13,
    /* callback `index` of the group, of `type` and, as callback.h has it, of type `value`; it
     * gets `handle` */
    PL_SOURCE_CALLBACK = 12
};

/* Trampolines in one module: few enough to compile quickly, so that a load can be interrupted
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

/* The data of a library. Exports are numbered in the order of the module; -1 is none. The names
 * are not copied. */
typedef struct pl_library_parts {
    const pl_module *code;
    /* of the lazily bound imports, PL_PLT_BLOCK in each module but the last; or NULL */
    const pl_module *const *trampolines;
    uint32_t trampoline_count;
    /* the library whose trampolines it uses, from number `plt_base` on, in place of its own; it is
     * loaded before this one and unloaded later. Or NULL */
    pl_library *plt_of;
    uint32_t plt_base;
    uintptr_t resolver; /* the handle of the callback for a trampoline without a target */
    const pl_source *sources;
    uint32_t source_count;
    const char *names;       /* of all exports, one after the other */
    const uint32_t *offsets; /* export_count + 1: where each begins, and where the last ends */
    uint32_t export_count;
    /* the exported functions that have slots side by side in the table, */
    const uint32_t *slot_exports;
    uint32_t slot_count;
    uint32_t slot_base; /* from here on */
    uint32_t place;     /* its index in each group's list, unique among loaded libraries */
    /* objects that the group takes from this library if it has none yet */
    int32_t export_memory, export_table, export_stack_pointer;
    int32_t export_tls_base;   /* a mutable i32 global */
    int32_t export_tls_init;   /* a function (i32) -> () */
    int32_t export_tls_relocs; /* a function () -> () */
    /* a function () -> (i32) that creates a block and returns its address: WASIX's
     * __wasix_init_tls */
    int32_t export_tls_make;
    /* unique for the code; 0: instances are not pooled (pool.h) */
    uint64_t code_number;
    uint64_t trampolines_number; /* unique for the code of the trampolines */
    uint32_t memory_base, memory_size, table_base, table_size; /* its allocations */
    /* the code exports a table called PL_WAITS for wait hooks (atomics.h), which is not counted
     * among the exports */
    int32_t rewritten;
} pl_library_parts;

/* Returns NULL if out of memory. */
pl_library *pl_library_new(const pl_library_parts *parts);
const pl_library_parts *pl_library_parts_of(const pl_library *library);
void pl_library_retain(pl_library *library);
void pl_library_release(pl_library *library);

/* Returns the name of export `index`, not terminated. */
const char *pl_library_name(const pl_library *library, uint32_t index, size_t *length);

/* Sets `count` trampolines, its own and those that other libraries use, and the handle of their
 * resolver; once, before the library is loaded. Returns 0, or -1 if out of memory. */
int pl_library_set_trampolines(pl_library *library, const pl_module *const *trampolines,
                               uint32_t count, uintptr_t resolver);
/* Returns the number of modules of its trampolines. */
uint32_t pl_library_blocks(const pl_library *library);
/* Returns the owner of trampoline `index` of a library, and sets the number there: the library
 * itself, or `plt_of`. */
pl_library *pl_library_plt(const pl_library *library, uint32_t *index);

/* Binds trampoline `index` to export `export_index` of `target`. */
void pl_library_bind(pl_library *library, uint32_t index, pl_library *target,
                     uint32_t export_index);
/* Makes trampoline `index` unbound again. */
void pl_library_unbind(pl_library *library, uint32_t index);
/* Returns the target of a trampoline, or NULL if it is unbound. */
pl_library *pl_library_target(const pl_library *library, uint32_t index, uint32_t *export_index);

/* The image is the data that instantiation wrote into its part of the memory, except for zeros at
 * the end. pl_library_take_image copies it, at the first call only. pl_library_share_image uses the
 * image of another library, and writes it to `data`. By the leader of a load, under the write
 * lock. */
void pl_library_take_image(pl_library *library, const uint8_t *data, size_t size);
int pl_library_has_image(const pl_library *library);
void pl_library_share_image(pl_library *library, const pl_library *from, uint8_t *data);

/* Marks the library unloaded: a group that was parked skips its load. Under the write lock; read
 * under a read lock. */
void pl_library_set_unloaded(pl_library *library);
int pl_library_is_unloaded(const pl_library *library);

#endif
