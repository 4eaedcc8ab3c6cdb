/* Discipline: a pl_atomics_call is read-only. */
#include "atomics.h"

#include "api_table.h"

#include <string.h>

/* wasmtime_trap_code_t */
enum { TRAP_OUT_OF_BOUNDS = 1, TRAP_UNALIGNED = 2, TRAP_NOT_SHARED = 12 };

/* WASIX, https://github.com/wasix-org/wasix-libc: error numbers, and __wasi_option_timestamp_t */
enum {
    ERRNO_SUCCESS = 0,
    ERRNO_INVAL = 28,
    ERRNO_MEMVIOLATION = 78,
    TIMEOUT_SIZE = 16,
    TIMEOUT_VALUE = 8,
    TIMEOUT_SOME = 1
};

static void answer(pl_value *values, uint32_t result) {
    values[0].i64 = result;
}

static uint8_t *at(const pl_atomics_call *call, uint64_t address) {
    return pl_memory_data(call->context, &call->memory) + address;
}

static int is_inside(const pl_atomics_call *call, uint64_t address, uint64_t size) {
    uint64_t length = pl_memory_size(call->context, &call->memory);
    return size <= length && address <= length - size;
}

/* Parked. Answers an enum pl_waited, or less than 0 and the trap that is due. */
static int wait(const pl_atomics_call *call, int wide, uint64_t address, uint64_t expected, int64_t timeout, pl_trap **trap) {
    pl_futex *futex = pl_shared_futex(pl_group_shared(call->group));
    pl_until until = {
        .timeout = timeout,
        .nudge = pl_group_nudge(call->group),
        .check = pl_epoch_on_main_thread() ? call->check : NULL,
        .handle = call->handle,
    };
    int result = wide ? pl_futex_wait64(futex, address, at(call, address), expected, &until)
                      : pl_futex_wait32(futex, address, at(call, address), (uint32_t)expected, &until);
    if (result < 0) {
        *trap = pl_trap_of(result == PL_WAITED_CANCELLED ? "the program has ended" : "interrupted");
    }
    return result;
}

static uint32_t wake(const pl_atomics_call *call, uint64_t address, uint32_t count) {
    return pl_futex_wake(pl_shared_futex(pl_group_shared(call->group)), address, count);
}

/* The instructions. What is wrong with an address is looked for in wasmtime's order. */

static pl_trap *trap_for(const pl_atomics_call *call, uint64_t address, uint64_t size) {
    if (address % size != 0) {
        return pl_wasmtime.trap_new_code(TRAP_UNALIGNED);
    }
    return is_inside(call, address, size) ? NULL : pl_wasmtime.trap_new_code(TRAP_OUT_OF_BOUNDS);
}

static pl_trap *atomic_wait(const pl_atomics_call *call, pl_value *values) {
    int wide = call->kind == PL_ATOMICS_WAIT64;
    uint64_t address = (uint64_t)values[0].i64;
    uint64_t expected = wide ? (uint64_t)values[1].i64 : (uint32_t)values[1].i32;
    pl_trap *trap = trap_for(call, address, wide ? 8 : 4);
    if (trap != NULL) {
        return trap;
    }
    if (call->memory.kind != PL_EXTERN_SHARED_MEMORY) {
        return pl_wasmtime.trap_new_code(TRAP_NOT_SHARED);
    }
    answer(values, (uint32_t)wait(call, wide, address, expected, values[2].i64, &trap));
    return trap;
}

static pl_trap *atomic_notify(const pl_atomics_call *call, pl_value *values) {
    uint64_t address = (uint64_t)values[0].i64;
    pl_trap *trap = trap_for(call, address, 4);
    if (trap == NULL) {
        answer(values, wake(call, address, (uint32_t)values[1].i32));
    }
    return trap;
}

/* WASIX. */

static pl_trap *futex_wait(const pl_atomics_call *call, pl_value *values) {
    uint64_t address = (uint32_t)values[0].i32, timeout = (uint32_t)values[2].i32, woken = (uint32_t)values[3].i32;
    if (!is_inside(call, timeout, TIMEOUT_SIZE) || !is_inside(call, address, 4) || !is_inside(call, woken, 1)) {
        answer(values, ERRNO_MEMVIOLATION);
        return NULL;
    }
    if (address % 4 != 0) {
        answer(values, ERRNO_INVAL);
        return NULL;
    }
    int64_t nanoseconds = -1;
    if (*at(call, timeout) == TIMEOUT_SOME) {
        uint64_t value;
        memcpy(&value, at(call, timeout) + TIMEOUT_VALUE, sizeof value);
        nanoseconds = value > INT64_MAX ? INT64_MAX : (int64_t)value;
    }
    pl_trap *trap = NULL;
    int result = wait(call, 0, address, (uint32_t)values[1].i32, nanoseconds, &trap);
    if (trap == NULL) {
        *at(call, woken) = result != PL_WAITED_TIMED_OUT;
        answer(values, ERRNO_SUCCESS);
    }
    return trap;
}

static pl_trap *futex_wake(const pl_atomics_call *call, pl_value *values) {
    uint64_t address = (uint32_t)values[0].i32, woken = (uint32_t)values[1].i32;
    if (is_inside(call, woken, 1)) {
        *at(call, woken) = wake(call, address, call->kind == PL_ATOMICS_FUTEX_WAKE ? 1 : UINT32_MAX) != 0;
        answer(values, ERRNO_SUCCESS);
    } else {
        answer(values, ERRNO_MEMVIOLATION);
    }
    return NULL;
}

static pl_trap *enter(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller;
    (void)count;
    const pl_atomics_call *call = environment;
    if (call->memory.kind != PL_EXTERN_MEMORY && call->memory.kind != PL_EXTERN_SHARED_MEMORY) {
        return pl_trap_of("a function for atomic access was called before the memory existed");
    }
    pl_safepoint *safepoint = pl_group_safepoint(call->group);
    int waits = call->kind <= PL_ATOMICS_WAIT64 || call->kind == PL_ATOMICS_FUTEX_WAIT;
    int before = waits ? pl_safepoint_park(safepoint) : pl_safepoint_state(safepoint);
    pl_trap *trap;
    switch (call->kind) {
    case PL_ATOMICS_WAIT32:
    case PL_ATOMICS_WAIT64:
        trap = atomic_wait(call, values);
        break;
    case PL_ATOMICS_NOTIFY:
        trap = atomic_notify(call, values);
        break;
    case PL_ATOMICS_FUTEX_WAIT:
        trap = futex_wait(call, values);
        break;
    default:
        trap = futex_wake(call, values);
    }
    return pl_host_return(call->group, before, trap);
}

void pl_atomics_new(pl_context *context, const pl_type *type, pl_atomics_call *call, pl_func *result) {
    pl_wasmtime.func_new_unchecked(context, type, enter, call, NULL, result);
}
