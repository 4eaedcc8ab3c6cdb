/* search: which of several directories has a file, as ld.so looks for a library.
 *
 * A place is a directory whose own path has no links, and what comes before the name in it. Each part of the path behind the directory is
 * looked at once, and must be no link: a link may lead anywhere, and where it leads is for the caller to judge. The file is opened where it
 * is found, so that nothing else can come in its place.
 *
 * States: places are read-only once they are made. Any thread may search. Blocking: as long as the file system takes; never for a FIFO.
 */
#ifndef PL_SEARCH_H
#define PL_SEARCH_H

#include <stddef.h>
#include <stdint.h>

/* Why a place is not the one, if it is not an errno. */
enum pl_search_problem {
    PL_SEARCH_CALLER = -1,   /* a link, or a place without a directory: the caller has to look */
    PL_SEARCH_DIRECTORY = -2, /* it is a directory */
    PL_SEARCH_SPECIAL = -3   /* it is no regular file, and no directory */
};

typedef struct pl_place {
    const char *directory; /* all that comes before the name, not terminated; NULL: it is left to the caller */
    uint32_t length;
    uint32_t known; /* the first bytes of it, which have no links */
} pl_place;

/* A regular file that is open, or none: `handle` is -1. */
typedef struct pl_file {
    int32_t handle;
    uint64_t size; /* bytes, when it was opened */
} pl_file;

/* Looks for a file in `count` places, one after the other, and opens it for reading. Answers the number of the place that has it, or of the
 * first that is left to the caller, or `count`. `problems` says of each place that was looked at why it is not the one: an errno or an enum
 * pl_search_problem. `file` is closed already. */
uint32_t pl_search(const pl_place *places, uint32_t count, const char *name, size_t length, int32_t *problems, pl_file *file);
/* Closes it; a second time does nothing. */
void pl_file_close(pl_file *file);

#endif
