/* wasi: the process, its clocks, and the dispatch of its functions. Discipline: that of
 * wasi_impl.h. */
#include "wasi_impl.h"

pl_process *pl_process_new(pl_context *context) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, pl_wasi_keep_naming_over_fork);
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

int pl_wasi_never_waits(mode_t mode) { return S_ISREG(mode) || S_ISBLK(mode) || S_ISDIR(mode); }

int pl_process_set_stream(pl_process *process, uint32_t index, int descriptor) {
    struct stat status;
    int mine = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    if (mine < 0) {
        return errno;
    }
    int flags = fcntl(mine, F_GETFL);
    if (fstat(mine, &status) != 0 || flags < 0 ||
        (!pl_wasi_never_waits(status.st_mode) && fcntl(mine, F_SETFL, flags | O_NONBLOCK) != 0)) {
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
    struct directory *directories =
        realloc(process->directories, (process->directory_count + 1) * sizeof *directories);
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

void pl_process_set_descriptors(pl_process *process, uint32_t most) { process->available = most; }

void pl_process_set_fault(pl_process *process, int32_t number) { process->fault = number; }

void pl_process_provide(pl_process *process, uint32_t index, const pl_type *type, int kind,
                        const char *parameters) {
    process->functions[index].type = type;
    process->functions[index].kind = kind;
    process->functions[index].parameters = parameters;
}

void pl_process_connect(pl_process *process, uint32_t index, const pl_func *target) {
    process->functions[index].target = *target;
}

/* Instantiates a shim of `count` functions of a namespace of the linker; it imports `memory` first
 * unless that is NULL. Returns a pl_status; PL_ERROR with an empty `failure` if the linker lacks
 * one of the functions. */
static int instantiate_shim(pl_process *process, const pl_linker *linker, const char *space,
                            const char *const *names, uint32_t count, const pl_module *shim,
                            const pl_extern *memory, pl_instance *instance, pl_failure *failure) {
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
        if (!pl_linker_get(linker, process->context, space, strlen(space), names[i],
                           strlen(names[i]), imports + first + i)) {
            return PL_ERROR;
        }
    }
    return pl_instance_new(process->context, shim, imports, first + count, instance, failure);
}

static int shim_function(pl_process *process, const pl_instance *instance, const char *name,
                         pl_func *function) {
    pl_extern found;
    if (!pl_instance_export(process->context, instance, name, strlen(name), &found) ||
        found.kind != PL_EXTERN_FUNC) {
        return PL_ERROR;
    }
    *function = found.of.func;
    return PL_OK;
}

int pl_process_join(pl_process *process, const pl_linker *linker, const char *space,
                    const char *const *names, uint32_t count, const pl_module *shim,
                    const pl_extern *memory, pl_failure *failure) {
    pl_instance instance;
    int status =
        instantiate_shim(process, linker, space, names, count, shim, memory, &instance, failure);
    for (uint32_t i = 0; i < count && status == PL_OK; i++) {
        pl_func target;
        status = shim_function(process, &instance, names[i], &target);
        if (status == PL_OK) {
            pl_process_connect(process, i, &target);
        }
    }
    return status;
}

int pl_process_join_private(pl_process *process, const pl_linker *linker, const char *space,
                            const pl_module *shim, pl_failure *failure) {
    static const char *const names[PL_WASI_PRIVATE_FUNCTIONS] = {
        [PL_WASI_PRIVATE_LOOK] = "path_filestat_get",
        [PL_WASI_PRIVATE_OPEN] = "path_open",
        [PL_WASI_PRIVATE_TIMES] = "path_filestat_set_times",
        [PL_WASI_PRIVATE_POLL] = "poll_oneoff",
    };
    static const char memory[] = "memory";
    pl_instance instance;
    int status = instantiate_shim(process, linker, space, names, PL_WASI_PRIVATE_FUNCTIONS, shim,
                                  NULL, &instance, failure);
    for (uint32_t i = 0; i < PL_WASI_PRIVATE_FUNCTIONS && status == PL_OK; i++) {
        status = shim_function(process, &instance, names[i], &process->private_functions[i]);
    }
    if (status == PL_OK &&
        (!pl_instance_export(process->context, &instance, memory, strlen(memory),
                             &process->private_memory) ||
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

static const clockid_t host_clocks[CLOCKS] = {
    [CLOCK_REALTIME_ID] = CLOCK_REALTIME,
    [CLOCK_MONOTONIC_ID] = CLOCK_MONOTONIC,
    [CLOCK_PROCESS_ID] = CLOCK_PROCESS_CPUTIME_ID,
    [CLOCK_THREAD_ID] = CLOCK_THREAD_CPUTIME_ID,
};

static uint64_t nanoseconds(const struct timespec *time) {
    return (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
}

/* Returns the host's clock for the guest's clock `id`, which is valid. */
static uint64_t read_host_clock(const pl_process *process, uint32_t id) {
    if (id == CLOCK_MONOTONIC_ID) {
        return (uint64_t)(pl_now() - process->started);
    }
    struct timespec time;
    clock_gettime(host_clocks[id], &time);
    return nanoseconds(&time);
}

int pl_wasi_read_clock(const pl_process *process, uint32_t id, uint64_t *now) {
    if (id >= CLOCKS) {
        return 0;
    }
    *now = read_host_clock(process, id) +
           atomic_load_explicit(&process->ahead[id], memory_order_relaxed);
    return 1;
}

int pl_process_set_clock(pl_process *process, uint32_t id, uint64_t now) {
    if (id >= CLOCKS) {
        return 0;
    }
    atomic_store_explicit(&process->ahead[id], now - read_host_clock(process, id),
                          memory_order_relaxed);
    return 1;
}

/* Writes a number of a valid clock to `result`. Returns 1 if done, 0 if wasmtime has to report the
 * error. */
static int tell_number(const pl_wasi_call *call, pl_value *values, uint64_t result,
                       uint64_t number) {
    if (result + sizeof number > pl_memory_size(call->context, &call->memory)) {
        /* for a clock that wasmtime does not have it would report that first */
        values[0].i64 = CLOCK_MONOTONIC_ID;
        return 0;
    }
    memcpy(pl_memory_data(call->context, &call->memory) + result, &number, sizeof number);
    values[0].i64 = 0;
    return 1;
}

/* clock_time_get(id, precision, result). Returns 1 if done, 0 if wasmtime has to execute it or to
 * report the error. */
static int tell_time(const pl_wasi_call *call, pl_value *values) {
    uint64_t now;
    return pl_wasi_read_clock(call->process, (uint32_t)values[0].i32, &now) &&
           tell_number(call, values, (uint32_t)values[2].i32, now);
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

/* A call that wasmtime executes. Returns NULL with `waits` set and does nothing if it would read or
 * write a standard stream. */
static pl_trap *forward(const pl_wasi_call *call, pl_value *values, size_t count,
                        struct stream **waits) {
    pl_process *process = call->process;
    const uint32_t first = (uint32_t)values[0].i32,
                   second = count > 1 ? (uint32_t)values[1].i32 : 0;
    pl_trap *trap = NULL;
    pl_wasi_enter_process(call);
    switch (call->kind) {
    case PL_WASI_READ:
    case PL_WASI_WRITE:
        *waits = pl_wasi_stream_at(process, first);
        if (*waits == NULL) {
            trap = call->kind == PL_WASI_WRITE ? pl_wasi_write_all(call, values)
                                               : pl_wasi_forward_file_call(call, values, count);
        }
        break;
    case PL_WASI_PLAIN:
        trap = pl_wasi_forward_one(call, values, count);
        break;
    default:
        trap = pl_wasi_forward_file_call(call, values, count);
        if (trap == NULL && values[0].i32 == 0) {
            if (call->kind == PL_WASI_CLOSE) {
                pl_wasi_follow_close(process, first);
                process->available++;
            } else if (call->kind == PL_WASI_RENUMBER) {
                pl_wasi_follow_renumber(process, first, second);
                /* `second` was open, and is closed now: otherwise wasmtime refuses the call */
                process->available += first != second;
            }
        }
    }
    pl_wasi_leave_process(call);
    return trap;
}

static pl_trap *act(const pl_wasi_call *call, pl_value *values, size_t count) {
    struct stream *stream = NULL;
    switch (call->kind) {
    case PL_WASI_POLL:
        return pl_wasi_poll_all(call, values);
    case PL_WASI_OPEN:
    case PL_WASI_TIMES:
        return pl_wasi_open_path(call, values, count);
    case PL_WASI_NAME:
        return pl_wasi_name_path(call, values, count);
    case PL_WASI_READ:
    case PL_WASI_WRITE:
        stream = pl_wasi_stream_at(call->process, (uint32_t)values[0].i32);
    }
    pl_trap *trap = stream == NULL ? forward(call, values, count, &stream) : NULL;
    return stream != NULL ? pl_wasi_move_stream(call, stream, values) : trap;
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
