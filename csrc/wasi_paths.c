/* wasi_paths: calls that open or name a path. Discipline: that of wasi_impl.h. */
#include "wasi_impl.h"

/* Held between the check of a path and its opening, and while a guest names an existing file: so
 * no guest of this process can move a FIFO to a path that another thread has checked. */
static pthread_mutex_t naming = PTHREAD_MUTEX_INITIALIZER;

static void lock_naming(void) { pthread_mutex_lock(&naming); }

static void unlock_naming(void) { pthread_mutex_unlock(&naming); }

void pl_wasi_keep_naming_over_fork(void) {
    pthread_atfork(lock_naming, unlock_naming, unlock_naming);
}

/* Returns whether the last part of a path is the name of a device that never blocks. */
static int is_known_device(const char *path, size_t length) {
    static const char *const names[] = {"null", "zero", "full", "random", "urandom"};
    size_t first = length;
    while (first > 0 && path[first - 1] != '/') {
        first--;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i]) == length - first &&
            memcmp(path + first, names[i], length - first) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Returns the file type of the path in the private memory; or the negative error number. Within
 * pl_wasi_enter_private. */
static int look_at_path(const pl_process *process, int32_t directory, int32_t flags,
                        int32_t length) {
    pl_value values[5] = {{.i64 = directory},
                          {.i64 = flags},
                          {.i64 = PRIVATE_PATH},
                          {.i64 = length},
                          {.i64 = PRIVATE_RESULT}};
    pl_trap *trap = NULL;
    pl_error *error = pl_wasmtime.func_call_unchecked(
        process->context, process->private_functions + PL_WASI_PRIVATE_LOOK, values, 5, &trap);
    if (error != NULL || trap != NULL) { /* it knows no sockets */
        if (error != NULL) {
            pl_wasmtime.error_delete(error);
        }
        if (trap != NULL) {
            pl_wasmtime.trap_delete(trap);
        }
        return TYPE_SOCKET_STREAM;
    }
    if (values[0].i32 != 0) {
        return -values[0].i32;
    }
    return pl_memory_data(process->context,
                          &process->private_memory)[PRIVATE_RESULT + FILESTAT_TYPE];
}

/* Returns whether a single system call shows that opening does not block. It follows links out of
 * the directory, too, but opening does not: that opens the same file or fails. So 1 is reliable;
 * for 0 wasmtime checks the path, so that a guest cannot probe files outside the directory. */
static int is_plainly_harmless(pl_process *process, const pl_value *values, const char *path) {
    const struct directory *directory = pl_wasi_directory_at(process, (uint32_t)values[0].i32);
    struct stat status;
    if (directory == NULL || strlen(path) != (uint32_t)values[3].i32) {
        return 0;
    }
    if (fstatat(directory->descriptor, path, &status,
                values[1].i32 & LOOKUP_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW) == 0) {
        return pl_wasi_never_waits(status.st_mode) || S_ISLNK(status.st_mode);
    }
    return errno == ENOENT || errno == ENOTDIR;
}

/* Returns 0 if the check shows that opening does not block, and gives a descriptor or its own
 * error; otherwise the error number for the guest. */
static int32_t refusal(pl_process *process, const pl_value *values) {
    int32_t directory = values[0].i32, flags = values[1].i32, length = values[3].i32;
    const char *path =
        (const char *)pl_memory_data(process->context, &process->private_memory) + PRIVATE_PATH;
    if (is_plainly_harmless(process, values, path)) {
        return 0;
    }
    int type = look_at_path(process, directory, flags, length);
    switch (type) {
    case TYPE_UNKNOWN: /* a FIFO */
    case TYPE_SOCKET_DATAGRAM:
    case TYPE_SOCKET_STREAM:
        return ERRNO_NXIO;
    case TYPE_CHARACTER_DEVICE: /* not by the name of a link: a guest may create links */
        return is_known_device(path, (size_t)length) &&
                       look_at_path(process, directory, flags & ~LOOKUP_FOLLOW, length) ==
                           TYPE_CHARACTER_DEVICE
                   ? 0
                   : ERRNO_NXIO;
    /* Errors that opening reports as well, or a file that opening creates. */
    case -ERRNO_ACCES:
    case -ERRNO_BADF:
    case -ERRNO_ILSEQ:
    case -ERRNO_INVAL:
    case -ERRNO_LOOP:
    case -ERRNO_NAMETOOLONG:
    case -ERRNO_NOENT:
    case -ERRNO_NOTDIR:
    case -ERRNO_PERM:
    case -ERRNO_NOTCAPABLE:
        return 0;
    /* the host lacks a resource: it may be available when the file is opened, whose type is
     * unknown */
    default:
        return type < 0 ? -type : 0;
    }
}

pl_trap *pl_wasi_open_path(const pl_wasi_call *call, pl_value *values, size_t count) {
    pl_process *process = call->process;
    int opens = call->kind == PL_WASI_OPEN;
    uint64_t path = (uint32_t)values[2].i32, length = (uint32_t)values[3].i32,
             result = opens ? (uint32_t)values[8].i32 : 0;
    uint64_t size = pl_memory_size(call->context, &call->memory);
    pl_trap *trap = NULL;
    if (!pl_wasi_is_pointer(process, path, length, 1, size, values, &trap) ||
        (opens && !pl_wasi_is_pointer(process, result, 4, 4, size, values, &trap))) {
        return trap;
    }
    if (length > PRIVATE_PATH_MOST) {
        values[0].i64 = ERRNO_NAMETOOLONG;
        return NULL;
    }
    pl_wasi_enter_private(call);
    pthread_mutex_lock(&naming);
    uint8_t *memory = pl_memory_data(process->context, &process->private_memory);
    memcpy(memory + PRIVATE_PATH, pl_memory_data(call->context, &call->memory) + path, length);
    memory[PRIVATE_PATH + length] = 0;
    int32_t how = opens ? values[4].i32 : 0;
    int32_t number = pl_wasi_begin_file_call();
    if (number == 0 && opens && process->available == 0) {
        number = ERRNO_MFILE;
        /* an existing file is not opened then */
    } else if (number == 0 && (how & OPEN_NEW) != OPEN_NEW) {
        number = refusal(process, values);
    }
    if (number != 0) {
        values[0].i64 = number == ERRNO_NXIO && (how & OPEN_DIRECTORY) ? ERRNO_NOTDIR : number;
    } else {
        values[2].i64 = PRIVATE_PATH;
        if (opens) {
            values[8].i64 = PRIVATE_RESULT;
            process->available--;
        }
        trap = pl_wasi_call_shim(process,
                                 process->private_functions +
                                     (opens ? PL_WASI_PRIVATE_OPEN : PL_WASI_PRIVATE_TIMES),
                                 values, count);
        if (opens && (trap != NULL || values[0].i32 != 0)) {
            process->available++;
        } else if (opens) {
            memcpy(pl_memory_data(call->context, &call->memory) + result, memory + PRIVATE_RESULT,
                   4);
        }
    }
    pthread_mutex_unlock(&naming);
    pl_wasi_leave_private(call);
    return trap;
}

pl_trap *pl_wasi_name_path(const pl_wasi_call *call, pl_value *values, size_t count) {
    pl_wasi_enter_private(call);
    pthread_mutex_lock(&naming);
    pl_trap *trap = pl_wasi_forward_file_call(call, values, count);
    pthread_mutex_unlock(&naming);
    pl_wasi_leave_private(call);
    return trap;
}
