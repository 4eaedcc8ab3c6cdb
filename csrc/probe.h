/* probe: verifies behaviour of the loaded wasmtime that its headers do not declare but the core
 * relies on.
 *
 * pl_probe exercises each kind of object once, through the entries of api.h: the numbers of
 * wasmtime's enumerations (kinds of externs and values, results of an epoch callback), the layout
 * of raw values, null references, shared memories, traps, errors and tags. It uses its own store in
 * `engine`.
 *
 * Protects: nothing.
 * Requires: a complete table (api.h); an engine with epoch interruption, and a module of
 * pl_probe_text() compiled for it.
 * Blocks: never.
 * Returns: NULL, or a static text that names the difference.
 * Threads: any. */
#ifndef PL_PROBE_H
#define PL_PROBE_H

#include "wrappers.h"

/* The types of the imports of the module, in this order. */
typedef struct pl_probe_types {
    const pl_type *function; /* wasm_functype_t, (i32, i64, f32, f64) -> i64 */
    const pl_type *cell;     /* wasm_globaltype_t, a mutable i32 */
    const pl_type *table;    /* wasm_tabletype_t, 2 to 4 of funcref */
    const pl_type *tag;      /* wasm_tagtype_t, (i32) */
    const pl_type *memory;   /* wasm_memorytype_t, 1 to 2 pages, not shared */
} pl_probe_types;

/* pl_probe_text returns the text of the module. `shared` is a shared memory of 1 to 2 pages. */
const char *pl_probe_text(void);
const char *pl_probe(pl_engine *engine, const pl_module *module, pl_shared_memory *shared,
                     const pl_probe_types *types);

#endif
