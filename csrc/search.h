/* search: finds a file in a list of directories, as ld.so searches a library.
 *
 * A root is a granted directory. Files are opened below its descriptor and never by a path that was
 * checked before: in one step by openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS) if the system has
 * it, else component by component, each opened without following a link. So if a directory or a
 * link changes meanwhile, a search fails, or finds another file below the same root; it never
 * leaves the root. No link is followed here: the caller reads it with pl_search_link and decides
 * whether its target is in a root.
 *
 * States: roots and places are read-only once created.
 * Protects: nothing.
 * Requires: a root is not closed during a search.
 * Blocks: as long as the file system does; never for a FIFO.
 * Memory order: a relaxed flag says whether openat2 exists; it guards nothing else.
 * Threads: any may search. */
#ifndef PL_SEARCH_H
#define PL_SEARCH_H

#include <stddef.h>
#include <stdint.h>

/* The reason to skip a place, if it is not an errno. */
enum pl_search_problem {
    PL_SEARCH_CALLER = -1,    /* a link, or a place without a root: the caller has to search it */
    PL_SEARCH_DIRECTORY = -2, /* it is a directory */
    PL_SEARCH_SPECIAL = -3    /* neither a regular file nor a directory */
};

typedef struct pl_root {
    int32_t handle; /* a descriptor of the directory, -1 for none */
    /* absolute and without links; opened for the duration of a search if there is no descriptor or
     * the directory was removed: it may be created, or created again, later */
    const char *path;
} pl_root;

typedef struct pl_place {
    const pl_root *root; /* NULL: the caller searches it */
    /* the path between root and name: "" or directories, each followed by a slash; not
     * terminated */
    const char *prefix;
    uint32_t length;
} pl_place;

/* An open regular file, or none: `handle` is -1. */
typedef struct pl_file {
    int32_t handle;
    uint64_t size; /* bytes, at the time of opening */
} pl_file;

/* Opens the directory `path`, which must stay valid. Returns 0, or an errno (ELOOP for a link
 * anywhere in it) without a descriptor. */
int32_t pl_root_open(pl_root *root, const char *path);
/* Closes the descriptor; a second call does nothing. */
void pl_root_close(pl_root *root);

/* Searches a file in `count` places, in order, and opens it for reading. Returns the index of the
 * place that has it, or of the first that the caller has to search, or `count`. `problems` receives
 * for each searched place the reason to skip it: an errno or an enum pl_search_problem. `file` is
 * closed before. A part of the path that is empty, "." or ".." is EINVAL. */
uint32_t pl_search(const pl_place *places, uint32_t count, const char *name, size_t length,
                   int32_t *problems, pl_file *file);
/* Closes it; a second call does nothing. */
void pl_file_close(pl_file *file);

/* Reads the link `path` below a root into `target`, of `size` bytes. Returns the length of the
 * target, which is not terminated, or a negative errno: -EINVAL if it is not a link, -ELOOP if a
 * part before the last is one. */
int32_t pl_search_link(const pl_root *root, const char *path, char *target, uint32_t size);

/* For tests: disables openat2. */
void pl_search_by_component(int32_t wanted);

#endif
