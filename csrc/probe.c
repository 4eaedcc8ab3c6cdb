/* Discipline: all state is thread-local or on the stack. */
#include "probe.h"

#include "api_table.h"

#include <string.h>

const char *pl_probe_text(void) {
    return "(module"
           " (import \"\" \"shared\" (memory 1 2 shared))"
           " (import \"\" \"function\" (func $host (param i32 i64 f32 f64) (result i64)))"
           " (import \"\" \"cell\" (global $cell (mut i32)))"
           " (import \"\" \"table\" (table 2 4 funcref))"
           " (import \"\" \"tag\" (tag $tag (param i32)))"
           " (import \"\" \"memory\" (memory $own 1 2))"
           " (func (export \"call\") (param i32 i64 f32 f64) (result i64)"
           "  local.get 0 local.get 1 local.get 2 local.get 3 call $host global.get $cell "
           "i64.extend_i32_s i64.add)"
           " (func (export \"store\") (i32.store 0 (i32.const 8) (i32.const 77)) (i32.store $own "
           "(i32.const 8) (i32.const 78)))"
           " (func (export \"spin\") (loop (br 0)))"
           " (func (export \"trap\") unreachable)"
           " (func (export \"throw\") i32.const 1 throw $tag))";
}

enum { CALLS = 4 };

struct seen {
    pl_engine *engine;
    pl_value values[CALLS]; /* the arguments of the host function */
    int refuse;             /* it traps */
    int deadlines;
};

static pl_trap *host(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    struct seen *seen = environment;
    (void)caller;
    memcpy(seen->values, values, (count < CALLS ? count : CALLS) * sizeof *values);
    if (seen->refuse) {
        return pl_wasmtime.trap_new("refused", 7);
    }
    values[0].i64 = INT64_C(1) << 40;
    return NULL;
}

/* The first time the guest goes on, the second time it ends. Its deadline is the current epoch, so
 * its next check calls back again. */
static pl_error *deadline(pl_context *context, void *data, uint64_t *delta, uint8_t *kind) {
    struct seen *seen = data;
    (void)context;
    *delta = 0;
    *kind = 0;
    return ++seen->deadlines == 2 ? pl_wasmtime.error_new("over") : NULL;
}

/* Returns the status of a call of an export. */
enum end { RETURNED, TRAPPED, FAILED_IN_GUEST, FAILED, MISSING };

static enum end call(pl_context *context, const pl_instance *instance, const char *name,
                     pl_value *values, size_t count) {
    pl_extern function;
    if (!pl_wasmtime.instance_export_get(context, instance, name, strlen(name), &function) ||
        function.kind != PL_EXTERN_FUNC) {
        return MISSING;
    }
    pl_trap *trap = NULL;
    pl_error *error =
        pl_wasmtime.func_call_unchecked(context, &function.of.func, values, count, &trap);
    if (error != NULL) {
        enum end end = pl_error_is_of_guest(error) ? FAILED_IN_GUEST : FAILED;
        pl_wasmtime.error_delete(error);
        return end;
    }
    if (trap != NULL) {
        pl_wasmtime.trap_delete(trap);
        return TRAPPED;
    }
    return RETURNED;
}

static int ended_by_guest(enum end end) { return end == TRAPPED || end == FAILED_IN_GUEST; }

static const char *failed(pl_error *error, const char *what) {
    if (error == NULL) {
        return NULL;
    }
    pl_wasmtime.error_delete(error);
    return what;
}

static const char *try_table(pl_context *context, const pl_table *table, const pl_func *func) {
    pl_func found;
    if (pl_table_size(context, table) != 2 || pl_table_get(context, table, 0, &found) != 0) {
        return "a new slot of a table is not null";
    }
    if (pl_table_get(context, table, 2, &found) != -1) {
        return "a table has slots beyond its size";
    }
    const char *problem =
        failed(pl_table_set(context, table, 1, func), "a slot of a table cannot be set");
    if (problem == NULL && (pl_table_get(context, table, 1, &found) != 1 ||
                            found.store != func->store || found.body != func->body)) {
        problem = "a slot of a table has another function than it was given";
    }
    if (problem == NULL) {
        problem = failed(pl_table_grow(context, table, 1), "a table does not grow");
    }
    if (problem == NULL &&
        (pl_table_size(context, table) != 3 || pl_table_get(context, table, 2, &found) != 0)) {
        problem = "a slot that a table has grown by is not null";
    }
    if (problem == NULL) {
        problem =
            failed(pl_table_set(context, table, 1, NULL), "a slot of a table cannot be emptied");
    }
    return problem != NULL || pl_table_get(context, table, 1, &found) == 0
               ? problem
               : "an emptied slot is not null";
}

static const char *try_memory(pl_context *context, const pl_extern *memory, uint32_t expected,
                              const char *what) {
    uint32_t word;
    uint64_t before = 0;
    if (pl_memory_size(context, memory) != 65536) {
        return what;
    }
    memcpy(&word, pl_memory_data(context, memory) + 8, sizeof word);
    if (word != expected || failed(pl_memory_grow(context, memory, 1, &before), what) != NULL) {
        return what;
    }
    return before == 1 && pl_memory_size(context, memory) == 131072 ? NULL : what;
}

static const char *try_calls(pl_context *context, const pl_instance *instance, struct seen *seen) {
    pl_value values[CALLS] = {{.i64 = 0}, {.i64 = -2}, {.i64 = 0}, {.f64 = 2.25}};
    values[0].i32 = -7;
    values[2].f32 = 1.5F;
    if (call(context, instance, "call", values, CALLS) != RETURNED) {
        return "a guest cannot be called";
    }
    if (seen->values[0].i32 != -7 || seen->values[1].i64 != -2 || seen->values[2].f32 != 1.5F ||
        seen->values[3].f64 != 2.25) {
        return "a host function gets other arguments than it was called with";
    }
    if (values[0].i64 != (INT64_C(1) << 40) + 21) {
        return "a call returns another result, or a global has another value";
    }
    seen->refuse = 1;
    if (!ended_by_guest(call(context, instance, "call", values, CALLS))) {
        return "a trap of a host function does not end a call, or has no backtrace";
    }
    if (call(context, instance, "trap", values, 0) != TRAPPED ||
        !ended_by_guest(call(context, instance, "throw", values, 0))) {
        return "a trap or an exception does not end a call";
    }
    pl_wasmtime.context_set_epoch_deadline(context, 1);
    pl_wasmtime.engine_increment_epoch(seen->engine);
    if (!ended_by_guest(call(context, instance, "spin", values, 0)) || seen->deadlines != 2) {
        return "an epoch callback does not let a guest go on, or does not end it";
    }
    return NULL;
}

static const char *in_store(pl_store *store, pl_context *context, const pl_module *module,
                            pl_shared_memory *shared, const pl_probe_types *types,
                            struct seen *seen) {
    enum { SHARED, FUNCTION, CELL, TABLE, TAG, MEMORY, IMPORTS };
    pl_extern imports[IMPORTS] = {
        [SHARED] = {.kind = PL_EXTERN_SHARED_MEMORY},
        [FUNCTION] = {.kind = PL_EXTERN_FUNC},
        [CELL] = {.kind = PL_EXTERN_GLOBAL},
        [TABLE] = {.kind = PL_EXTERN_TABLE},
        [TAG] = {.kind = PL_EXTERN_TAG},
        [MEMORY] = {.kind = PL_EXTERN_MEMORY},
    };
    imports[SHARED].of.shared_memory = shared;
    pl_wasmtime.store_epoch_deadline_callback(store, deadline, seen, NULL);
    pl_wasmtime.context_set_epoch_deadline(context, 1000);
    pl_wasmtime.func_new_unchecked(context, types->function, host, seen, NULL,
                                   &imports[FUNCTION].of.func);
    const char *problem =
        failed(pl_global_new_i32(context, types->cell, 20, &imports[CELL].of.handle),
               "a global cannot be made");
    if (problem == NULL) {
        problem = failed(pl_table_new(context, types->table, &imports[TABLE].of.handle),
                         "a table cannot be made");
    }
    if (problem == NULL) {
        problem = failed(pl_wasmtime.tag_new(context, types->tag, &imports[TAG].of.handle),
                         "a tag cannot be made");
    }
    if (problem == NULL) {
        problem = failed(pl_memory_new(context, types->memory, &imports[MEMORY].of.handle),
                         "a memory cannot be made");
    }
    if (problem != NULL) {
        return problem;
    }
    pl_instance instance;
    pl_trap *trap = NULL;
    pl_error *error = pl_wasmtime.instance_new(context, module, imports, IMPORTS, &instance, &trap);
    if (error != NULL || trap != NULL) {
        if (trap != NULL) {
            pl_wasmtime.trap_delete(trap);
        }
        if (error != NULL) {
            pl_wasmtime.error_delete(error);
        }
        return "a module does not accept the kinds of its imports";
    }
    if (pl_global_get_i32(context, &imports[CELL].of.handle) != 20) {
        return "a global has another value than it was made with";
    }
    problem =
        failed(pl_global_set_i32(context, &imports[CELL].of.handle, 21), "a global cannot be set");
    if (problem == NULL) {
        problem = try_table(context, &imports[TABLE].of.handle, &imports[FUNCTION].of.func);
    }
    if (problem == NULL && call(context, &instance, "store", NULL, 0) != RETURNED) {
        problem = "a guest cannot be called";
    }
    if (problem == NULL) {
        problem =
            try_memory(context, &imports[SHARED], 77, "a shared memory is not what its guest uses");
    }
    if (problem == NULL) {
        problem = try_memory(context, &imports[MEMORY], 78, "a memory is not what its guest uses");
    }
    return problem != NULL ? problem : try_calls(context, &instance, seen);
}

const char *pl_probe(pl_engine *engine, const pl_module *module, pl_shared_memory *shared,
                     const pl_probe_types *types) {
    struct seen seen = {.engine = engine};
    pl_error *error = pl_wasmtime.error_new("an error of no guest");
    int is_of_guest = pl_error_is_of_guest(error);
    pl_wasmtime.error_delete(error);
    if (is_of_guest) {
        return "an error that no guest was part of has a backtrace";
    }
    pl_store *store = pl_store_new(engine, -1, -1);
    const char *problem = in_store(store, pl_store_context(store), module, shared, types, &seen);
    pl_store_free(store);
    return problem;
}
