/* Discipline: no state; each store belongs to the calling thread. */
#include "wrappers.h"

#include "api_table.h"

_Static_assert(sizeof(pl_extern) == 32 && offsetof(pl_extern, of) == 8, "wasmtime_extern_t");
_Static_assert(sizeof(pl_cell) == 32 && offsetof(pl_cell, of) == 8, "wasmtime_val_t");
_Static_assert(sizeof(pl_instance) == 16, "wasmtime_instance_t");

#define PL_ANY (INT64_MAX / 2)

pl_store *pl_store_new(pl_engine *engine, int64_t memory, int64_t table) {
    pl_store *store = pl_wasmtime.store_new(engine, NULL, NULL);
    pl_wasmtime.store_limiter(store, memory, table, PL_ANY, PL_ANY, PL_ANY);
    return store;
}

void pl_store_free(pl_store *store) {
    if (store != NULL) {
        pl_wasmtime.store_delete(store);
    }
}

pl_context *pl_store_context(pl_store *store) { return pl_wasmtime.store_context(store); }

int pl_instance_new(pl_context *context, const pl_module *module, const pl_extern *imports,
                    size_t count, pl_instance *result, pl_failure *failure) {
    failure->trap = NULL;
    pl_hosted before = pl_calling();
    failure->error =
        pl_wasmtime.instance_new(context, module, imports, count, result, &failure->trap);
    pl_called(before, failure->error != NULL || failure->trap != NULL, failure);
    return failure->error ? PL_ERROR : failure->trap ? PL_TRAP : PL_OK;
}

int pl_instance_export(pl_context *context, const pl_instance *instance, const char *name,
                       size_t length, pl_extern *result) {
    return pl_wasmtime.instance_export_get(context, instance, name, length, result) ? 1 : 0;
}

int pl_linker_get(const pl_linker *linker, pl_context *context, const char *module,
                  size_t module_length, const char *name, size_t length, pl_extern *result) {
    return pl_wasmtime.linker_get(linker, context, module, module_length, name, length, result) ? 1
                                                                                                : 0;
}

static pl_cell i32_cell(int32_t value) {
    pl_cell cell = {.kind = PL_CELL_I32, .of = {.room = {0}}};
    cell.of.i32 = value;
    return cell;
}

static pl_cell func_cell(const pl_func *func) {
    pl_cell cell = {.kind = PL_CELL_FUNCREF, .of = {.room = {0}}};
    if (func) {
        cell.of.func = *func;
    }
    return cell;
}

pl_error *pl_global_new_i32(pl_context *context, const pl_type *type, int32_t value,
                            pl_global *result) {
    pl_cell cell = i32_cell(value);
    return pl_wasmtime.global_new(context, type, &cell, result);
}

int32_t pl_global_get_i32(pl_context *context, const pl_global *global) {
    pl_cell cell = i32_cell(0);
    pl_wasmtime.global_get(context, global, &cell);
    return cell.of.i32;
}

pl_error *pl_global_set_i32(pl_context *context, const pl_global *global, int32_t value) {
    pl_cell cell = i32_cell(value);
    return pl_wasmtime.global_set(context, global, &cell);
}

pl_error *pl_table_new(pl_context *context, const pl_type *type, pl_table *result) {
    pl_cell null = func_cell(NULL);
    return pl_wasmtime.table_new(context, type, &null, result);
}

uint64_t pl_table_size(pl_context *context, const pl_table *table) {
    return pl_wasmtime.table_size(context, table);
}

pl_error *pl_table_grow(pl_context *context, const pl_table *table, uint64_t delta) {
    pl_cell null = func_cell(NULL);
    uint64_t before;
    return pl_wasmtime.table_grow(context, table, delta, &null, &before);
}

int pl_table_get(pl_context *context, const pl_table *table, uint64_t index, pl_func *result) {
    pl_cell cell;
    if (!pl_wasmtime.table_get(context, table, index, &cell)) {
        return -1;
    }
    if (cell.of.func.store == 0) {
        return 0;
    }
    *result = cell.of.func;
    return 1;
}

pl_error *pl_table_set(pl_context *context, const pl_table *table, uint64_t index,
                       const pl_func *func) {
    pl_cell cell = func_cell(func);
    return pl_wasmtime.table_set(context, table, index, &cell);
}

pl_error *pl_memory_new(pl_context *context, const pl_type *type, pl_memory *result) {
    return pl_wasmtime.memory_new(context, type, result);
}

uint8_t *pl_memory_data(pl_context *context, const pl_extern *memory) {
    return memory->kind == PL_EXTERN_SHARED_MEMORY
               ? pl_wasmtime.sharedmemory_data(memory->of.shared_memory)
               : pl_wasmtime.memory_data(context, &memory->of.handle);
}

size_t pl_memory_size(pl_context *context, const pl_extern *memory) {
    return memory->kind == PL_EXTERN_SHARED_MEMORY
               ? pl_wasmtime.sharedmemory_data_size(memory->of.shared_memory)
               : pl_wasmtime.memory_data_size(context, &memory->of.handle);
}

pl_error *pl_memory_grow(pl_context *context, const pl_extern *memory, uint64_t delta,
                         uint64_t *before) {
    return memory->kind == PL_EXTERN_SHARED_MEMORY
               ? pl_wasmtime.sharedmemory_grow(memory->of.shared_memory, delta, before)
               : pl_wasmtime.memory_grow(context, &memory->of.handle, delta, before);
}
