/* api: the table of wasmtime entry points that the core calls.
 *
 * The core is compiled without wasmtime's headers and linked without its library: at import Python
 * passes the address of every function that it found in wasmtime's own shared library. So the core
 * always calls the one copy of wasmtime that the `wasmtime` package has loaded, whatever its file
 * is called.
 *
 * States: empty, then complete.
 * Protects: nothing. The import lock serializes pl_api_set; the table is read-only afterwards, so
 * readers need no lock.
 * Requires: pl_api_missing() returns NULL before any other function of the core is called.
 * Blocks: never.
 * Memory order: plain; the import lock orders the writes before all reads.
 * Threads: one while the table is filled, then any.
 *
 *     for (size_t i = 0; pl_api_name(i); i++) pl_api_set(i, dlsym(wasmtime, pl_api_name(i)));
 *     assert(pl_api_missing() == NULL); */
#ifndef PL_API_H
#define PL_API_H

#include <stddef.h>
#include <stdint.h>

/* Opaque wasmtime objects. wasmtime makes them; the core only passes pointers to them. */
typedef struct pl_engine pl_engine;   /* wasm_engine_t */
typedef struct pl_store pl_store;     /* wasmtime_store_t */
typedef struct pl_context pl_context; /* wasmtime_context_t */
typedef struct pl_linker pl_linker;   /* wasmtime_linker_t */
typedef struct pl_module pl_module;   /* wasmtime_module_t */
typedef struct pl_error pl_error;     /* wasmtime_error_t: owned by its receiver */
typedef struct pl_trap pl_trap;       /* wasm_trap_t: owned by its receiver */
typedef struct pl_caller pl_caller;   /* wasmtime_caller_t: valid during one host call */
typedef struct pl_type pl_type;       /* wasm_functype_t and the like */

/* wasm_byte_vec_t */
typedef struct pl_bytes {
    size_t size;
    char *data;
} pl_bytes;

/* wasm_frame_vec_t */
typedef struct pl_frames {
    size_t size;
    void **data;
} pl_frames;

/* wasmtime_trap_code_t */
enum pl_trap_code { PL_TRAP_OUT_OF_BOUNDS = 1, PL_TRAP_UNALIGNED = 2, PL_TRAP_NOT_SHARED = 12 };

/* Returns the name of entry `index`, or NULL past the last one. */
const char *pl_api_name(size_t index);

/* Returns the signature of entry `index`, one letter for each type with the result first, to be
 * compared with wasmtime's own declaration; NULL past the last one.
 *
 *     v void    ? bool    B uint8_t    q int64_t    Q uint64_t or size_t    p any other pointer
 *     h wasmtime_func_unchecked_callback_t    f a finalizer
 *     d the callback of wasmtime_store_epoch_deadline_callback */
const char *pl_api_shape(size_t index);

/* Sets entry `index` to the address of the function called pl_api_name(index). Returns 0, or -1 if
 * there is no such entry. */
int pl_api_set(size_t index, void *address);

/* Returns the name of the first entry that is not set, or NULL when the table is complete. */
const char *pl_api_missing(void);

#endif
