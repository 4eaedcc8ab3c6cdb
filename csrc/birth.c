#include "birth.h"

#include "api_table.h"

static int fail(pl_birth *birth, int stage, pl_error *error) {
    *pl_instances_trouble(birth->instances) =
        (pl_trouble){.stage = stage, .failure = {.error = error}};
    return -1;
}

int pl_birth_give(pl_birth *birth) {
    birth->store = pl_store_new(birth->engine, birth->memory_limit, birth->table_limit);
    pl_context *context = pl_store_context(birth->store);
    pl_epoch_install(birth->store, context, birth->watch);
    birth->instances = pl_instances_new(birth->group, context, birth->process, birth->callback,
                                        birth->check, birth->handle);
    if (birth->instances == NULL) {
        return -1;
    }
    pl_instances_set_memory(birth->instances, birth->memory);
    if (birth->table != NULL) {
        pl_extern table = {.kind = PL_EXTERN_TABLE, .of = {.handle = {0, 0, 0}}};
        pl_error *error = pl_table_new(context, birth->table, &table.of.handle);
        if (error != NULL) {
            return fail(birth, PL_STAGE_TABLE, error);
        }
        pl_instances_set_table(birth->instances, &table);
    }
    if (birth->stack_pointer != NULL) {
        pl_extern global = {.kind = PL_EXTERN_GLOBAL, .of = {.handle = {0, 0, 0}}};
        pl_error *error = pl_global_new_i32(context, birth->stack_pointer,
                                            (int32_t)birth->stack_top, &global.of.handle);
        if (error != NULL) {
            return fail(birth, PL_STAGE_MAKE, error);
        }
        pl_instances_set_stack_pointer(birth->instances, &global);
    }
    pl_operation everything = *birth->everything;
    everything.blocks = (pl_block *)birth->blocks;
    everything.block_count = birth->block_count;
    return pl_replay_operation(birth->instances, &everything, birth->handle, 0);
}
