/* Discipline: everything belongs to the group's thread. */
#include "closures.h"

#include "api_table.h"
#include "instances.h"

#include <stdlib.h>
#include <string.h>

/* An instance of a closure's module. */
struct made {
    const pl_module *code;
    pl_func function;
    pl_global backing, environment;
    struct made *next; /* of the unused ones */
};

/* The slots [first, first + count). */
struct block {
    uint32_t first, count;
    struct made **made; /* NULL: none yet */
};

struct pl_closures {
    struct block *blocks; /* in the order of their slots */
    size_t count;
    struct made *unused;
};

pl_closures *pl_closures_new(void) { return calloc(1, sizeof(pl_closures)); }

void pl_closures_free(pl_closures *closures) {
    if (closures == NULL) {
        return;
    }
    for (size_t i = 0; i < closures->count; i++) {
        for (uint32_t j = 0; j < closures->blocks[i].count; j++) {
            free(closures->blocks[i].made[j]);
        }
        free(closures->blocks[i].made);
    }
    while (closures->unused != NULL) {
        struct made *next = closures->unused->next;
        free(closures->unused);
        closures->unused = next;
    }
    free(closures->blocks);
    free(closures);
}

/* Returns the first block that does not end before `slot`. */
static size_t place_of(const pl_closures *closures, uint32_t slot) {
    size_t low = 0, high = closures->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct block *block = closures->blocks + middle;
        if (block->first + (uint64_t)block->count <= slot) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct made **find(const pl_closures *closures, uint32_t slot) {
    size_t place = place_of(closures, slot);
    const struct block *block = place < closures->count ? closures->blocks + place : NULL;
    return block != NULL && block->first <= slot ? block->made + (slot - block->first) : NULL;
}

int pl_closures_note(pl_closures *closures, uint32_t first, uint32_t count) {
    struct made **made = calloc(count ? count : 1, sizeof *made);
    struct block *blocks = realloc(closures->blocks, (closures->count + 1) * sizeof *blocks);
    if (blocks != NULL) {
        closures->blocks = blocks;
    }
    if (made == NULL || blocks == NULL) {
        free(made);
        return -1;
    }
    size_t place = place_of(closures, first);
    memmove(blocks + place + 1, blocks + place, (closures->count - place) * sizeof *blocks);
    blocks[place] = (struct block){.first = first, .count = count, .made = made};
    closures->count++;
    return 0;
}

int pl_closures_has(const pl_closures *closures, uint32_t slot) {
    return find(closures, slot) != NULL;
}

static int fail(pl_instances *instances, int stage, uint32_t detail, pl_failure failure) {
    *pl_instances_error(instances) =
        (pl_error_record){.stage = stage, .detail = detail, .failure = failure};
    return -1;
}

/* Creates the imports of the module in its order: the memory, the table, the stack pointer, the two
 * numbers. Returns an enum pl_stage. */
static int imports_of(pl_instances *instances, pl_extern *imports, pl_failure *failure) {
    const pl_extern *const known[] = {pl_instances_memory(instances), pl_instances_table(instances),
                                      pl_instances_stack_pointer(instances)};
    for (int i = 0; i < 3; i++) {
        if (known[i] == NULL) {
            return PL_STAGE_OBJECT;
        }
        imports[i] = *known[i];
    }
    for (int i = 3; i < 5; i++) {
        memset(imports + i, 0, sizeof *imports);
        imports[i].kind = PL_EXTERN_GLOBAL;
        failure->error = pl_global_new_i32(pl_instances_context(instances), pl_types_get()->cell, 0,
                                           &imports[i].of.handle);
        if (failure->error != NULL) {
            return PL_STAGE_MAKE;
        }
    }
    return PL_STAGE_NONE;
}

/* Returns a new instance, or NULL with the error record. */
static struct made *make(pl_instances *instances, const pl_closure *wanted) {
    pl_context *context = pl_instances_context(instances);
    pl_extern imports[5], function;
    pl_instance instance;
    pl_failure failure = {0};
    struct made *made = calloc(1, sizeof *made);
    int stage = made != NULL ? imports_of(instances, imports, &failure) : PL_STAGE_ROOM;
    if (stage == PL_STAGE_NONE &&
        pl_instance_new(context, wanted->code, imports, 5, &instance, &failure) != PL_OK) {
        stage = PL_STAGE_INSTANTIATE;
    }
    if (stage == PL_STAGE_NONE &&
        (!pl_instance_export(context, &instance, "closure", 7, &function) ||
         function.kind != PL_EXTERN_FUNC)) {
        stage = PL_STAGE_EXPORT;
    }
    if (stage != PL_STAGE_NONE) {
        fail(instances, stage, wanted->slot, failure);
        free(made);
        return NULL;
    }
    made->code = wanted->code;
    made->function = function.of.func;
    made->backing = imports[3].of.handle;
    made->environment = imports[4].of.handle;
    return made;
}

static struct made *take_free(pl_closures *closures, const pl_module *code) {
    for (struct made **place = &closures->unused; *place != NULL; place = &(*place)->next) {
        if ((*place)->code == code) {
            struct made *found = *place;
            *place = found->next;
            return found;
        }
    }
    return NULL;
}

int pl_closures_prepare(pl_closures *closures, pl_instances *instances, const pl_closure *wanted) {
    pl_context *context = pl_instances_context(instances);
    const pl_extern *table = pl_instances_table(instances);
    struct made **place = find(closures, wanted->slot);
    if (place == NULL || table == NULL) {
        return fail(instances, PL_STAGE_TABLE, wanted->slot + 1, (pl_failure){0});
    }
    if (*place == NULL || (*place)->code != wanted->code) {
        struct made *made = take_free(closures, wanted->code);
        made = made != NULL ? made : make(instances, wanted);
        if (made == NULL) {
            return -1;
        }
        if (*place != NULL) {
            (*place)->next = closures->unused;
            closures->unused = *place;
        }
        *place = made;
    }
    pl_failure failure = {0};
    failure.error = pl_global_set_i32(context, &(*place)->backing, (int32_t)wanted->backing);
    if (failure.error == NULL) {
        failure.error =
            pl_global_set_i32(context, &(*place)->environment, (int32_t)wanted->environment);
    }
    if (failure.error != NULL) {
        return fail(instances, PL_STAGE_MAKE, wanted->slot, failure);
    }
    failure.error = pl_table_set(context, &table->of.handle, wanted->slot, &(*place)->function);
    return failure.error != NULL ? fail(instances, PL_STAGE_TABLE, wanted->slot + 1, failure) : 0;
}
