/* Discipline: a pl_atomics_call is read-only; all shared state is in the pl_futex. */
#if !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L /* sched_yield */
#endif

#include "atomics.h"

#include "api_table.h"
#include "epoch.h"

#include <sched.h>
#include <string.h>

/* WASIX, https://github.com/wasix-org/wasix-libc: error numbers, and __wasi_option_timestamp_t */
enum {
    ERRNO_SUCCESS = 0,
    ERRNO_MEMVIOLATION = 78,
    TIMEOUT_SIZE = 16,
    TIMEOUT_VALUE = 8,
    TIMEOUT_NONE = 0
};

/* The key for sleeps. It is distinct from the addresses of guests and the keys of threads. */
#define BED(group) (UINT64_C(3) << 62 | (uint64_t)(uintptr_t)(group))

static int deliver(uintptr_t handle) { return pl_group_deliver((pl_group *)handle); }

static pl_wait_options wait_options(pl_group *group, int64_t timeout, pl_check check,
                                    uintptr_t handle) {
    return (pl_wait_options){
        .timeout = timeout,
        .nudge = pl_group_nudge(group),
        .deliver = pl_group_has_handler(group) ? deliver : NULL,
        .deliver_handle = (uintptr_t)group,
        .check = pl_epoch_on_main_thread() ? check : NULL,
        .handle = handle,
    };
}

int pl_group_wait32(pl_group *group, uint64_t key, const void *cell, uint32_t expected,
                    int64_t timeout, pl_check check, uintptr_t handle) {
    pl_wait_options options = wait_options(group, timeout, check, handle);
    return pl_futex_wait32(pl_shared_futex(pl_group_shared(group)), key, cell, expected, &options);
}

int pl_group_wait64(pl_group *group, uint64_t key, const void *cell, uint64_t expected,
                    int64_t timeout, pl_check check, uintptr_t handle) {
    pl_wait_options options = wait_options(group, timeout, check, handle);
    return pl_futex_wait64(pl_shared_futex(pl_group_shared(group)), key, cell, expected, &options);
}

static void set_result(pl_value *values, uint32_t result) { values[0].i64 = result; }

static uint8_t *at(const pl_atomics_call *call, uint64_t address) {
    return pl_memory_data(call->context, &call->memory) + address;
}

static int is_inside(const pl_atomics_call *call, uint64_t address, uint64_t size) {
    uint64_t length = pl_memory_size(call->context, &call->memory);
    return size <= length && address <= length - size;
}

static pl_trap *trap_of(int waited) {
    return waited >= 0 ? NULL
                       : pl_trap_of(waited == PL_WAITED_CANCELLED ? "the guest was stopped"
                                                                  : "interrupted");
}

/* Waits with the group PARKED. Returns an enum pl_waited; if that is negative, sets the trap. */
static int wait(const pl_atomics_call *call, int wide, uint64_t address, uint64_t expected,
                int64_t timeout, pl_trap **trap) {
    int result = wide ? pl_group_wait64(call->group, address, at(call, address), expected, timeout,
                                        call->check, call->handle)
                      : pl_group_wait32(call->group, address, at(call, address), (uint32_t)expected,
                                        timeout, call->check, call->handle);
    *trap = trap_of(result);
    return result;
}

static uint32_t wake(const pl_atomics_call *call, uint64_t address, uint32_t count) {
    return pl_futex_wake(pl_shared_futex(pl_group_shared(call->group)), address, count);
}

/* The instructions. An address is checked in wasmtime's order, so the traps are the same. */

static pl_trap *trap_for(const pl_atomics_call *call, uint64_t address, uint64_t size) {
    if (address % size != 0) {
        return pl_wasmtime.trap_new_code(PL_TRAP_UNALIGNED);
    }
    return is_inside(call, address, size) ? NULL : pl_wasmtime.trap_new_code(PL_TRAP_OUT_OF_BOUNDS);
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
        return pl_wasmtime.trap_new_code(PL_TRAP_NOT_SHARED);
    }
    set_result(values, (uint32_t)wait(call, wide, address, expected, values[2].i64, &trap));
    return trap;
}

static pl_trap *atomic_notify(const pl_atomics_call *call, pl_value *values) {
    uint64_t address = (uint64_t)values[0].i64;
    pl_trap *trap = trap_for(call, address, 4);
    if (trap == NULL) {
        set_result(values, wake(call, address, (uint32_t)values[1].i32));
    }
    return trap;
}

/* WASIX. */

static int64_t limited(uint64_t nanoseconds) {
    return nanoseconds > INT64_MAX ? INT64_MAX : (int64_t)nanoseconds;
}

static pl_trap *futex_wait(const pl_atomics_call *call, pl_value *values) {
    uint64_t address = (uint32_t)values[0].i32, timeout = (uint32_t)values[2].i32,
             woken = (uint32_t)values[3].i32;
    if (!is_inside(call, timeout, TIMEOUT_SIZE) || !is_inside(call, address, 4) ||
        !is_inside(call, woken, 1)) {
        set_result(values, ERRNO_MEMVIOLATION);
        return NULL;
    }
    int64_t nanoseconds = -1;
    if (*at(call, timeout) != TIMEOUT_NONE) {
        uint64_t value;
        memcpy(&value, at(call, timeout) + TIMEOUT_VALUE, sizeof value);
        nanoseconds = limited(value);
    }
    pl_trap *trap = NULL;
    int result = wait(call, 0, address, (uint32_t)values[1].i32, nanoseconds, &trap);
    if (trap == NULL) {
        *at(call, woken) = result != PL_WAITED_TIMED_OUT;
        set_result(values, ERRNO_SUCCESS);
    }
    return trap;
}

static pl_trap *futex_wake(const pl_atomics_call *call, pl_value *values) {
    uint64_t address = (uint32_t)values[0].i32, woken = (uint32_t)values[1].i32;
    if (is_inside(call, woken, 1)) {
        wake(call, address, call->kind == PL_ATOMICS_FUTEX_WAKE ? 1 : UINT32_MAX);
        *at(call, woken) = 1;
        set_result(values, ERRNO_SUCCESS);
    } else {
        set_result(values, ERRNO_MEMVIOLATION);
    }
    return NULL;
}

static pl_trap *rest(const pl_atomics_call *call, pl_value *values) {
    static const uint32_t nothing = 0;
    uint64_t nanoseconds = (uint64_t)values[0].i64;
    set_result(values, ERRNO_SUCCESS);
    if (nanoseconds == 0) {
        sched_yield();
        return NULL;
    }
    return trap_of(pl_group_wait32(call->group, BED(call->group), &nothing, 0, limited(nanoseconds),
                                   call->check, call->handle));
}

static pl_trap *enter(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller;
    (void)count;
    const pl_atomics_call *call = environment;
    if (call->kind != PL_ATOMICS_SLEEP && call->memory.kind != PL_EXTERN_MEMORY &&
        call->memory.kind != PL_EXTERN_SHARED_MEMORY) {
        return pl_trap_of("a function for atomic access was called before the memory existed");
    }
    pl_safepoint *safepoint = pl_group_safepoint(call->group);
    int waits = call->kind <= PL_ATOMICS_WAIT64 || call->kind == PL_ATOMICS_FUTEX_WAIT ||
                call->kind == PL_ATOMICS_SLEEP;
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
    case PL_ATOMICS_SLEEP:
        trap = rest(call, values);
        break;
    default:
        trap = futex_wake(call, values);
    }
    return pl_host_return(call->group, before, trap);
}

void pl_atomics_new(const pl_type *type, pl_atomics_call *call) {
    pl_wasmtime.func_new_unchecked(call->context, type, enter, call, NULL, &call->self);
}
