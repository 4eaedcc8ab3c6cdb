/* Discipline: a pooled instance belongs to the thread of its group; images are counted in
 * library.c. */
#include "pool.h"

#include <stdlib.h>
#include <string.h>

/* Room for `count` items, at least one. */
static void *room(size_t count, size_t size) { return calloc(count != 0 ? count : 1, size); }

pl_pooled *pl_pooled_new(pl_library *library) {
    const pl_library_parts *parts = pl_library_parts_of(library);
    pl_pooled *pooled = calloc(1, sizeof *pooled);
    if (pooled == NULL) {
        return NULL;
    }
    pooled->library = library;
    pl_library_retain(library);
    pooled->externs = room(parts->source_count, sizeof *pooled->externs);
    pooled->hosts = room(parts->source_count, sizeof *pooled->hosts);
    pooled->origins = room(parts->source_count, sizeof *pooled->origins);
    pooled->elements = room(parts->table_size, sizeof *pooled->elements);
    pooled->stubs = room(parts->trampoline_count, sizeof *pooled->stubs);
    if (pooled->externs == NULL || pooled->hosts == NULL || pooled->origins == NULL ||
        pooled->elements == NULL || pooled->stubs == NULL) {
        pl_pooled_free(pooled);
        return NULL;
    }
    return pooled;
}

void pl_pooled_free(pl_pooled *pooled) {
    if (pooled != NULL) {
        pl_library_release(pooled->library);
        free(pooled->externs);
        free(pooled->hosts);
        free(pooled->origins);
        free(pooled->elements);
        free(pooled->stubs);
        free(pooled);
    }
}

/* Returns its part of the memory, or NULL if that is out of bounds. */
static uint8_t *part(const pl_library_parts *parts, pl_context *context, const pl_extern *memory) {
    uint64_t end = (uint64_t)parts->memory_base + parts->memory_size;
    return memory != NULL && end <= pl_memory_size(context, memory)
               ? pl_memory_data(context, memory) + parts->memory_base
               : NULL;
}

void pl_pooled_take_image(pl_library *library, pl_context *context, const pl_extern *memory) {
    const pl_library_parts *parts = pl_library_parts_of(library);
    const uint8_t *data = part(parts, context, memory);
    if (data != NULL) {
        size_t size = parts->memory_size;
        /* the rest was zeroed, and will be again */
        while (size != 0 && data[size - 1] == 0) {
            size--;
        }
        pl_library_take_image(library, data, size);
    }
}

/* Returns the number of trampolines in the block that begins with number `first`. */
static uint32_t block_size(const pl_library_parts *parts, uint32_t first) {
    uint32_t rest = parts->trampoline_count - first;
    return rest < PL_PLT_BLOCK ? rest : PL_PLT_BLOCK;
}

/* Looks up the table of that block. Returns 0, or -1 if there is none. */
static int plt_at(const pl_pooled *pooled, pl_context *context, uint32_t first, pl_table *table) {
    pl_extern plt;
    if (!pl_instance_export(context, &pooled->plt->blocks[first / PL_PLT_BLOCK].instance, "plt", 3,
                            &plt) ||
        plt.kind != PL_EXTERN_TABLE) {
        return -1;
    }
    *table = plt.of.handle;
    return 0;
}

int pl_pooled_note_slots(pl_pooled *pooled, pl_context *context, const pl_extern *table) {
    const pl_library_parts *parts = pl_library_parts_of(pooled->library);
    for (uint32_t i = 0; i < parts->table_size; i++) {
        if (table == NULL || pl_table_get(context, &table->of.handle, parts->table_base + i,
                                          pooled->elements + i) < 0) {
            return 1;
        }
    }
    for (uint32_t first = 0; first < parts->trampoline_count; first += PL_PLT_BLOCK) {
        pl_table plt;
        uint32_t count = block_size(parts, first);
        if (plt_at(pooled, context, first, &plt) != 0) {
            return -1;
        }
        for (uint32_t i = 0; i < count; i++) {
            if (pl_table_get(context, &plt, i, pooled->stubs + first + i) != 1) {
                return -1;
            }
        }
    }
    return 0;
}

static int is_same_source(const pl_source *one, const pl_source *other) {
    if (one->kind != other->kind || one->index != other->index) {
        return 0;
    }
    switch (one->kind) {
    case PL_SOURCE_CONSTANT:
        return one->value == other->value;
    case PL_SOURCE_CALLBACK:
        return one->value == other->value && one->handle == other->handle;
    default: /* the value of a cell is set; all else belongs to the group */
        return 1;
    }
}

int pl_pooled_fits(const pl_pooled *pooled, const pl_library *library, int leading) {
    const pl_library_parts *one = pl_library_parts_of(pooled->library),
                           *other = pl_library_parts_of(library);
    if (one->code_number != other->code_number ||
        one->trampolines_number != other->trampolines_number ||
        one->memory_base != other->memory_base || one->memory_size != other->memory_size ||
        one->table_base != other->table_base || one->table_size != other->table_size ||
        one->source_count != other->source_count ||
        one->trampoline_count != other->trampoline_count) {
        return 0;
    }
    if (leading && !pl_library_has_image(pooled->library)) {
        return 0;
    }
    for (uint32_t i = 0; i < one->source_count; i++) {
        if (!is_same_source(one->sources + i, other->sources + i)) {
            return 0;
        }
    }
    return 1;
}

static pl_error *set(pl_context *context, const pl_table *table, uint32_t first,
                     const pl_func *functions, uint32_t count) {
    pl_error *error = NULL;
    for (uint32_t i = 0; i < count && error == NULL; i++) {
        error =
            pl_table_set(context, table, first + i, functions[i].store != 0 ? functions + i : NULL);
    }
    return error;
}

int pl_pooled_restore(const pl_pooled *pooled, pl_library *library, pl_context *context,
                      const pl_extern *memory, const pl_extern *table, int leading,
                      pl_error **error) {
    const pl_library_parts *parts = pl_library_parts_of(library);
    *error = NULL;
    if (parts->table_size != 0) {
        if (table == NULL) {
            return -1;
        }
        *error =
            set(context, &table->of.handle, parts->table_base, pooled->elements, parts->table_size);
    }
    for (uint32_t first = 0; *error == NULL && first < parts->trampoline_count;
         first += PL_PLT_BLOCK) {
        pl_table plt;
        if (plt_at(pooled, context, first, &plt) != 0) {
            return -1;
        }
        *error = set(context, &plt, 0, pooled->stubs + first, block_size(parts, first));
    }
    if (*error != NULL) {
        return -1;
    }
    if (leading) {
        uint8_t *data = part(parts, context, memory);
        if (data == NULL) {
            return -1;
        }
        pl_library_share_image(library, pooled->library, data);
    }
    return 0;
}
