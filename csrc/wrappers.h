/* wrappers: typed wrappers of the wasmtime calls for instances and their imports and exports.
 *
 * Each function is one call into wasmtime, with the untyped unions declared once, here.
 *
 * Protects: nothing.
 * Requires: the store behind `context` belongs to the calling thread. A pl_shared_memory may be
 * used by all threads at once.
 * Blocks: pl_instance_new runs the start function of the module; nothing else blocks.
 * Returns: a function that can fail returns a pl_error that the caller owns, or NULL.
 * Threads: one for each store. */
#ifndef PL_WRAPPERS_H
#define PL_WRAPPERS_H

#include "call.h"

/* wasmtime_table_t, wasmtime_memory_t, wasmtime_global_t, wasmtime_tag_t */
typedef struct pl_handle {
    uint64_t store;
    uint64_t index;
    uint64_t more;
} pl_handle;
typedef pl_handle pl_table;
typedef pl_handle pl_memory;
typedef pl_handle pl_global;

/* wasmtime_sharedmemory_t */
typedef struct pl_shared_memory pl_shared_memory;

/* wasmtime_instance_t */
typedef struct pl_instance {
    uint64_t store;
    size_t index;
} pl_instance;

enum pl_extern_kind {
    PL_EXTERN_FUNC = 0,
    PL_EXTERN_GLOBAL = 1,
    PL_EXTERN_TABLE = 2,
    PL_EXTERN_MEMORY = 3,
    PL_EXTERN_SHARED_MEMORY = 4,
    PL_EXTERN_TAG = 5
};

typedef union pl_extern_union {
    pl_func func;
    pl_handle handle;
    pl_shared_memory *shared_memory;
} pl_extern_union;

/* wasmtime_extern_t */
typedef struct pl_extern {
    uint8_t kind; /* enum pl_extern_kind */
    pl_extern_union of;
} pl_extern;

enum pl_cell_kind { PL_CELL_I32 = 0, PL_CELL_FUNCREF = 5 };

typedef union pl_cell_union {
    int32_t i32;
    pl_func func;     /* a null reference has store 0 */
    uint64_t room[3]; /* the size of wasmtime's largest member */
} pl_cell_union;

/* wasmtime_val_t, for the two kinds that linking needs */
typedef struct pl_cell {
    uint8_t kind; /* enum pl_cell_kind */
    pl_cell_union of;
} pl_cell;

/* Creates a store whose memories have at most `memory` bytes each and its tables `table` slots
 * (negative: unlimited). The number of memories, tables and instances is not limited: an instance
 * cannot be freed before its store, so a program that opens and closes libraries has many. */
pl_store *pl_store_new(pl_engine *engine, int64_t memory, int64_t table);
void pl_store_free(pl_store *store);
pl_context *pl_store_context(pl_store *store);

/* Instantiates `module` with `count` imports in the module's own order. Returns an enum
 * pl_status. */
int pl_instance_new(pl_context *context, const pl_module *module, const pl_extern *imports,
                    size_t count, pl_instance *result, pl_failure *failure);

/* Looks up one export by name (`length` bytes, not terminated). Returns 1 and sets `result`, or
 * 0. */
int pl_instance_export(pl_context *context, const pl_instance *instance, const char *name,
                       size_t length, pl_extern *result);

/* Looks up a definition of a wasmtime linker. Returns 1 and sets `result`, or 0. */
int pl_linker_get(const pl_linker *linker, pl_context *context, const char *module,
                  size_t module_length, const char *name, size_t length, pl_extern *result);

/* `type` is a wasm_globaltype_t of an i32. */
pl_error *pl_global_new_i32(pl_context *context, const pl_type *type, int32_t value,
                            pl_global *result);
int32_t pl_global_get_i32(pl_context *context, const pl_global *global);
pl_error *pl_global_set_i32(pl_context *context, const pl_global *global, int32_t value);

/* `type` is a wasm_tabletype_t of funcref; all slots start null. */
pl_error *pl_table_new(pl_context *context, const pl_type *type, pl_table *result);
uint64_t pl_table_size(pl_context *context, const pl_table *table);
/* Adds `delta` null slots. */
pl_error *pl_table_grow(pl_context *context, const pl_table *table, uint64_t delta);
/* Returns 1 and the function in a slot, 0 if the slot is null, -1 if it is out of bounds. */
int pl_table_get(pl_context *context, const pl_table *table, uint64_t index, pl_func *result);
/* A null `func` clears the slot. */
pl_error *pl_table_set(pl_context *context, const pl_table *table, uint64_t index,
                       const pl_func *func);

/* `type` is a wasm_memorytype_t. */
pl_error *pl_memory_new(pl_context *context, const pl_type *type, pl_memory *result);

/* A memory of either kind: `kind` is PL_EXTERN_MEMORY or PL_EXTERN_SHARED_MEMORY. */
uint8_t *pl_memory_data(pl_context *context, const pl_extern *memory);
size_t pl_memory_size(pl_context *context, const pl_extern *memory);
/* Adds `delta` pages and sets `before` to the previous size in pages. */
pl_error *pl_memory_grow(pl_context *context, const pl_extern *memory, uint64_t delta,
                         uint64_t *before);

#endif
