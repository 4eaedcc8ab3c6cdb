/* Discipline: `mutex` is held while the process's store runs, and by nobody who waits for anything else. A pl_process is read-only but for
 * it, and for its clocks, which are relaxed atomics: each is a number of its own. */
#if !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L
#endif

#include "wasi.h"

#include "api_table.h"
#include "epoch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLOCKS = 4 };

struct pl_process {
    pl_context *context;
    int waits;
    int32_t fault; /* an error number, or 0 */
    int64_t started; /* on pl_now's clock: where the guest's monotonic clock is zero */
    _Atomic uint64_t ahead[CLOCKS]; /* by how much the guest has set each of its clocks forward, modulo 2^64 */
    pthread_mutex_t mutex;
    struct {
        const pl_type *type;
        int kind;
        pl_func target;
    } functions[PL_WASI_FUNCTIONS];
};

/* WASI preview 1: sizes and offsets in guest memory, error numbers (https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md). */
enum {
    SUBSCRIPTION_SIZE = 48,
    SUBSCRIPTION_TAG = 8,
    SUBSCRIPTION_CLOCK = 16,
    SUBSCRIPTION_TIMEOUT = 24,
    SUBSCRIPTION_FLAGS = 40,
    EVENT_SIZE = 32,
    TAG_CLOCK = 0,
    CLOCK_REALTIME_ID = 0,
    CLOCK_MONOTONIC_ID = 1,
    CLOCK_PROCESS_ID = 2, /* processor time */
    CLOCK_THREAD_ID = 3, /* the last of CLOCKS */
    FLAG_ABSOLUTE = 1,
    ERRNO_INVAL = 28,
    BUFFER_SIZE = 8,
    BUFFER_LENGTH = 4
};

pl_process *pl_process_new(pl_context *context, int waits) {
    pl_process *process = calloc(1, sizeof *process);
    if (process != NULL) {
        process->context = context;
        process->waits = waits;
        process->started = pl_now();
        pthread_mutex_init(&process->mutex, NULL);
    }
    return process;
}

void pl_process_free(pl_process *process) {
    if (process != NULL) {
        pthread_mutex_destroy(&process->mutex);
        free(process);
    }
}

void pl_process_set_fault(pl_process *process, int32_t number) {
    process->fault = number;
}

void pl_process_provide(pl_process *process, uint32_t index, const pl_type *type, int kind) {
    process->functions[index].type = type;
    process->functions[index].kind = kind;
}

void pl_process_connect(pl_process *process, uint32_t index, const pl_func *target) {
    process->functions[index].target = *target;
}

int pl_process_join(pl_process *process, const pl_linker *linker, const char *space, const char *const *names, uint32_t count,
                    const pl_module *shim, const pl_extern *memory, pl_failure *failure) {
    pl_extern imports[1 + PL_WASI_FUNCTIONS], function;
    pl_instance instance;
    *failure = (pl_failure){NULL, NULL, 0};
    if (count > PL_WASI_FUNCTIONS) {
        return PL_ERROR;
    }
    imports[0] = *memory;
    for (uint32_t i = 0; i < count; i++) {
        if (!pl_linker_get(linker, process->context, space, strlen(space), names[i], strlen(names[i]), imports + 1 + i)) {
            return PL_ERROR;
        }
    }
    int status = pl_instance_new(process->context, shim, imports, 1 + count, &instance, failure);
    for (uint32_t i = 0; i < count && status == PL_OK; i++) {
        if (!pl_instance_export(process->context, &instance, names[i], strlen(names[i]), &function) || function.kind != PL_EXTERN_FUNC) {
            return PL_ERROR;
        }
        pl_process_connect(process, i, &function.of.func);
    }
    return status;
}

const pl_type *pl_process_type(const pl_process *process, uint32_t index) {
    return process->functions[index].type;
}

void pl_wasi_connect(pl_wasi_call *call, uint32_t index, const pl_extern *memory) {
    call->kind = call->process->functions[index].kind;
    call->target = call->process->functions[index].target;
    call->memory = *memory;
}

/* Whether a wait has to end early: the linker is cancelled, or the caller's check says so. */
static int must_stop(const pl_wasi_call *call) {
    return pl_cancel_cause(pl_shared_cancel(pl_group_shared(call->group))) != 0 ||
           (call->check != NULL && pl_epoch_on_main_thread() && call->check(call->handle) != 0);
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

/* How long subscription `at` wants to sleep, in nanoseconds, or -1 if it is not a clock this function knows. */
static int64_t wanted_sleep(const pl_process *process, const uint8_t *at) {
    uint32_t clock;
    uint64_t now;
    memcpy(&clock, at + SUBSCRIPTION_CLOCK, sizeof clock);
    if (at[SUBSCRIPTION_TAG] != TAG_CLOCK || clock > CLOCK_MONOTONIC_ID || !read_clock(process, clock, &now)) {
        return -1;
    }
    uint64_t timeout = load64(at + SUBSCRIPTION_TIMEOUT);
    if (at[SUBSCRIPTION_FLAGS] & FLAG_ABSOLUTE) {
        timeout = timeout > now ? timeout - now : 0;
    }
    return timeout > INT64_MAX ? INT64_MAX : (int64_t)timeout;
}

/* poll_oneoff(subscriptions, events, count, count_out) on clocks alone. Answers 1 if it was one and is done, 0 if wasmtime has to do it, -1
 * if it must stop. */
static int poll_clocks(const pl_wasi_call *call, pl_value *values) {
    uint64_t size = pl_memory_size(call->context, &call->memory);
    uint8_t *memory = pl_memory_data(call->context, &call->memory);
    uint64_t subscriptions = (uint32_t)values[0].i32, events = (uint32_t)values[1].i32, count = (uint32_t)values[2].i32;
    uint64_t count_out = (uint32_t)values[3].i32;
    if (count == 0 || subscriptions + count * SUBSCRIPTION_SIZE > size || events + count * EVENT_SIZE > size || count_out + 4 > size) {
        return 0; /* wasmtime has the right error for it */
    }
    int64_t shortest = INT64_MAX;
    for (uint64_t i = 0; i < count; i++) {
        int64_t wanted = wanted_sleep(call->process, memory + subscriptions + i * SUBSCRIPTION_SIZE);
        if (wanted < 0) {
            return 0;
        }
        shortest = wanted < shortest ? wanted : shortest;
    }
    if (sleep_until(call, pl_deadline(shortest)) != 0) {
        return -1;
    }
    /* The memory may have grown meanwhile, never shrunk, and it does not move. Every clock as short as the shortest has rung. */
    uint32_t rung = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *from = memory + subscriptions + i * SUBSCRIPTION_SIZE;
        int64_t wanted = wanted_sleep(call->process, from);
        if (wanted >= 0 && (wanted <= shortest || (from[SUBSCRIPTION_FLAGS] & FLAG_ABSOLUTE && wanted == 0))) {
            uint8_t event[EVENT_SIZE] = {0};
            memcpy(event, from, 8);
            memcpy(memory + events + (uint64_t)rung * EVENT_SIZE, event, sizeof event);
            rung++;
        }
    }
    memcpy(memory + count_out, &rung, sizeof rung);
    values[0].i64 = 0;
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

/* Waits until standard input has something, or has ended. Answers 0, or -1 if it must stop. */
static int wait_for_input(const pl_wasi_call *call) {
    for (;;) {
        struct pollfd input = {.fd = 0, .events = POLLIN, .revents = 0};
        int ready = poll(&input, 1, PL_SLICE / 1000000);
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            return 0; /* also after an error: wasmtime's own read has the right number for it */
        }
        if (must_stop(call)) {
            return -1;
        }
    }
}

/* The error number for what wasmtime refuses: pointers that lead out of the memory, and values that mean nothing. */
static int32_t number_of(const pl_process *process, const pl_error *error) {
    static const char outside[] = "Pointer out of bounds";
    pl_bytes message = {0, NULL};
    int32_t number = ERRNO_INVAL;
    pl_wasmtime.error_message(error, &message);
    for (size_t i = 0; i + sizeof outside - 1 <= message.size; i++) {
        if (memcmp(message.data + i, outside, sizeof outside - 1) == 0) {
            number = process->fault;
            break;
        }
    }
    pl_wasmtime.byte_vec_delete(&message);
    return number;
}

/* With the mutex. */
static pl_trap *forward_one(const pl_wasi_call *call, pl_value *values, size_t count) {
    pl_trap *trap = NULL;
    pl_error *error = pl_wasmtime.func_call_unchecked(call->process->context, &call->target, values, count, &trap);
    if (error != NULL) {
        int32_t number = call->process->fault != 0 ? number_of(call->process, error) : 0;
        pl_wasmtime.error_delete(error);
        if (number == 0) {
            return pl_trap_of("a WASI call failed in the host");
        }
        values[0].i64 = number;
    }
    return trap;
}

static uint32_t load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* fd_write(descriptor, buffers, count, written): wasmtime's writes the first buffer that is not empty, and leaves it to the guest to
 * come again. Here they are written one by one, so that a line of several parts is not torn. With the mutex. */
static pl_trap *write_all(const pl_wasi_call *call, pl_value *values) {
    const pl_value asked[4] = {values[0], values[1], values[2], values[3]};
    uint64_t buffers = (uint32_t)asked[1].i32, count = (uint32_t)asked[2].i32, written = (uint32_t)asked[3].i32;
    uint64_t size = pl_memory_size(call->context, &call->memory);
    if (count < 2 || buffers + count * BUFFER_SIZE > size || written + 4 > size) {
        return forward_one(call, values, 4);
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
        pl_trap *trap = forward_one(call, values, 4);
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

static pl_trap *forward(const pl_wasi_call *call, pl_value *values, size_t count) {
    pthread_mutex_lock(&call->process->mutex);
    pl_trap *trap = call->kind == PL_WASI_WRITE ? write_all(call, values) : forward_one(call, values, count);
    pthread_mutex_unlock(&call->process->mutex);
    return trap;
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
    int done = 0;
    if (call->kind == PL_WASI_POLL) {
        done = poll_clocks(call, values);
    } else if (call->kind == PL_WASI_READ && values[0].i32 == 0 && call->process->waits) {
        done = wait_for_input(call);
    }
    pl_trap *trap = done < 0 ? pl_trap_of("interrupted") : done > 0 ? NULL : forward(call, values, count);
    return pl_host_return(call->group, before, trap);
}

void pl_wasi_new(pl_context *context, const pl_type *type, pl_wasi_call *call, pl_func *result) {
    pl_wasmtime.func_new_unchecked(context, type, enter, call, NULL, result);
}
