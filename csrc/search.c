/* Discipline: roots and places are read-only; the flag for openat2 is a relaxed atomic. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* O_PATH, syscall */
#elif !defined(__linux__) && !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L /* openat, O_NOFOLLOW, O_CLOEXEC */
#endif
#include "search.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

/* A directory that is only traversed needs no permission to list it. */
#if defined(O_PATH)
#define THROUGH O_PATH
#elif defined(O_SEARCH)
#define THROUGH O_SEARCH
#else
#define THROUGH O_RDONLY
#endif

#define DIRECTORY (THROUGH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define REGULAR (O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC)

static atomic_int by_component; /* 1: the system has no openat2, or a test disabled it */

void pl_search_by_component(int32_t wanted) {
    atomic_store_explicit(&by_component, wanted != 0, memory_order_relaxed);
}

static int open_part(int directory, const char *name, int flags) {
    int handle;
    do {
        handle = openat(directory, name, flags);
    } while (handle < 0 && errno == EINTR);
    if (handle >= 0) {
        return handle;
    }
    int problem = errno;
    struct stat status;
    if ((problem == ENOTDIR || problem == EMLINK) &&
        fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode)) {
        problem = ELOOP; /* systems differ in the errno for a link that is not followed */
    }
    return -problem;
}

static int open_parts(int root, const char *path, int flags) {
    int directory = root, handle;
    for (;;) {
        char name[NAME_MAX + 1];
        size_t length = strcspn(path, "/");
        if (length > NAME_MAX) {
            handle = -ENAMETOOLONG;
            break;
        }
        memcpy(name, path, length);
        name[length] = '\0';
        int is_last = path[length] == '\0';
        handle = open_part(directory, name, is_last ? flags : DIRECTORY);
        if (is_last || handle < 0) {
            break;
        }
        if (directory != root) {
            close(directory);
        }
        directory = handle;
        path += length + 1;
    }
    if (directory != root) {
        close(directory);
    }
    return handle;
}

#if defined(__linux__)
#if !defined(SYS_openat2)
#define SYS_openat2 437
#endif
/* RESOLVE_ of <linux/openat2.h>, which may be older than the system */
enum { NO_MAGICLINKS = 0x02, NO_SYMLINKS = 0x04, BENEATH = 0x08 };

/* Returns the descriptor, or a negative errno; -ENOSYS and -EPERM: retry without openat2. */
static int open_at_once(int root, const char *path, int flags) {
    struct {
        uint64_t flags, mode, resolve; /* struct open_how */
        /* with O_PATH it would open the link itself */
    } how = {(uint64_t)(flags & ~O_NOFOLLOW), 0, BENEATH | NO_SYMLINKS | NO_MAGICLINKS};
    long handle;
    do {
        handle = syscall(SYS_openat2, root, path, &how, sizeof how);
    } while (handle < 0 && errno == EINTR);
    return handle < 0 ? -errno : (int)handle;
}
#endif

static int has_only_names(const char *path) {
    for (;; path++) {
        size_t length = strcspn(path, "/");
        if (length == 0 || (path[0] == '.' && (length == 1 || (length == 2 && path[1] == '.')))) {
            return 0;
        }
        path += length;
        if (*path == '\0') {
            return 1;
        }
    }
}

/* Opens a path that consists of names only, without following a link. Returns the descriptor, or
 * a negative errno. */
static int open_beneath(int root, const char *path, int flags) {
    if (!has_only_names(path)) {
        return -EINVAL;
    }
#if defined(__linux__)
    if (!atomic_load_explicit(&by_component, memory_order_relaxed)) {
        int handle = open_at_once(root, path, flags);
        /* both a seccomp filter and a file may return EPERM */
        if (handle != -ENOSYS && handle != -EPERM) {
            return handle;
        }
        if (handle == -ENOSYS) {
            pl_search_by_component(1);
        }
    }
#endif
    return open_parts(root, path, flags);
}

/* Returns a descriptor of a directory, or a negative errno. */
static int open_directory(const char *path) {
    int top = open_part(AT_FDCWD, "/", DIRECTORY);
    if (top < 0 || path[1] == '\0') {
        return top;
    }
    int handle = open_beneath(top, path + 1, DIRECTORY);
    close(top);
    return handle;
}

int32_t pl_root_open(pl_root *root, const char *path) {
    int handle = open_directory(path);
    root->path = path;
    root->handle = handle < 0 ? -1 : handle;
    return handle < 0 ? -handle : 0;
}

void pl_root_close(pl_root *root) {
    if (root->handle >= 0) {
        close(root->handle);
        root->handle = -1;
    }
}

static int was_removed(int directory) {
    struct stat status;
    return fstat(directory, &status) == 0 && status.st_nlink == 0;
}

static int32_t open_file(int root, const char *path, pl_file *file) {
    int handle = open_beneath(root, path, REGULAR);
    if (handle < 0) {
        return handle == -ELOOP                            ? PL_SEARCH_CALLER
               : handle == -ENXIO || handle == -EOPNOTSUPP ? PL_SEARCH_SPECIAL
                                                           : -handle;
    }
    struct stat status;
    int32_t problem = fstat(handle, &status)    ? errno
                      : S_ISREG(status.st_mode) ? 0
                      : S_ISDIR(status.st_mode) ? PL_SEARCH_DIRECTORY
                                                : PL_SEARCH_SPECIAL;
    if (problem != 0) {
        close(handle);
        return problem;
    }
    file->handle = handle;
    file->size = (uint64_t)status.st_size;
    return 0;
}

static int32_t search_in(const pl_place *place, const char *name, size_t length, pl_file *file) {
    char path[PATH_MAX];
    const pl_root *root = place->root;
    if (root == NULL) {
        return PL_SEARCH_CALLER;
    }
    if (place->length >= sizeof path || length >= sizeof path - place->length) {
        return ENAMETOOLONG;
    }
    memcpy(path, place->prefix, place->length);
    memcpy(path + place->length, name, length);
    path[place->length + length] = '\0';
    int32_t problem = root->handle < 0 ? ENOENT : open_file(root->handle, path, file);
    if (problem == ENOENT && (root->handle < 0 || was_removed(root->handle))) {
        int now = open_directory(root->path);
        if (now < 0) {
            /* a link that replaced the granted directory is not granted */
            return now == -ELOOP ? ENOENT : -now;
        }
        problem = open_file(now, path, file);
        close(now);
    }
    return problem;
}

uint32_t pl_search(const pl_place *places, uint32_t count, const char *name, size_t length,
                   int32_t *problems, pl_file *file) {
    for (uint32_t number = 0; number < count; number++) {
        problems[number] = search_in(places + number, name, length, file);
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

static int32_t read_link(int root, const char *path, char *target, uint32_t size) {
    char parent[PATH_MAX];
    int directory = root;
    const char *slash = strrchr(path, '/');
    if (slash != NULL) {
        size_t length = (size_t)(slash - path);
        if (length >= sizeof parent) {
            return -ENAMETOOLONG;
        }
        memcpy(parent, path, length);
        parent[length] = '\0';
        directory = open_beneath(root, parent, DIRECTORY);
        if (directory < 0) {
            return directory;
        }
        path = slash + 1;
    }
    ssize_t length = readlinkat(directory, path, target, size);
    int32_t result = length < 0 ? -errno : (int32_t)length;
    if (directory != root) {
        close(directory);
    }
    return result;
}

int32_t pl_search_link(const pl_root *root, const char *path, char *target, uint32_t size) {
    if (!has_only_names(path)) {
        return -EINVAL;
    }
    int32_t result = root->handle < 0 ? -ENOENT : read_link(root->handle, path, target, size);
    if (result == -ENOENT && (root->handle < 0 || was_removed(root->handle))) {
        int now = open_directory(root->path);
        if (now < 0) {
            return now == -ELOOP ? -ENOENT : now;
        }
        result = read_link(now, path, target, size);
        close(now);
    }
    return result;
}
