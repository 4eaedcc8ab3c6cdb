#if !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L /* O_NOFOLLOW, O_CLOEXEC */
#endif
#include "search.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The problem with the parts of a path between `known` and its last slash, 0 if there is none. `path` is as before then. */
static int32_t look_at_parents(char *path, size_t known) {
    char *from = path + known;
    if (*from == '/') {
        from++; /* the end of what is known; nothing follows where all of the path is */
    }
    for (char *slash = strchr(from, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        struct stat status;
        *slash = '\0';
        int failed = lstat(path, &status);
        *slash = '/';
        if (failed) {
            return errno;
        }
        if (S_ISLNK(status.st_mode)) {
            return PL_SEARCH_CALLER;
        }
    }
    return 0;
}

static int32_t open_at(const pl_place *place, const char *name, size_t length, pl_file *file) {
    char path[PATH_MAX];
    if (place->directory == NULL) {
        return PL_SEARCH_CALLER;
    }
    if (place->length + length >= sizeof path) {
        return ENAMETOOLONG;
    }
    memcpy(path, place->directory, place->length);
    memcpy(path + place->length, name, length);
    path[place->length + length] = '\0';
    int32_t problem = look_at_parents(path, place->known);
    if (problem != 0) {
        return problem;
    }
    int handle;
    do {
        handle = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    } while (handle < 0 && errno == EINTR);
    if (handle < 0) {
        return errno == ELOOP || errno == EMLINK ? PL_SEARCH_CALLER : errno == ENXIO || errno == EOPNOTSUPP ? PL_SEARCH_SPECIAL : errno;
    }
    struct stat status;
    problem = fstat(handle, &status) ? errno : S_ISREG(status.st_mode) ? 0 : S_ISDIR(status.st_mode) ? PL_SEARCH_DIRECTORY : PL_SEARCH_SPECIAL;
    if (problem != 0) {
        close(handle);
        return problem;
    }
    file->handle = handle;
    file->size = (uint64_t)status.st_size;
    return 0;
}

uint32_t pl_search(const pl_place *places, uint32_t count, const char *name, size_t length, int32_t *problems, pl_file *file) {
    for (uint32_t number = 0; number < count; number++) {
        problems[number] = open_at(places + number, name, length, file);
        if (problems[number] == 0 || problems[number] == PL_SEARCH_CALLER) {
            return number;
        }
    }
    return count;
}

void pl_file_close(pl_file *file) {
    if (file->handle >= 0) {
        close(file->handle);
        file->handle = -1;
    }
}
