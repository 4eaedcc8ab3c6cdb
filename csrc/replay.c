/* Discipline: the log is under the lock of the linker; the rest belongs to the group's thread. */
#include "replay.h"

#include "api_table.h"

static int fail(pl_instances *instances, int stage, uint64_t detail, pl_library *library,
                pl_error *error) {
    pl_error_record *record = pl_instances_error(instances);
    *record = (pl_error_record){.stage = stage,
                                .detail = (uint32_t)detail,
                                .library = library,
                                .failure = {.error = error}};
    return -1;
}

static int grow_table(pl_instances *instances, uint64_t size) {
    const pl_extern *table = pl_instances_table(instances);
    if (table == NULL) {
        return 0;
    }
    pl_context *context = pl_instances_context(instances);
    uint64_t has = pl_table_size(context, &table->of.handle);
    pl_error *error = has < size ? pl_table_grow(context, &table->of.handle, size - has) : NULL;
    return error != NULL ? fail(instances, PL_STAGE_TABLE, size, NULL, error) : 0;
}

static int set_slot(pl_instances *instances, uint64_t slot, const pl_func *func,
                    pl_library *library) {
    const pl_extern *table = pl_instances_table(instances);
    if (table == NULL) {
        return fail(instances, PL_STAGE_TABLE, slot + 1, library, NULL);
    }
    pl_error *error = pl_table_set(pl_instances_context(instances), &table->of.handle, slot, func);
    return error != NULL ? fail(instances, PL_STAGE_TABLE, slot + 1, library, error) : 0;
}

static int is_taken(pl_instances *instances, uint64_t slot) {
    const pl_extern *table = pl_instances_table(instances);
    pl_func func;
    return table != NULL &&
           pl_table_get(pl_instances_context(instances), &table->of.handle, slot, &func) == 1;
}

static void empty(pl_instances *instances, const pl_slots *slots) {
    const pl_extern *table = pl_instances_table(instances);
    pl_context *context = pl_instances_context(instances);
    uint64_t size = table != NULL ? pl_table_size(context, &table->of.handle) : 0;
    for (uint64_t slot = slots->first; slot < (uint64_t)slots->first + slots->count && slot < size;
         slot++) {
        pl_error *error = pl_table_set(context, &table->of.handle, slot, NULL);
        if (error != NULL) {
            pl_wasmtime.error_delete(error);
        }
    }
}

/* Steps of an older operation for a library that is unloaded by now are skipped. */
static int counts(const pl_library *library, int replaying) {
    return !replaying || !pl_library_is_unloaded(library);
}

static int load(pl_instances *instances, const pl_operation *operation, uintptr_t group,
                int replaying) {
    for (size_t i = 0; i < operation->loaded_count; i++) {
        pl_library *library = operation->loaded[i];
        if (!counts(library, replaying)) {
            continue;
        }
        uint64_t block = 0;
        for (size_t j = 0; j < operation->block_count && block == 0; j++) {
            const pl_block *wanted = operation->blocks + j;
            if (wanted->library == library && wanted->group == group &&
                wanted->address != PL_BLOCK_OWN) {
                block = wanted->address;
            }
        }
        int had_table = pl_instances_table(instances) != NULL;
        if (pl_instances_load(instances, library, (uint32_t)block, replaying) != 0) {
            return -1;
        }
        /* the table is an export of this library, with the initial size of its file */
        if (!had_table && grow_table(instances, operation->table_size) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Makes libraries create their own thread-local blocks (PL_BLOCK_OWN). */
static int make_blocks(pl_instances *instances, const pl_operation *operation, uintptr_t group,
                       int replaying) {
    for (size_t i = 0; i < operation->block_count; i++) {
        const pl_block *wanted = operation->blocks + i;
        if (wanted->address == PL_BLOCK_OWN && wanted->group == group &&
            counts(wanted->library, replaying) &&
            pl_instances_make_block(instances, wanted->library) != 0) {
            return -1;
        }
    }
    return 0;
}

static int patch(pl_instances *instances, const pl_patch *wanted, int replaying) {
    pl_extern function;
    if (!counts(wanted->library, replaying)) {
        return 0;
    }
    if (replaying && is_taken(instances, wanted->slot)) {
        return fail(instances, PL_STAGE_TAKEN, wanted->slot, wanted->library, NULL);
    }
    if (pl_instances_export(instances, wanted->library, wanted->export_index, &function) != 0 ||
        function.kind != PL_EXTERN_FUNC) {
        return fail(instances, PL_STAGE_EXPORT, wanted->export_index, wanted->library, NULL);
    }
    return set_slot(instances, wanted->slot, &function.of.func, wanted->library);
}

static int fill(pl_instances *instances, const pl_filling *wanted, int replaying) {
    pl_func function;
    if (replaying && is_taken(instances, wanted->slot)) {
        return fail(instances, PL_STAGE_TAKEN, wanted->slot, NULL, NULL);
    }
    return pl_instances_host(instances, &wanted->source, &function) != 0
               ? -1
               : set_slot(instances, wanted->slot, &function, NULL);
}

int pl_replay_operation(pl_instances *instances, const pl_operation *operation, uintptr_t group,
                        int replaying) {
    if (operation->table_size != 0 && grow_table(instances, operation->table_size) != 0) {
        return -1;
    }
    for (size_t i = 0; i < operation->emptied_count; i++) {
        empty(instances, operation->emptied + i);
    }
    for (size_t i = 0; i < operation->unbound_count; i++) {
        pl_instances_unbind(instances, operation->unbound[i].library,
                            (uint32_t)operation->unbound[i].index);
    }
    for (size_t i = 0; i < operation->dropped_count; i++) {
        pl_instances_drop(instances, operation->dropped[i]);
    }
    if (load(instances, operation, group, replaying) != 0) {
        return -1;
    }
    for (size_t i = 0; i < operation->patch_count; i++) {
        if (patch(instances, operation->patches + i, replaying) != 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < operation->noted_count; i++) {
        if (pl_closures_note(pl_instances_closures(instances), operation->noted[i].first,
                             operation->noted[i].count) != 0) {
            return fail(instances, PL_STAGE_ROOM, 0, NULL, NULL);
        }
    }
    for (size_t i = 0; i < operation->closure_count; i++) {
        if (pl_closures_prepare(pl_instances_closures(instances), instances,
                                operation->closures + i) != 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < operation->filling_count; i++) {
        if (fill(instances, operation->fillings + i, replaying) != 0) {
            return -1;
        }
    }
    return make_blocks(instances, operation, group, replaying);
}

static int follow(uintptr_t handle, uint64_t from, uint64_t to) {
    const pl_follower *follower = (const pl_follower *)handle;
    const pl_log *log = follower->log;
    int failed = grow_table(follower->instances, log->table_size);
    const pl_log_entry *entry = pl_log_from(log, from);
    const pl_log_entry *end = pl_log_from(log, to + 1);
    const pl_log_entry *last = end != NULL ? end : log->entries + log->start + pl_log_count(log);
    for (; entry != NULL && entry < last && !failed; entry++) {
        if (entry->operation != NULL) {
            failed = pl_replay_operation(follower->instances, entry->operation, follower->group, 1);
        }
    }
    if (failed) {
        follower->failed(follower->group);
    }
    return failed;
}

void pl_follower_install(pl_follower *follower) {
    pl_group_set_replay(pl_instances_group(follower->instances), follow, (uintptr_t)follower);
}
