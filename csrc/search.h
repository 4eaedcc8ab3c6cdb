/* search: which of several directories has a file, as ld.so looks for a library.
 *
 * A root is a directory that was granted. Files are opened below its descriptor and never by a
 * path that was looked at before: in one step by openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
 * where the system has it, else component by component, each opened without following a link. So
 * a directory or a link that changes meanwhile makes a search fail, or find another file below
 * the same root; it never leads out. No link is followed here: the caller reads it with
 * pl_search_link and decides whether it leads to a root.
 *
 * Protects: nothing. States: roots and places are read-only once they are made. Any thread may
 * search. Requires: a root is not closed during a search. Blocks: as long as the file system
 * does; never for a FIFO. Memory order: whether openat2 exists is one relaxed flag, which guards
 * nothing else. */
#ifndef PL_SEARCH_H
#define PL_SEARCH_H

#include <stddef.h>
#include <stdint.h>

/* Why a place is not the one, if it is not an errno. */
enum pl_search_problem {
    PL_SEARCH_CALLER = -1,    /* a link, or a place without a root: the caller has to look */
    PL_SEARCH_DIRECTORY = -2, /* it is a directory */
    PL_SEARCH_SPECIAL = -3    /* it is no regular file, and no directory */
};

typedef struct pl_root {
    int32_t handle; /* a descriptor of the directory, -1 for none */
    /* absolute and without links; opened for the length of a search where there is no descriptor
     * or the directory was removed: it may be made, or made again, later */
    const char *path;
} pl_root;

typedef struct pl_place {
    const pl_root *root; /* NULL: it is left to the caller */
    /* what comes before the name below the root: "" or directories, each with a slash behind it;
     * not terminated */
    const char *prefix;
    uint32_t length;
} pl_place;

/* A regular file that is open, or none: `handle` is -1. */
typedef struct pl_file {
    int32_t handle;
    uint64_t size; /* bytes, when it was opened */
} pl_file;

/* Opens the directory `path`, which is kept. Returns 0, or an errno (ELOOP for a link anywhere
 * in it), and there is no descriptor then. */
int32_t pl_root_open(pl_root *root, const char *path);
/* Closes the descriptor; a second time does nothing. */
void pl_root_close(pl_root *root);

/* Looks for a file in `count` places, one after the other, and opens it for reading. Returns the
 * number of the place that has it, or of the first that is left to the caller, or `count`.
 * `problems` says of each place that was looked at why it is not the one: an errno or an enum
 * pl_search_problem. `file` is closed already. A part of the path that is empty, "." or ".." is
 * EINVAL. */
uint32_t pl_search(const pl_place *places, uint32_t count, const char *name, size_t length,
                   int32_t *problems, pl_file *file);
/* Closes it; a second time does nothing. */
void pl_file_close(pl_file *file);

/* Reads the link `path` below a root into `target`, of `size` bytes. Returns the length of what
 * it leads to, which is not terminated, or a negative errno: -EINVAL if it is no link, -ELOOP if
 * a part before the last is one. */
int32_t pl_search_link(const pl_root *root, const char *path, char *target, uint32_t size);

/* For tests: whether openat2 is left alone as if the system had none. */
void pl_search_by_component(int32_t wanted);

#endif
