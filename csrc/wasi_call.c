/* wasi_call: calls that wasmtime executes: their pointer checks, who owns the process meanwhile,
 * and the threads of its runtime. Discipline: that of wasi_impl.h. */
#include "wasi_impl.h"

/* Returns whether one of `count` buffers at `address`, or their list, is out of bounds of a memory
 * of `size` bytes. */
static int buffers_lead_outside(const pl_wasi_call *call, uint64_t address, uint64_t count,
                                uint64_t size) {
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

/* Returns whether one of the pointer arguments of a call is out of bounds (pl_process_provide). */
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
        case 's': /* the other reason for a refusal is a misaligned array */
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

pl_trap *pl_wasi_refuse(const pl_process *process, pl_value *values, int32_t number) {
    if (process->fault == 0) {
        return pl_trap_of("a WASI call failed in the host");
    }
    values[0].i64 = number;
    return NULL;
}

int pl_wasi_is_pointer(const pl_process *process, uint64_t address, uint64_t size,
                       uint64_t alignment, uint64_t limit, pl_value *values, pl_trap **trap) {
    if (address + size > limit) {
        *trap = pl_wasi_refuse(process, values, process->fault);
        return 0;
    }
    if (address % alignment != 0) {
        *trap = pl_wasi_refuse(process, values, ERRNO_INVAL);
        return 0;
    }
    return 1;
}

/* Returns whether wasmtime has created its runtime, or is creating it. It exists until the process
 * exits. */
static _Atomic int has_runtime;

/* Returns whether the process can open as many descriptors as wasmtime's runtime needs, and some
 * more. */
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

/* Returns whether there is address space for the stacks of its threads, one for each processor. */
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

int32_t pl_wasi_begin_file_call(void) {
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

/* With the process. Returns 1 if wasmtime refuses the call, else 0. */
static int call_wasmtime(const pl_process *process, const pl_func *target, pl_value *values,
                         size_t count, pl_trap **trap) {
    *trap = NULL;
    pl_error *error =
        pl_wasmtime.func_call_unchecked(process->context, target, values, count, trap);
    if (error == NULL) {
        return 0;
    }
    pl_wasmtime.error_delete(error);
    return 1;
}

pl_trap *pl_wasi_call_shim(const pl_process *process, const pl_func *target, pl_value *values,
                           size_t count) {
    pl_trap *trap;
    return call_wasmtime(process, target, values, count, &trap)
               ? pl_wasi_refuse(process, values, ERRNO_INVAL)
               : trap;
}

pl_trap *pl_wasi_forward_one(const pl_wasi_call *call, pl_value *values, size_t count) {
    pl_value asked[PL_WASI_PARAMETERS];
    pl_trap *trap;
    memcpy(asked, values,
           (count < PL_WASI_PARAMETERS ? count : PL_WASI_PARAMETERS) * sizeof *asked);
    if (!call_wasmtime(call->process, &call->target, values, count, &trap)) {
        return trap;
    }
    return pl_wasi_refuse(call->process, values,
                          leads_outside(call, asked) ? call->process->fault : ERRNO_INVAL);
}

pl_trap *pl_wasi_forward_file_call(const pl_wasi_call *call, pl_value *values, size_t count) {
    int32_t number = pl_wasi_begin_file_call();
    if (number != 0) {
        values[0].i64 = number;
        return NULL;
    }
    return pl_wasi_forward_one(call, values, count);
}

/* Enters the process for a call. In a program without threads its store is the caller's own: there
 * is no other thread then, and the mutex must not be taken, because a signal handler that runs at
 * the shim's first instruction may call WASI, too. */
static int is_own(const pl_wasi_call *call) { return call->context == call->process->context; }

void pl_wasi_enter_process(const pl_wasi_call *call) {
    if (!is_own(call)) {
        pthread_mutex_lock(&call->process->mutex);
    }
}

void pl_wasi_leave_process(const pl_wasi_call *call) {
    if (!is_own(call)) {
        pthread_mutex_unlock(&call->process->mutex);
    }
}

void pl_wasi_enter_private(const pl_wasi_call *call) {
    pl_wasi_enter_process(call);
    if (is_own(call)) {
        pl_epoch_ignore(call->context);
    }
}

void pl_wasi_leave_private(const pl_wasi_call *call) {
    if (is_own(call)) {
        pl_wasmtime.context_set_epoch_deadline(call->context, 0);
    }
    pl_wasi_leave_process(call);
}
