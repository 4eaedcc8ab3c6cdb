/* Discipline: `parts` is read-only; `targets`, `unloaded` and `owners` are atomic; the image is
 * under the lock of the linker. */
#include "library.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct target {
    _Atomic(pl_library *) library; /* published last */
    _Atomic uint32_t export_index;
};

struct image {
    atomic_size_t owners;
    size_t size;
    uint8_t data[];
};

struct pl_library {
    pl_library_parts parts; /* `sources`, `slot_exports` and `trampolines` are its own */
    struct target *targets;
    struct image *image; /* under the lock of the linker, as is `tried` */
    int tried;
    atomic_int unloaded;
    atomic_size_t owners;
};

/* Returns a copy of `size` bytes; NULL if out of memory, or if `size` is 0. */
static int copy(const void *from, size_t size, void **to) {
    *to = NULL;
    if (size == 0) {
        return 0;
    }
    *to = malloc(size);
    if (*to == NULL) {
        return -1;
    }
    memcpy(*to, from, size);
    return 0;
}

pl_library *pl_library_new(const pl_library_parts *parts) {
    pl_library *library = calloc(1, sizeof *library);
    if (library == NULL) {
        return NULL;
    }
    library->parts = *parts;
    atomic_init(&library->owners, 1);
    void *sources, *slots = NULL;
    int failed = copy(parts->sources, parts->source_count * sizeof *parts->sources, &sources);
    library->parts.sources = sources;
    failed |= copy(parts->slot_exports, parts->slot_count * sizeof *parts->slot_exports, &slots);
    library->parts.slot_exports = slots;
    if (parts->plt_of != NULL) {
        pl_library_retain(parts->plt_of);
    }
    failed |= pl_library_set_trampolines(library, parts->trampolines, parts->trampoline_count,
                                         parts->resolver) != 0;
    if (failed) {
        pl_library_release(library);
        return NULL;
    }
    return library;
}

static uint32_t blocks_of(uint32_t count) {
    return count / PL_PLT_BLOCK + (count % PL_PLT_BLOCK != 0);
}

uint32_t pl_library_blocks(const pl_library *library) {
    return blocks_of(library->parts.trampoline_count);
}

int pl_library_set_trampolines(pl_library *library, const pl_module *const *trampolines,
                               uint32_t count, uintptr_t resolver) {
    void *modules;
    library->parts.trampolines = NULL;
    if (copy(trampolines, blocks_of(count) * sizeof *trampolines, &modules) != 0) {
        return -1;
    }
    library->parts.trampolines = modules; /* which is freed with the library */
    if (count != 0) {
        library->targets = calloc(count, sizeof *library->targets);
        if (library->targets == NULL) {
            return -1;
        }
    }
    library->parts.trampoline_count = count;
    library->parts.resolver = resolver;
    return 0;
}

pl_library *pl_library_plt(const pl_library *library, uint32_t *index) {
    pl_library *owner = library->parts.plt_of;
    *index += owner != NULL ? library->parts.plt_base : 0;
    return owner != NULL ? owner : (pl_library *)library;
}

const pl_library_parts *pl_library_parts_of(const pl_library *library) { return &library->parts; }

void pl_library_retain(pl_library *library) { atomic_fetch_add(&library->owners, 1); }

static void release(struct image *image) {
    if (image != NULL && atomic_fetch_sub(&image->owners, 1) == 1) {
        free(image);
    }
}

void pl_library_release(pl_library *library) {
    if (library != NULL && atomic_fetch_sub(&library->owners, 1) == 1) {
        free((void *)library->parts.sources);
        free((void *)library->parts.slot_exports);
        free(library->targets);
        free((void *)library->parts.trampolines);
        pl_library_release(library->parts.plt_of);
        release(library->image);
        free(library);
    }
}

const char *pl_library_name(const pl_library *library, uint32_t index, size_t *length) {
    const uint32_t *offset = library->parts.offsets + index;
    *length = offset[1] - offset[0];
    return library->parts.names + offset[0];
}

void pl_library_bind(pl_library *library, uint32_t index, pl_library *target,
                     uint32_t export_index) {
    library = pl_library_plt(library, &index);
    if (index < library->parts.trampoline_count) {
        atomic_store_explicit(&library->targets[index].export_index, export_index,
                              memory_order_relaxed);
        atomic_store_explicit(&library->targets[index].library, target, memory_order_release);
    }
}

void pl_library_unbind(pl_library *library, uint32_t index) {
    library = pl_library_plt(library, &index);
    if (index < library->parts.trampoline_count) {
        atomic_store_explicit(&library->targets[index].library, NULL, memory_order_release);
    }
}

pl_library *pl_library_target(const pl_library *library, uint32_t index, uint32_t *export_index) {
    library = pl_library_plt(library, &index);
    if (index >= library->parts.trampoline_count) {
        return NULL;
    }
    pl_library *target =
        atomic_load_explicit(&library->targets[index].library, memory_order_acquire);
    *export_index =
        atomic_load_explicit(&library->targets[index].export_index, memory_order_relaxed);
    return target;
}

void pl_library_take_image(pl_library *library, const uint8_t *data, size_t size) {
    if (!library->tried) {
        library->tried = 1;
        library->image = malloc(sizeof *library->image + size);
        if (library->image != NULL) {
            atomic_init(&library->image->owners, 1);
            library->image->size = size;
            memcpy(library->image->data, data, size);
        }
    }
}

int pl_library_has_image(const pl_library *library) { return library->image != NULL; }

void pl_library_share_image(pl_library *library, const pl_library *from, uint8_t *data) {
    if (from->image != NULL) {
        memcpy(data, from->image->data, from->image->size);
        if (!library->tried) {
            library->tried = 1;
            library->image = from->image;
            atomic_fetch_add(&library->image->owners, 1);
        }
    }
}

void pl_library_set_unloaded(pl_library *library) { atomic_store(&library->unloaded, 1); }

int pl_library_is_unloaded(const pl_library *library) { return atomic_load(&library->unloaded); }
