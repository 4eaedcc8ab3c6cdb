/* Discipline: `mutex` is held while a process's store runs that is not the caller's own, and nothing is waited for under it. `naming` is
 * taken after it. A pl_process is read-only but for its clocks, which are relaxed atomics (each is a number of its own), and for the
 * places of its streams. A place is written under the mutex and read without it, relaxed: a call that reads an older place comes before
 * the call that changed it, which it overlaps. The one order that matters, that wasmtime never reads or writes a descriptor that is a
 * stream, is kept by reading the place again under the mutex. `available` is used with the process only (enter_process): an open takes
 * one before wasmtime is called, and gives it back if that fails. */
#if defined(__linux__)
#define _GNU_SOURCE /* ppoll, preadv2, O_PATH */
#elif !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L
#endif

#include "wasi.h"

#include "api_table.h"
#include "epoch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CLOCKS = 4 };

/* A standard stream of the guest. */
struct stream {
    int descriptor;         /* of the host */
    int owned;              /* opened for this process alone, and not blocking unless it is a file */
    int is_fifo;            /* and it is a FIFO */
    _Atomic uint32_t place; /* the guest's descriptor for it, or NOWHERE */
};

#define NOWHERE UINT32_MAX

/* A directory that was granted. Used with the process only. */
struct directory {
    int descriptor; /* of the host: the same directory that wasmtime has */
    uint32_t place; /* the guest's, or NOWHERE */
};

/* The private memory: where a path is copied to before it is looked at, and where wasmtime writes results. */
enum { PRIVATE_PATH = 0, PRIVATE_PATH_MOST = 4096, PRIVATE_RESULT = 8192, PRIVATE_SIZE = 16384 };

/* Between a look at what a path leads to and opening it, and while a guest gives a name to what is there already: so that in no program of
 * this process a guest brings a FIFO to a path that another thread has looked at. */
static pthread_mutex_t naming = PTHREAD_MUTEX_INITIALIZER;

static void lock_naming(void) {
    pthread_mutex_lock(&naming);
}

static void unlock_naming(void) {
    pthread_mutex_unlock(&naming);
}

/* A child of fork has only the thread that forked, which then holds it. */
static void keep_naming_over_fork(void) {
    pthread_atfork(lock_naming, unlock_naming, unlock_naming);
}

struct pl_process {
    pl_context *context;
    struct stream streams[PL_WASI_STREAMS];
    struct directory *directories;
    size_t directory_count;
    uint32_t available; /* how many descriptors the guest may still open; each that it closes is one more */
    int32_t fault; /* an error number, or 0 */
    int64_t started; /* on pl_now's clock: where the guest's monotonic clock is zero */
    _Atomic uint64_t ahead[CLOCKS]; /* by how much the guest has set each of its clocks forward, modulo 2^64 */
    pthread_mutex_t mutex;
    struct {
        const pl_type *type;
        int kind;
        const char *parameters;
        pl_func target;
    } functions[PL_WASI_FUNCTIONS];
    pl_func private_functions[PL_WASI_PRIVATE_FUNCTIONS];
    pl_extern private_memory;
};

/* WASI preview 1: sizes and offsets in guest memory, error numbers (https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md). */
enum {
    SUBSCRIPTION_SIZE = 48,
    SUBSCRIPTION_TAG = 8,
    SUBSCRIPTION_CLOCK = 16,
    SUBSCRIPTION_TIMEOUT = 24,
    SUBSCRIPTION_FLAGS = 40,
    EVENT_SIZE = 32,
    SUBSCRIPTION_DESCRIPTOR = 16,
    EVENT_ERROR = 8,
    EVENT_TAG = 10,
    EVENT_BYTES = 16,
    EVENT_FLAGS = 24,
    TAG_CLOCK = 0,
    TAG_READ = 1,
    TAG_WRITE = 2,
    FLAG_HANGUP = 1,
    FDSTAT_SIZE = 24,
    FILESTAT_SIZE = 64,
    FILESTAT_TYPE = 16,
    TYPE_UNKNOWN = 0,
    TYPE_CHARACTER_DEVICE = 2,
    TYPE_SOCKET_DATAGRAM = 5,
    TYPE_SOCKET_STREAM = 6,
    LOOKUP_FOLLOW = 1,
    OPEN_DIRECTORY = 2,
    OPEN_NEW = 1 | 4, /* create, exclusively */
    CLOCK_REALTIME_ID = 0,
    CLOCK_MONOTONIC_ID = 1,
    CLOCK_PROCESS_ID = 2, /* processor time */
    CLOCK_THREAD_ID = 3, /* the last of CLOCKS */
    FLAG_ABSOLUTE = 1,
    ERRNO_ACCES = 2,
    ERRNO_AGAIN = 6,
    ERRNO_BADF = 8,
    ERRNO_CONNRESET = 15,
    ERRNO_DQUOT = 19,
    ERRNO_FBIG = 22,
    ERRNO_ILSEQ = 25,
    ERRNO_INVAL = 28,
    ERRNO_IO = 29,
    ERRNO_ISDIR = 31,
    ERRNO_LOOP = 32,
    ERRNO_MFILE = 33,
    ERRNO_NAMETOOLONG = 37,
    ERRNO_NOENT = 44,
    ERRNO_NOMEM = 48,
    ERRNO_NOSPC = 51,
    ERRNO_NOTCONN = 53,
    ERRNO_NOTDIR = 54,
    ERRNO_NXIO = 60,
    ERRNO_PERM = 63,
    ERRNO_PIPE = 64,
    ERRNO_SPIPE = 70,
    ERRNO_TIMEDOUT = 73,
    ERRNO_NOTCAPABLE = 76,
    BUFFER_SIZE = 8,
    BUFFER_LENGTH = 4
};

pl_process *pl_process_new(pl_context *context) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, keep_naming_over_fork);
    pl_process *process = calloc(1, sizeof *process);
    if (process != NULL) {
        process->context = context;
        process->available = UINT32_MAX / 2;
        process->started = pl_now();
        for (uint32_t i = 0; i < PL_WASI_STREAMS; i++) {
            process->streams[i].descriptor = (int)i;
            atomic_init(&process->streams[i].place, i);
        }
        pthread_mutex_init(&process->mutex, NULL);
    }
    return process;
}

void pl_process_free(pl_process *process) {
    if (process != NULL) {
        for (int i = 0; i < PL_WASI_STREAMS; i++) {
            if (process->streams[i].owned) {
                close(process->streams[i].descriptor);
            }
        }
        for (size_t i = 0; i < process->directory_count; i++) {
            close(process->directories[i].descriptor);
        }
        pthread_mutex_destroy(&process->mutex);
        free(process->directories);
        free(process);
    }
}

/* Whether reading and writing what has this mode never waits. A descriptor that is not open does not wait either. */
static int never_waits(mode_t mode) {
    return S_ISREG(mode) || S_ISBLK(mode) || S_ISDIR(mode);
}

int pl_process_set_stream(pl_process *process, uint32_t index, int descriptor) {
    struct stat status;
    int mine = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    if (mine < 0) {
        return errno;
    }
    int flags = fcntl(mine, F_GETFL);
    if (fstat(mine, &status) != 0 || flags < 0 || (!never_waits(status.st_mode) && fcntl(mine, F_SETFL, flags | O_NONBLOCK) != 0)) {
        int error = errno;
        close(mine);
        return error;
    }
    struct stream *stream = &process->streams[index];
    if (stream->owned) {
        close(stream->descriptor);
    }
    stream->descriptor = mine;
    stream->owned = 1;
    stream->is_fifo = S_ISFIFO(status.st_mode);
    return 0;
}

int pl_process_add_directory(pl_process *process, uint32_t place, int descriptor) {
    struct directory *directories = realloc(process->directories, (process->directory_count + 1) * sizeof *directories);
    if (directories == NULL) {
        return ENOMEM;
    }
    process->directories = directories;
    int mine = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    if (mine < 0) {
        return errno;
    }
    directories[process->directory_count++] = (struct directory){mine, place};
    return 0;
}

void pl_process_set_descriptors(pl_process *process, uint32_t most) {
    process->available = most;
}

void pl_process_set_fault(pl_process *process, int32_t number) {
    process->fault = number;
}

void pl_process_provide(pl_process *process, uint32_t index, const pl_type *type, int kind, const char *parameters) {
    process->functions[index].type = type;
    process->functions[index].kind = kind;
    process->functions[index].parameters = parameters;
}

void pl_process_connect(pl_process *process, uint32_t index, const pl_func *target) {
    process->functions[index].target = *target;
}

/* Instantiates a shim of `count` functions of that space of the linker's, which imports `memory` first unless that is NULL. A pl_status;
 * PL_ERROR with an empty `failure` if the linker lacks one of them. */
static int instantiate_shim(pl_process *process, const pl_linker *linker, const char *space, const char *const *names, uint32_t count,
                            const pl_module *shim, const pl_extern *memory, pl_instance *instance, pl_failure *failure) {
    pl_extern imports[1 + PL_WASI_FUNCTIONS];
    uint32_t first = memory != NULL;
    *failure = (pl_failure){0};
    if (count > PL_WASI_FUNCTIONS) {
        return PL_ERROR;
    }
    if (memory != NULL) {
        imports[0] = *memory;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!pl_linker_get(linker, process->context, space, strlen(space), names[i], strlen(names[i]), imports + first + i)) {
            return PL_ERROR;
        }
    }
    return pl_instance_new(process->context, shim, imports, first + count, instance, failure);
}

static int shim_function(pl_process *process, const pl_instance *instance, const char *name, pl_func *function) {
    pl_extern found;
    if (!pl_instance_export(process->context, instance, name, strlen(name), &found) || found.kind != PL_EXTERN_FUNC) {
        return PL_ERROR;
    }
    *function = found.of.func;
    return PL_OK;
}

int pl_process_join(pl_process *process, const pl_linker *linker, const char *space, const char *const *names, uint32_t count,
                    const pl_module *shim, const pl_extern *memory, pl_failure *failure) {
    pl_instance instance;
    int status = instantiate_shim(process, linker, space, names, count, shim, memory, &instance, failure);
    for (uint32_t i = 0; i < count && status == PL_OK; i++) {
        pl_func target;
        status = shim_function(process, &instance, names[i], &target);
        if (status == PL_OK) {
            pl_process_connect(process, i, &target);
        }
    }
    return status;
}

int pl_process_join_private(pl_process *process, const pl_linker *linker, const char *space, const pl_module *shim, pl_failure *failure) {
    static const char *const names[PL_WASI_PRIVATE_FUNCTIONS] = {
        [PL_WASI_PRIVATE_LOOK] = "path_filestat_get",
        [PL_WASI_PRIVATE_OPEN] = "path_open",
        [PL_WASI_PRIVATE_TIMES] = "path_filestat_set_times",
        [PL_WASI_PRIVATE_POLL] = "poll_oneoff",
    };
    static const char memory[] = "memory";
    pl_instance instance;
    int status = instantiate_shim(process, linker, space, names, PL_WASI_PRIVATE_FUNCTIONS, shim, NULL, &instance, failure);
    for (uint32_t i = 0; i < PL_WASI_PRIVATE_FUNCTIONS && status == PL_OK; i++) {
        status = shim_function(process, &instance, names[i], &process->private_functions[i]);
    }
    if (status == PL_OK && (!pl_instance_export(process->context, &instance, memory, strlen(memory), &process->private_memory) ||
                            pl_memory_size(process->context, &process->private_memory) < PRIVATE_SIZE)) {
        status = PL_ERROR;
    }
    return status;
}

const pl_type *pl_process_type(const pl_process *process, uint32_t index) {
    return process->functions[index].type;
}

void pl_wasi_connect(pl_wasi_call *call, uint32_t index, const pl_extern *memory) {
    call->kind = call->process->functions[index].kind;
    call->parameters = call->process->functions[index].parameters;
    call->target = call->process->functions[index].target;
    call->memory = *memory;
}

/* Whether a wait has to end early: the linker is cancelled, the caller's check says so, or what the group was nudged for. Under no lock:
 * a signal handler of Python's or of the guest's may run in here, and call the guest. */
static int must_stop(const pl_wasi_call *call) {
    return pl_cancel_cause(pl_shared_cancel(pl_group_shared(call->group))) != 0 ||
           (call->check != NULL && pl_epoch_on_main_thread() && call->check(call->handle) != 0) ||
           (pl_group_is_nudged(call->group) && pl_group_hear(call->group) != 0);
}

/* Sleeps until `deadline` on pl_now's clock. Answers 0, or -1 if it must stop before. */
static int sleep_until(const pl_wasi_call *call, int64_t deadline) {
    pl_event *event = pl_shared_rest(pl_group_shared(call->group));
    pl_cancel *cancel = pl_shared_cancel(pl_group_shared(call->group));
    int64_t due = pl_now() + PL_SLICE; /* of the next check, which may take the GIL */
    for (;;) {
        uint32_t key = pl_event_prepare(event);
        if (pl_cancel_cause(cancel) != 0) {
            return -1;
        }
        int64_t now = pl_now();
        if (now >= deadline) {
            return 0;
        }
        if (now >= due) {
            if (must_stop(call)) {
                return -1;
            }
            due = now + PL_SLICE;
        }
        pl_event_wait(event, key, deadline < due ? deadline : due);
    }
}

static uint32_t load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t load64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static const clockid_t host_clocks[CLOCKS] = {
    [CLOCK_REALTIME_ID] = CLOCK_REALTIME,
    [CLOCK_MONOTONIC_ID] = CLOCK_MONOTONIC,
    [CLOCK_PROCESS_ID] = CLOCK_PROCESS_CPUTIME_ID,
    [CLOCK_THREAD_ID] = CLOCK_THREAD_CPUTIME_ID,
};

static uint64_t nanoseconds(const struct timespec *time) {
    return (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
}

/* The host's clock behind the guest's clock `id`, which is one. */
static uint64_t read_host_clock(const pl_process *process, uint32_t id) {
    if (id == CLOCK_MONOTONIC_ID) {
        return (uint64_t)(pl_now() - process->started);
    }
    struct timespec time;
    clock_gettime(host_clocks[id], &time);
    return nanoseconds(&time);
}

/* The guest's clock `id` in nanoseconds: 1, or 0 if there is no such clock. */
static int read_clock(const pl_process *process, uint32_t id, uint64_t *now) {
    if (id >= CLOCKS) {
        return 0;
    }
    *now = read_host_clock(process, id) + atomic_load_explicit(&process->ahead[id], memory_order_relaxed);
    return 1;
}

int pl_process_set_clock(pl_process *process, uint32_t id, uint64_t now) {
    if (id >= CLOCKS) {
        return 0;
    }
    atomic_store_explicit(&process->ahead[id], now - read_host_clock(process, id), memory_order_relaxed);
    return 1;
}

/* Answers with a number of a clock that is one, at `result`: 1 if it is done, 0 if wasmtime has the right error for it. */
static int tell_number(const pl_wasi_call *call, pl_value *values, uint64_t result, uint64_t number) {
    if (result + sizeof number > pl_memory_size(call->context, &call->memory)) {
        values[0].i64 = CLOCK_MONOTONIC_ID; /* of a clock that wasmtime has not it would say that first */
        return 0;
    }
    memcpy(pl_memory_data(call->context, &call->memory) + result, &number, sizeof number);
    values[0].i64 = 0;
    return 1;
}

/* clock_time_get(id, precision, result): 1 if it is done, 0 if wasmtime has to do it, or has the right error for it. */
static int tell_time(const pl_wasi_call *call, pl_value *values) {
    uint64_t now;
    return read_clock(call->process, (uint32_t)values[0].i32, &now) && tell_number(call, values, (uint32_t)values[2].i32, now);
}

/* clock_res_get(id, result), in the same way: wasmtime has no clocks of processor time. */
static int tell_resolution(const pl_wasi_call *call, pl_value *values) {
    uint32_t id = (uint32_t)values[0].i32;
    if (id != CLOCK_PROCESS_ID && id != CLOCK_THREAD_ID) {
        return 0;
    }
    struct timespec time;
    clock_getres(host_clocks[id], &time);
    return tell_number(call, values, (uint32_t)values[1].i32, nanoseconds(&time));
}

/* Whether one of `count` buffers at `address` leads out of a memory of `size` bytes, or the list of them does. */
static int buffers_lead_outside(const pl_wasi_call *call, uint64_t address, uint64_t count, uint64_t size) {
    if (address + count * BUFFER_SIZE > size) {
        return 1;
    }
    const uint8_t *memory = pl_memory_data(call->context, &call->memory);
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *buffer = memory + address + i * BUFFER_SIZE;
        if ((uint64_t)load32(buffer) + load32(buffer + BUFFER_LENGTH) > size) {
            return 1;
        }
    }
    return 0;
}

/* Whether one of the pointers that a function was called with leads out of the memory (pl_process_provide). */
static int leads_outside(const pl_wasi_call *call, const pl_value *asked) {
    const uint64_t size = pl_memory_size(call->context, &call->memory);
    for (const char *letter = call->parameters; *letter != 0; letter++, asked++) {
        const uint64_t address = (uint32_t)asked[0].i32;
        uint64_t wanted = 0;
        switch (*letter) {
        case '2':
        case '4':
        case '8':
            wanted = (uint64_t)(*letter - '0');
            break;
        case 't':
            wanted = FDSTAT_SIZE;
            break;
        case 'f':
            wanted = FILESTAT_SIZE;
            break;
        case 'b':
            wanted = (uint32_t)asked[1].i32;
            break;
        case 'v':
            if (buffers_lead_outside(call, address, (uint32_t)asked[1].i32, size)) {
                return 1;
            }
            continue;
        case 's': /* what else is refused is an array that is not aligned */
            if (address % sizeof(uint32_t) == 0) {
                return 1;
            }
            continue;
        default:
            continue;
        }
        if (address + wanted > size) {
            return 1;
        }
    }
    return 0;
}

static pl_trap *refuse(const pl_process *process, pl_value *values, int32_t number) {
    if (process->fault == 0) {
        return pl_trap_of("a WASI call failed in the host");
    }
    values[0].i64 = number;
    return NULL;
}

/* What wasmtime does, too: a pointer to `size` bytes in a memory of `limit` bytes, with this alignment, is one; else it is refused. */
static int is_pointer(const pl_process *process, uint64_t address, uint64_t size, uint64_t alignment, uint64_t limit, pl_value *values,
                      pl_trap **trap) {
    if (address + size > limit) {
        *trap = refuse(process, values, process->fault);
        return 0;
    }
    if (address % alignment != 0) {
        *trap = refuse(process, values, ERRNO_INVAL);
        return 0;
    }
    return 1;
}

/* Whether wasmtime makes its runtime now, or has made it. It stays for the life of the process. */
static _Atomic int has_runtime;

/* Whether the process can open as many descriptors as wasmtime's runtime needs, and some more. */
static int has_descriptors(void) {
    enum { NEEDED = 8 };
    int held[NEEDED], count = 0;
    while (count < NEEDED && (held[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        count++;
    }
    for (int i = 0; i < count; i++) {
        close(held[i]);
    }
    return count == NEEDED;
}

/* Whether there is address space for the stacks of its threads, of which it has one for each processor. */
static int has_space(void) {
    const size_t stack = (size_t)4 << 20;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t size = (processors > 0 ? (size_t)processors + 1 : 2) * stack;
    void *space = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space == MAP_FAILED) {
        return 0;
    }
    munmap(space, size);
    return 1;
}

/* Before each call that wasmtime does in its runtime: 0, or the error number that the guest gets instead. With the process. */
static int32_t begin_file_call(void) {
    if (atomic_load_explicit(&has_runtime, memory_order_relaxed)) {
        return 0;
    }
    if (!has_descriptors()) {
        return ERRNO_MFILE;
    }
    if (!has_space()) {
        return ERRNO_NOMEM;
    }
    atomic_store_explicit(&has_runtime, 1, memory_order_relaxed);
    return 0;
}

/* With the process. 1 if wasmtime refuses the call, else 0. */
static int call_wasmtime(const pl_process *process, const pl_func *target, pl_value *values, size_t count, pl_trap **trap) {
    *trap = NULL;
    pl_error *error = pl_wasmtime.func_call_unchecked(process->context, target, values, count, trap);
    if (error == NULL) {
        return 0;
    }
    pl_wasmtime.error_delete(error);
    return 1;
}

/* A call with pointers into the private memory. With the process. */
static pl_trap *call_shim(const pl_process *process, const pl_func *target, pl_value *values, size_t count) {
    pl_trap *trap;
    return call_wasmtime(process, target, values, count, &trap) ? refuse(process, values, ERRNO_INVAL) : trap;
}

/* A call with the guest's own pointers. With the process. */
static pl_trap *forward_one(const pl_wasi_call *call, pl_value *values, size_t count) {
    pl_value asked[PL_WASI_PARAMETERS];
    pl_trap *trap;
    memcpy(asked, values, (count < PL_WASI_PARAMETERS ? count : PL_WASI_PARAMETERS) * sizeof *asked);
    if (!call_wasmtime(call->process, &call->target, values, count, &trap)) {
        return trap;
    }
    return refuse(call->process, values, leads_outside(call, asked) ? call->process->fault : ERRNO_INVAL);
}

/* The same for a call that wasmtime does in its runtime. */
static pl_trap *forward_file_call(const pl_wasi_call *call, pl_value *values, size_t count) {
    int32_t number = begin_file_call();
    if (number != 0) {
        values[0].i64 = number;
        return NULL;
    }
    return forward_one(call, values, count);
}

/* Takes the process for a call. Its store is the caller's own in a program without threads: there is nobody else then, and there must be no
 * mutex, as a signal handler that runs at the shim's first instruction may call WASI, too. */
static int is_own(const pl_wasi_call *call) {
    return call->context == call->process->context;
}

static void enter_process(const pl_wasi_call *call) {
    if (!is_own(call)) {
        pthread_mutex_lock(&call->process->mutex);
    }
}

static void leave_process(const pl_wasi_call *call) {
    if (!is_own(call)) {
        pthread_mutex_unlock(&call->process->mutex);
    }
}

/* The same for a call that uses the private memory or `naming`, within which nothing else may run on this thread. So the store's epoch
 * callback is put off; afterwards it comes at once, as it may have been due. */
static void enter_private(const pl_wasi_call *call) {
    enter_process(call);
    if (is_own(call)) {
        pl_epoch_ignore(call->context);
    }
}

static void leave_private(const pl_wasi_call *call) {
    if (is_own(call)) {
        pl_wasmtime.context_set_epoch_deadline(call->context, 0);
    }
    leave_process(call);
}

/* fd_write(descriptor, buffers, count, written): wasmtime's writes the first buffer that is not empty, and leaves it to the guest to
 * come again. Here they are written one by one, so that a line of several parts is not torn. With the process. */
static pl_trap *write_all(const pl_wasi_call *call, pl_value *values) {
    const pl_value asked[4] = {values[0], values[1], values[2], values[3]};
    uint64_t buffers = (uint32_t)asked[1].i32, count = (uint32_t)asked[2].i32, written = (uint32_t)asked[3].i32;
    uint64_t size = pl_memory_size(call->context, &call->memory);
    if (count < 2 || count > PL_WASI_MOST || buffers + count * BUFFER_SIZE > size || written + 4 > size) {
        return forward_file_call(call, values, 4);
    }
    uint8_t *memory = pl_memory_data(call->context, &call->memory);
    uint32_t total = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t buffer = buffers + i * BUFFER_SIZE;
        uint32_t wanted = load32(memory + buffer + BUFFER_LENGTH);
        if (wanted == 0 && (total != 0 || i + 1 < count)) {
            continue; /* but if all are empty, the descriptor is looked at */
        }
        memcpy(values, asked, sizeof asked);
        values[1].i64 = (int64_t)buffer;
        values[2].i64 = 1;
        pl_trap *trap = forward_file_call(call, values, 4);
        if (trap != NULL) {
            return trap;
        }
        if (values[0].i32 != 0) {
            if (total == 0) {
                return NULL;
            }
            break; /* what was written was written */
        }
        uint32_t done = load32(memory + written);
        total += done;
        if (done < wanted) {
            break;
        }
    }
    memcpy(memory + written, &total, sizeof total);
    values[0].i64 = 0;
    return NULL;
}

/* The stream that is the guest's descriptor `place` now, or NULL. */
static struct stream *stream_at(pl_process *process, uint32_t place) {
    for (int i = 0; i < PL_WASI_STREAMS; i++) {
        if (atomic_load_explicit(&process->streams[i].place, memory_order_relaxed) == place) {
            return process->streams + i;
        }
    }
    return NULL;
}

static int is_input(const pl_process *process, const struct stream *stream) {
    return stream == process->streams;
}

/* The directory that is the guest's descriptor `place` now, or NULL. With the process. */
static struct directory *directory_at(pl_process *process, uint32_t place) {
    for (size_t i = 0; i < process->directory_count; i++) {
        if (process->directories[i].place == place) {
            return process->directories + i;
        }
    }
    return NULL;
}

static void move_place(pl_process *process, uint32_t from, uint32_t to) {
    struct stream *stream = stream_at(process, from);
    struct directory *directory = directory_at(process, from);
    if (stream != NULL) {
        atomic_store_explicit(&stream->place, to, memory_order_relaxed);
    }
    if (directory != NULL) {
        directory->place = to;
    }
}

/* fd_close(descriptor) and fd_renumber(from, to) have succeeded. With the process. */
static void follow_close(pl_process *process, uint32_t descriptor) {
    move_place(process, descriptor, NOWHERE);
}

static void follow_renumber(pl_process *process, uint32_t from, uint32_t to) {
    if (from == to) {
        return;
    }
    follow_close(process, to);
    move_place(process, from, to);
}

static int32_t number_of_errno(int error) {
    static const struct {
        int host;
        int32_t guest;
    } numbers[] = {
        {EBADF, ERRNO_BADF},   {ECONNRESET, ERRNO_CONNRESET}, {EDQUOT, ERRNO_DQUOT}, {EFBIG, ERRNO_FBIG},   {EINVAL, ERRNO_INVAL},
        {EISDIR, ERRNO_ISDIR}, {ENOMEM, ERRNO_NOMEM},         {ENOSPC, ERRNO_NOSPC}, {ENOTCONN, ERRNO_NOTCONN}, {ENXIO, ERRNO_NXIO},
        {EPERM, ERRNO_PERM},   {EPIPE, ERRNO_PIPE},           {ESPIPE, ERRNO_SPIPE}, {ETIMEDOUT, ERRNO_TIMEDOUT},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].host == error) {
            return numbers[i].guest;
        }
    }
    return ERRNO_IO;
}

/* poll with a deadline on pl_now's clock. */
static int poll_until(struct pollfd *polled, nfds_t count, int64_t now, int64_t deadline) {
    int64_t left = deadline > now ? deadline - now : 0;
#if defined(__linux__)
    struct timespec time = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    return ppoll(polled, count, &time, NULL);
#else
    return poll(polled, count, (int)((left + 999999) / 1000000)); /* a slice at most */
#endif
}

/* Waits until one of the host's descriptors has what it is polled for, or until `deadline` on pl_now's clock (negative: none). Answers 1, or
 * 0 at the deadline, or -1 if it must stop. */
static int wait_for(const pl_wasi_call *call, struct pollfd *polled, nfds_t count, int64_t deadline) {
    pl_cancel *cancel = pl_shared_cancel(pl_group_shared(call->group));
    int64_t due = pl_now() + PL_SLICE;
    for (;;) {
        if (pl_cancel_cause(cancel) != 0) {
            return -1;
        }
        int64_t until = deadline >= 0 && deadline < due ? deadline : due;
        int ready = poll_until(polled, count, pl_now(), until);
        if (ready > 0) {
            return 1;
        }
        if (ready < 0 && errno != EINTR && sleep_until(call, until) != 0) { /* the host lacks memory: look again later */
            return -1;
        }
        int64_t now = pl_now();
        if (ready < 0 || now >= due) { /* EINTR: a signal of this thread, whose handler is Python's, perhaps */
            if (must_stop(call)) {
                return -1;
            }
            now = pl_now();
            due = now + PL_SLICE;
        }
        if (deadline >= 0 && now >= deadline) {
            return 0;
        }
    }
}

static ssize_t move_bytes(int descriptor, int writing, const struct iovec *parts, int count) {
    return writing ? writev(descriptor, parts, count) : readv(descriptor, parts, count);
}

/* The same of a stream of this process alone: -1 and EAGAIN if it would wait. A FIFO that no writer has opened yet would seem to have ended;
 * poll knows the difference. */
static ssize_t move_own_bytes(const struct stream *stream, int writing, const struct iovec *parts, int count) {
    for (;;) {
        ssize_t moved = move_bytes(stream->descriptor, writing, parts, count);
        if (moved != 0 || writing || !stream->is_fifo) {
            return moved;
        }
        struct pollfd polled = {.fd = stream->descriptor, .events = POLLIN, .revents = 0};
        if (poll(&polled, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
        if (!(polled.revents & POLLIN)) {
            return 0;
        } /* else a writer has come, and written */
    }
}

/* Reads or writes what can be read or written at once: -1 and EAGAIN if that is nothing. What the descriptor refers to belongs to others,
 * too, so its O_NONBLOCK is not for this function to set, and a look (poll) before it is no promise: another process may be faster. */
static ssize_t move_without_waiting(int descriptor, int writing, const struct iovec *parts, int count) {
    struct stat status;
    if (fstat(descriptor, &status) != 0 || never_waits(status.st_mode)) {
        return move_bytes(descriptor, writing, parts, count);
    }
    if (S_ISSOCK(status.st_mode)) {
        struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (unsigned)count};
#if defined(MSG_NOSIGNAL)
        return writing ? sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL) : recvmsg(descriptor, &message, MSG_DONTWAIT);
#else
        return writing ? sendmsg(descriptor, &message, MSG_DONTWAIT) : recvmsg(descriptor, &message, MSG_DONTWAIT);
#endif
    }
#if defined(RWF_NOWAIT)
    ssize_t moved = writing ? pwritev2(descriptor, parts, count, -1, RWF_NOWAIT) : preadv2(descriptor, parts, count, -1, RWF_NOWAIT);
    if (moved >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)) {
        return moved;
    }
#endif
#if defined(__linux__)
    /* A terminal, or a pipe of an older kernel: opened anew it is not shared. */
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    int again = open(path, (writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (again >= 0) {
        ssize_t done = move_bytes(again, writing, parts, count);
        int error = errno;
        close(again);
        errno = error;
        return done;
    }
#endif
    /* What is left is a look. A pipe that can be written to takes PIPE_BUF bytes, any other device one at least. */
    struct pollfd polled = {.fd = descriptor, .events = writing ? POLLOUT : POLLIN, .revents = 0};
    if (poll(&polled, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    size_t most = S_ISFIFO(status.st_mode) ? PIPE_BUF : 1;
    struct iovec part = {.iov_base = parts[0].iov_base, .iov_len = parts[0].iov_len < most ? parts[0].iov_len : most};
    return writing ? move_bytes(descriptor, 1, &part, 1) : move_bytes(descriptor, 0, parts, count);
}

enum {
    PARTS = 128,         /* buffers of the guest in one system call */
    BYTES_MOST = 1 << 20 /* in one system call: between two of them the end of the program is seen */
};

/* Buffers of fd_read and fd_write, and how much of them is done. */
struct buffers {
    uint64_t at, count; /* in the guest's memory: a list of addresses and lengths */
    uint64_t index, offset;
    uint32_t total;
};

/* The next of them that are not empty. Answers how many, or -1 if one leads out of the memory. The guest may change them meanwhile. */
static int next_parts(const struct buffers *buffers, uint8_t *memory, uint64_t size, struct iovec *parts) {
    uint64_t offset = buffers->offset, bytes = 0;
    int count = 0;
    for (uint64_t i = buffers->index; i < buffers->count && count < PARTS && bytes < BYTES_MOST; i++) {
        uint64_t address = load32(memory + buffers->at + i * BUFFER_SIZE);
        uint64_t length = load32(memory + buffers->at + i * BUFFER_SIZE + BUFFER_LENGTH);
        if (address + length > size) {
            return -1;
        }
        if (length > offset) {
            uint64_t part = length - offset < BYTES_MOST - bytes ? length - offset : BYTES_MOST - bytes;
            parts[count++] = (struct iovec){.iov_base = memory + address + offset, .iov_len = part};
            bytes += part;
        }
        offset = 0;
    }
    return count;
}

/* `bytes` more are done. */
static void advance(struct buffers *buffers, const uint8_t *memory, uint64_t bytes) {
    buffers->total += (uint32_t)bytes;
    for (; buffers->index < buffers->count; buffers->index++, buffers->offset = 0) {
        uint64_t length = load32(memory + buffers->at + buffers->index * BUFFER_SIZE + BUFFER_LENGTH);
        uint64_t left = length > buffers->offset ? length - buffers->offset : 0;
        if (bytes < left) {
            buffers->offset += bytes;
            return;
        }
        bytes -= left;
    }
}

/* fd_read(descriptor, buffers, count, done) and fd_write of a standard stream. A read comes back with what there is, a write when all is
 * written. Without the process: whoever waits here keeps no other thread's call waiting. */
static pl_trap *move_stream(const pl_wasi_call *call, const struct stream *stream, pl_value *values) {
    pl_process *process = call->process;
    int writing = call->kind == PL_WASI_WRITE;
    struct buffers buffers = {.at = (uint32_t)values[1].i32, .count = (uint32_t)values[2].i32};
    uint64_t result = (uint32_t)values[3].i32, size = pl_memory_size(call->context, &call->memory);
    pl_trap *trap = NULL;
    if (writing == is_input(process, stream)) {
        values[0].i64 = ERRNO_BADF;
        return NULL;
    }
    if (buffers.count > PL_WASI_MOST) {
        values[0].i64 = ERRNO_INVAL;
        return NULL;
    }
    if (!is_pointer(process, buffers.at, buffers.count * BUFFER_SIZE, 4, size, values, &trap) ||
        !is_pointer(process, result, 4, 4, size, values, &trap)) {
        return trap;
    }
    for (;;) {
        /* The memory may have grown meanwhile: by a thread, or a signal handler. */
        struct iovec parts[PARTS];
        uint8_t *memory = pl_memory_data(call->context, &call->memory);
        int count = next_parts(&buffers, memory, pl_memory_size(call->context, &call->memory), parts);
        if (count < 0 && buffers.total == 0) {
            return refuse(process, values, process->fault);
        }
        if (count <= 0 || buffers.total > INT32_MAX - BYTES_MOST) {
            break;
        }
        ssize_t moved = stream->owned ? move_own_bytes(stream, writing, parts, count)
                                      : move_without_waiting(stream->descriptor, writing, parts, count);
        if (moved >= 0) {
            advance(&buffers, memory, (uint64_t)moved);
            if (!writing || moved == 0) {
                break;
            }
            if (pl_cancel_cause(pl_shared_cancel(pl_group_shared(call->group))) != 0) {
                return pl_trap_of("interrupted");
            }
            continue;
        }
        int error = errno, stop = 0;
        if (error == EAGAIN || error == EWOULDBLOCK) {
            struct pollfd polled = {.fd = stream->descriptor, .events = writing ? POLLOUT : POLLIN, .revents = 0};
            stop = wait_for(call, &polled, 1, -1) < 0;
        } else if (error == EINTR) {
            stop = must_stop(call);
        } else if (buffers.total == 0) {
            values[0].i64 = number_of_errno(error);
            return NULL;
        } else {
            break; /* what was written was written */
        }
        if (stop) {
            return pl_trap_of("interrupted");
        }
    }
    memcpy(pl_memory_data(call->context, &call->memory) + result, &buffers.total, sizeof buffers.total);
    values[0].i64 = 0;
    return NULL;
}

/* A subscription of poll_oneoff. It is read anew each time, as the guest may change it; only the copy is acted on. */
struct subscription {
    uint64_t name;
    uint8_t tag;
    uint32_t clock, descriptor;
    uint64_t timeout;
    int is_absolute;
};

static struct subscription subscription_at(const uint8_t *at) {
    return (struct subscription){
        .name = load64(at),
        .tag = at[SUBSCRIPTION_TAG],
        .clock = load32(at + SUBSCRIPTION_CLOCK),
        .descriptor = load32(at + SUBSCRIPTION_DESCRIPTOR),
        .timeout = load64(at + SUBSCRIPTION_TIMEOUT),
        .is_absolute = at[SUBSCRIPTION_FLAGS] & FLAG_ABSOLUTE,
    };
}

/* How long a subscription to a clock has yet to wait, in nanoseconds, of a call that came at `started` on pl_now's clock. */
static int64_t time_left(const pl_process *process, const struct subscription *wanted, int64_t started) {
    uint64_t now = (uint64_t)(pl_now() - started);
    if (wanted->is_absolute) {
        read_clock(process, wanted->clock, &now);
    }
    uint64_t left = wanted->timeout > now ? wanted->timeout - now : 0;
    return left > INT64_MAX ? INT64_MAX : (int64_t)left;
}

/* What poll_oneoff looks at and finds. */
struct look {
    const pl_wasi_call *call;
    uint64_t subscriptions, events, count;
    int64_t started;
    struct pollfd polled[PL_WASI_STREAMS]; /* by stream; a descriptor of -1 is passed over */
    int is_waiting;                        /* for a stream */
    int is_ready;                          /* a file: it always is */
    int64_t left;                          /* of the earliest clock, or -1 */
    uint32_t found;
};

static void put_event(struct look *look, const uint8_t *event) {
    uint8_t *memory = pl_memory_data(look->call->context, &look->call->memory);
    memcpy(memory + look->events + (uint64_t)look->found * EVENT_SIZE, event, EVENT_SIZE);
    look->found++;
}

/* An event of the core's own. */
static void put(struct look *look, const struct subscription *wanted, uint64_t bytes, uint16_t flags) {
    uint8_t event[EVENT_SIZE] = {0};
    memcpy(event, &wanted->name, sizeof wanted->name);
    event[EVENT_TAG] = wanted->tag;
    memcpy(event + EVENT_BYTES, &bytes, sizeof bytes);
    memcpy(event + EVENT_FLAGS, &flags, sizeof flags);
    put_event(look, event);
}

/* Has wasmtime say what it says of a descriptor that is no stream: an error number, 0 with the event, or -1 if it has become a stream. It
 * comes back at once, and gets a subscription that the guest cannot change. */
static int32_t ask_of_file(const pl_wasi_call *call, const struct subscription *wanted, uint8_t *event, pl_trap **trap) {
    enum { AT_EVENT = SUBSCRIPTION_SIZE + 16, AT_COUNT = AT_EVENT + EVENT_SIZE };
    pl_process *process = call->process;
    pl_value values[4] = {{.i64 = 0}, {.i64 = AT_EVENT}, {.i64 = 1}, {.i64 = AT_COUNT}};
    int32_t number = -1;
    enter_private(call);
    if (stream_at(process, wanted->descriptor) == NULL && (number = begin_file_call()) == 0) {
        uint8_t *memory = pl_memory_data(process->context, &process->private_memory);
        memset(memory, 0, AT_COUNT + 4);
        memcpy(memory, &wanted->name, sizeof wanted->name);
        memory[SUBSCRIPTION_TAG] = wanted->tag;
        memcpy(memory + SUBSCRIPTION_DESCRIPTOR, &wanted->descriptor, sizeof wanted->descriptor);
        *trap = call_shim(process, process->private_functions + PL_WASI_PRIVATE_POLL, values, 4);
        number = values[0].i32;
        memcpy(event, memory + AT_EVENT, EVENT_SIZE);
    }
    leave_private(call);
    return number;
}

/* Looks at one subscription; with `put_events` it is after the wait. Answers an error number that ends the call, or 0. */
static int32_t look_at(struct look *look, const struct subscription *wanted, int put_events, pl_trap **trap) {
    const pl_wasi_call *call = look->call;
    pl_process *process = call->process;
    if (wanted->tag == TAG_CLOCK) {
        if (wanted->clock > CLOCK_MONOTONIC_ID) {
            return ERRNO_INVAL;
        }
        int64_t left = time_left(process, wanted, look->started);
        if (put_events && left == 0) {
            put(look, wanted, 0, 0);
        }
        look->left = look->left < 0 || left < look->left ? left : look->left;
        return 0;
    }
    if (wanted->tag > TAG_WRITE) {
        return ERRNO_INVAL;
    }
    struct stream *stream = stream_at(process, wanted->descriptor);
    if (stream != NULL) {
        if ((wanted->tag == TAG_READ) != is_input(process, stream)) {
            return ERRNO_BADF;
        }
        struct pollfd *polled = look->polled + (stream - process->streams);
        if (put_events && polled->revents != 0) {
            put(look, wanted, 1, (polled->revents & (POLLHUP | POLLIN)) == POLLHUP ? FLAG_HANGUP : 0);
        }
        polled->fd = stream->descriptor;
        polled->events = wanted->tag == TAG_READ ? POLLIN : POLLOUT;
        look->is_waiting = 1;
        return 0;
    }
    uint8_t event[EVENT_SIZE];
    int32_t number = ask_of_file(call, wanted, event, trap);
    look->is_ready = 1;
    if (number == 0 && *trap == NULL && put_events) {
        put_event(look, event);
    }
    return number < 0 ? 0 : number;
}

static int32_t look_at_all(struct look *look, int put_events, pl_trap **trap) {
    int32_t number = 0;
    look->is_waiting = look->is_ready = 0;
    look->left = -1;
    for (uint64_t i = 0; i < look->count && number == 0 && *trap == NULL; i++) {
        const uint8_t *memory = pl_memory_data(look->call->context, &look->call->memory);
        struct subscription wanted = subscription_at(memory + look->subscriptions + i * SUBSCRIPTION_SIZE);
        number = look_at(look, &wanted, put_events, trap);
    }
    return number;
}

/* poll_oneoff(subscriptions, events, count, found). All that waits is waited for here. */
static pl_trap *poll_all(const pl_wasi_call *call, pl_value *values) {
    struct look look = {.call = call,
                        .subscriptions = (uint32_t)values[0].i32,
                        .events = (uint32_t)values[1].i32,
                        .count = (uint32_t)values[2].i32,
                        .started = pl_now()};
    uint64_t result = (uint32_t)values[3].i32, size = pl_memory_size(call->context, &call->memory);
    pl_trap *trap = NULL;
    if (look.count == 0 || look.count > PL_WASI_MOST) {
        values[0].i64 = ERRNO_INVAL;
        return NULL;
    }
    if (!is_pointer(call->process, look.subscriptions, look.count * SUBSCRIPTION_SIZE, 8, size, values, &trap) ||
        !is_pointer(call->process, look.events, look.count * EVENT_SIZE, 8, size, values, &trap) ||
        !is_pointer(call->process, result, 4, 4, size, values, &trap)) {
        return trap;
    }
    while (look.found == 0) { /* again after a wait in vain: another thread may have taken the input, or changed what is asked for */
        for (int i = 0; i < PL_WASI_STREAMS; i++) {
            look.polled[i] = (struct pollfd){.fd = -1};
        }
        int32_t number = look_at_all(&look, 0, &trap);
        if (number == 0 && trap == NULL) {
            int64_t deadline = look.is_ready ? pl_now() : pl_deadline(look.left);
            int stop = look.is_waiting ? wait_for(call, look.polled, PL_WASI_STREAMS, deadline) < 0 : sleep_until(call, deadline) < 0;
            if (stop) {
                return pl_trap_of("interrupted");
            }
            number = look_at_all(&look, 1, &trap);
        }
        if (number != 0 || trap != NULL) {
            values[0].i64 = number;
            return trap;
        }
        if (look.found == 0 && look.is_ready && must_stop(call)) {
            return pl_trap_of("interrupted");
        }
    }
    memcpy(pl_memory_data(call->context, &call->memory) + result, &look.found, sizeof look.found);
    values[0].i64 = 0;
    return NULL;
}

/* Whether the last part of a path is the name of a device that never waits. */
static int is_known_device(const char *path, size_t length) {
    static const char *const names[] = {"null", "zero", "full", "random", "urandom"};
    size_t first = length;
    while (first > 0 && path[first - 1] != '/') {
        first--;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i]) == length - first && memcmp(path + first, names[i], length - first) == 0) {
            return 1;
        }
    }
    return 0;
}

/* The type of what the path in the private memory leads to; or, as a negative number, the error of looking. Within enter_private. */
static int look_at_path(const pl_process *process, int32_t directory, int32_t flags, int32_t length) {
    pl_value values[5] = {{.i64 = directory}, {.i64 = flags}, {.i64 = PRIVATE_PATH}, {.i64 = length}, {.i64 = PRIVATE_RESULT}};
    pl_trap *trap = NULL;
    pl_error *error =
        pl_wasmtime.func_call_unchecked(process->context, process->private_functions + PL_WASI_PRIVATE_LOOK, values, 5, &trap);
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
    return pl_memory_data(process->context, &process->private_memory)[PRIVATE_RESULT + FILESTAT_TYPE];
}

/* Whether a single system call shows that opening comes back at once. It follows links out of the directory, too, which opening does not: that
 * opens the same file or fails. So a yes is right, and a no is for wasmtime to look at, so that a guest does not learn what is outside. */
static int is_plainly_harmless(pl_process *process, const pl_value *values, const char *path) {
    const struct directory *directory = directory_at(process, (uint32_t)values[0].i32);
    struct stat status;
    if (directory == NULL || strlen(path) != (uint32_t)values[3].i32) {
        return 0;
    }
    if (fstatat(directory->descriptor, path, &status, values[1].i32 & LOOKUP_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW) == 0) {
        return never_waits(status.st_mode) || S_ISLNK(status.st_mode);
    }
    return errno == ENOENT || errno == ENOTDIR;
}

/* What a look says of opening: 0 if it comes back at once, with a descriptor or an error of its own; else the error number to answer. */
static int32_t refusal(pl_process *process, const pl_value *values) {
    int32_t directory = values[0].i32, flags = values[1].i32, length = values[3].i32;
    const char *path = (const char *)pl_memory_data(process->context, &process->private_memory) + PRIVATE_PATH;
    if (is_plainly_harmless(process, values, path)) {
        return 0;
    }
    int type = look_at_path(process, directory, flags, length);
    switch (type) {
    case TYPE_UNKNOWN: /* a FIFO */
    case TYPE_SOCKET_DATAGRAM:
    case TYPE_SOCKET_STREAM:
        return ERRNO_NXIO;
    case TYPE_CHARACTER_DEVICE: /* by its own name, not by that of a link: a guest may make links */
        return is_known_device(path, (size_t)length) &&
                       look_at_path(process, directory, flags & ~LOOKUP_FOLLOW, length) == TYPE_CHARACTER_DEVICE
                   ? 0
                   : ERRNO_NXIO;
    /* Errors that opening has as well, or, for what does not exist yet, creates. */
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
    default: /* the host lacks something: that may be over when it is opened, and what it is is not known */
        return type < 0 ? -type : 0;
    }
}

/* path_open(directory, flags, path, length, how, rights, inherited, descriptor flags, result) and path_filestat_set_times(directory, flags,
 * path, length, ...), which opens what it changes. */
static pl_trap *open_path(const pl_wasi_call *call, pl_value *values, size_t count) {
    pl_process *process = call->process;
    int opens = call->kind == PL_WASI_OPEN;
    uint64_t path = (uint32_t)values[2].i32, length = (uint32_t)values[3].i32, result = opens ? (uint32_t)values[8].i32 : 0;
    uint64_t size = pl_memory_size(call->context, &call->memory);
    pl_trap *trap = NULL;
    if (!is_pointer(process, path, length, 1, size, values, &trap) ||
        (opens && !is_pointer(process, result, 4, 4, size, values, &trap))) {
        return trap;
    }
    if (length > PRIVATE_PATH_MOST) {
        values[0].i64 = ERRNO_NAMETOOLONG;
        return NULL;
    }
    enter_private(call);
    pthread_mutex_lock(&naming);
    uint8_t *memory = pl_memory_data(process->context, &process->private_memory);
    memcpy(memory + PRIVATE_PATH, pl_memory_data(call->context, &call->memory) + path, length);
    memory[PRIVATE_PATH + length] = 0;
    int32_t how = opens ? values[4].i32 : 0;
    int32_t number = begin_file_call();
    if (number == 0 && opens && process->available == 0) {
        number = ERRNO_MFILE;
    } else if (number == 0 && (how & OPEN_NEW) != OPEN_NEW) { /* an existing file is not opened then */
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
        trap = call_shim(process, process->private_functions + (opens ? PL_WASI_PRIVATE_OPEN : PL_WASI_PRIVATE_TIMES), values, count);
        if (opens && (trap != NULL || values[0].i32 != 0)) {
            process->available++;
        } else if (opens) {
            memcpy(pl_memory_data(call->context, &call->memory) + result, memory + PRIVATE_RESULT, 4);
        }
    }
    pthread_mutex_unlock(&naming);
    leave_private(call);
    return trap;
}

/* path_link, path_rename and path_symlink. */
static pl_trap *name_path(const pl_wasi_call *call, pl_value *values, size_t count) {
    enter_private(call);
    pthread_mutex_lock(&naming);
    pl_trap *trap = forward_file_call(call, values, count);
    pthread_mutex_unlock(&naming);
    leave_private(call);
    return trap;
}

/* What wasmtime does. NULL with `waits` set, and nothing done: it is a standard stream that would be read or written. */
static pl_trap *forward(const pl_wasi_call *call, pl_value *values, size_t count, struct stream **waits) {
    pl_process *process = call->process;
    const uint32_t first = (uint32_t)values[0].i32, second = count > 1 ? (uint32_t)values[1].i32 : 0;
    pl_trap *trap = NULL;
    enter_process(call);
    switch (call->kind) {
    case PL_WASI_READ:
    case PL_WASI_WRITE:
        *waits = stream_at(process, first);
        if (*waits == NULL) {
            trap = call->kind == PL_WASI_WRITE ? write_all(call, values) : forward_file_call(call, values, count);
        }
        break;
    case PL_WASI_PLAIN:
        trap = forward_one(call, values, count);
        break;
    default:
        trap = forward_file_call(call, values, count);
        if (trap == NULL && values[0].i32 == 0) {
            if (call->kind == PL_WASI_CLOSE) {
                follow_close(process, first);
                process->available++;
            } else if (call->kind == PL_WASI_RENUMBER) {
                follow_renumber(process, first, second);
                process->available += first != second; /* `second` was open, and is closed: wasmtime refuses it if not */
            }
        }
    }
    leave_process(call);
    return trap;
}

static pl_trap *act(const pl_wasi_call *call, pl_value *values, size_t count) {
    struct stream *stream = NULL;
    switch (call->kind) {
    case PL_WASI_POLL:
        return poll_all(call, values);
    case PL_WASI_OPEN:
    case PL_WASI_TIMES:
        return open_path(call, values, count);
    case PL_WASI_NAME:
        return name_path(call, values, count);
    case PL_WASI_READ:
    case PL_WASI_WRITE:
        stream = stream_at(call->process, (uint32_t)values[0].i32);
    }
    pl_trap *trap = stream == NULL ? forward(call, values, count, &stream) : NULL;
    return stream != NULL ? move_stream(call, stream, values) : trap;
}

static pl_trap *enter(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller;
    pl_wasi_call *call = environment;
    if (call->target.store == 0) {
        return pl_trap_of("a WASI function was called before the memory existed");
    }
    if (call->kind == PL_WASI_CLOCK && tell_time(call, values)) {
        return pl_host_poll(call->group);
    }
    if (call->kind == PL_WASI_RESOLUTION && tell_resolution(call, values)) {
        return pl_host_poll(call->group);
    }
    if (call->kind == PL_WASI_YIELD) {
        sched_yield();
        values[0].i64 = 0;
        return pl_host_poll(call->group);
    }
    int before = pl_safepoint_park(pl_group_safepoint(call->group));
    pl_trap *trap = act(call, values, count);
    return pl_host_return(call->group, before, trap);
}

void pl_wasi_new(pl_context *context, const pl_type *type, pl_wasi_call *call, pl_func *result) {
    pl_wasmtime.func_new_unchecked(context, type, enter, call, NULL, result);
}
