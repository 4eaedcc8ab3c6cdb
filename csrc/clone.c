/* Discipline: the thread of the parent owns the pl_clone and the new group. */
#include "clone.h"

#include "api_table.h"

static int fail(pl_clone *clone, int stage, pl_error *error) {
    *pl_instances_error(clone->instances) =
        (pl_error_record){.stage = stage, .failure = {.error = error}};
    return -1;
}

int pl_clone_group(pl_clone *clone) {
    clone->store = pl_store_new(clone->engine, clone->memory_limit, clone->table_limit);
    pl_context *context = pl_store_context(clone->store);
    pl_epoch_install(clone->store, context, clone->watch);
    clone->instances = pl_instances_new(clone->group, context, clone->process, clone->callback,
                                        clone->check, clone->handle);
    if (clone->instances == NULL) {
        return -1;
    }
    pl_instances_set_memory(clone->instances, clone->memory);
    if (clone->table != NULL) {
        pl_extern table = {.kind = PL_EXTERN_TABLE, .of = {.handle = {0, 0, 0}}};
        pl_error *error = pl_table_new(context, clone->table, &table.of.handle);
        if (error != NULL) {
            return fail(clone, PL_STAGE_TABLE, error);
        }
        pl_instances_set_table(clone->instances, &table);
    }
    if (clone->stack_pointer != NULL) {
        pl_extern global = {.kind = PL_EXTERN_GLOBAL, .of = {.handle = {0, 0, 0}}};
        pl_error *error = pl_global_new_i32(context, clone->stack_pointer,
                                            (int32_t)clone->stack_top, &global.of.handle);
        if (error != NULL) {
            return fail(clone, PL_STAGE_MAKE, error);
        }
        pl_instances_set_stack_pointer(clone->instances, &global);
    }
    pl_operation snapshot = *clone->snapshot;
    snapshot.blocks = (pl_block *)clone->blocks;
    snapshot.block_count = clone->block_count;
    return pl_replay_operation(clone->instances, &snapshot, clone->handle, 0);
}
