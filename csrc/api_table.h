/* api_table: the entries behind api.h. Internal to the core: cffi does not see it.
 *
 * Protects: nothing.
 * Requires: a complete table (api.h).
 * Blocks: as the wasmtime function does.
 * Threads: any. */
#ifndef PL_API_TABLE_H
#define PL_API_TABLE_H

#include "call.h"
#include "epoch.h"
#include "hostfn.h"
#include "wrappers.h"

#include <stdbool.h>

/* Types of the callbacks that wasmtime calls. */
typedef pl_trap *pl_host_function(void *, pl_caller *, pl_value *, size_t);
typedef pl_error *pl_deadline_callback(pl_context *, void *, uint64_t *, uint8_t *);
typedef void pl_finalizer(void *);

/* X(result, name without its prefix, parameters). The position of an entry is its index for
 * pl_api_name. At most seven parameters (api.c). */
#define PL_API_ENTRIES(X)                                                                          \
    X(pl_error *, func_call_unchecked,                                                             \
      (pl_context *, const pl_func *, pl_value *, size_t, pl_trap **))                             \
    X(void, func_new_unchecked,                                                                    \
      (pl_context *, const pl_type *, pl_host_function *, void *, pl_finalizer *, pl_func *))      \
    X(pl_store *, store_new, (pl_engine *, void *, pl_finalizer *))                                \
    X(pl_context *, store_context, (pl_store *))                                                   \
    X(void, store_limiter, (pl_store *, int64_t, int64_t, int64_t, int64_t, int64_t))              \
    X(void, store_delete, (pl_store *))                                                            \
    X(void, engine_increment_epoch, (pl_engine *))                                                 \
    X(void, context_set_epoch_deadline, (pl_context *, uint64_t))                                  \
    X(void, store_epoch_deadline_callback,                                                         \
      (pl_store *, pl_deadline_callback *, void *, pl_finalizer *))                                \
    X(pl_error *, error_new, (const char *))                                                       \
    X(void, error_delete, (pl_error *))                                                            \
    X(void, error_message, (const pl_error *, pl_bytes *))                                         \
    X(void, error_wasm_trace, (const pl_error *, pl_frames *))                                     \
    X(pl_trap *, trap_new, (const char *, size_t))                                                 \
    X(pl_trap *, trap_new_code, (uint8_t))                                                         \
    X(pl_error *, instance_new,                                                                    \
      (pl_context *, const pl_module *, const pl_extern *, size_t, pl_instance *, pl_trap **))     \
    X(bool, linker_get,                                                                            \
      (const pl_linker *, pl_context *, const char *, size_t, const char *, size_t, pl_extern *))  \
    X(bool, instance_export_get,                                                                   \
      (pl_context *, const pl_instance *, const char *, size_t, pl_extern *))                      \
    X(pl_error *, global_new, (pl_context *, const pl_type *, const pl_cell *, pl_global *))       \
    X(void, global_get, (pl_context *, const pl_global *, pl_cell *))                              \
    X(pl_error *, global_set, (pl_context *, const pl_global *, const pl_cell *))                  \
    X(pl_error *, tag_new, (pl_context *, const pl_type *, pl_handle *))                           \
    X(pl_error *, table_new, (pl_context *, const pl_type *, const pl_cell *, pl_table *))         \
    X(bool, table_get, (pl_context *, const pl_table *, uint64_t, pl_cell *))                      \
    X(pl_error *, table_set, (pl_context *, const pl_table *, uint64_t, const pl_cell *))          \
    X(uint64_t, table_size, (pl_context *, const pl_table *))                                      \
    X(pl_error *, table_grow,                                                                      \
      (pl_context *, const pl_table *, uint64_t, const pl_cell *, uint64_t *))                     \
    X(pl_error *, memory_new, (pl_context *, const pl_type *, pl_memory *))                        \
    X(uint8_t *, memory_data, (pl_context *, const pl_memory *))                                   \
    X(size_t, memory_data_size, (pl_context *, const pl_memory *))                                 \
    X(pl_error *, memory_grow, (pl_context *, const pl_memory *, uint64_t, uint64_t *))            \
    X(uint8_t *, sharedmemory_data, (const pl_shared_memory *))                                    \
    X(size_t, sharedmemory_data_size, (const pl_shared_memory *))                                  \
    X(pl_error *, sharedmemory_grow, (const pl_shared_memory *, uint64_t, uint64_t *))

/* The same for functions with the prefix wasm_ in place of wasmtime_. */
#define PL_API_PLAIN_ENTRIES(X)                                                                    \
    X(void, byte_vec_delete, (pl_bytes *))                                                         \
    X(void, frame_vec_delete, (pl_frames *))                                                       \
    X(void, trap_delete, (pl_trap *))

struct pl_api {
#define PL_API_FIELD(result, name, parameters) result(*name) parameters;
    PL_API_ENTRIES(PL_API_FIELD)
    PL_API_PLAIN_ENTRIES(PL_API_FIELD)
#undef PL_API_FIELD
};

/* Read-only once complete: see api.h. */
extern struct pl_api pl_wasmtime;

#endif
