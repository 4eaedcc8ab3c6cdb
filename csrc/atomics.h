/* atomics: futex waits and wakes of guests, as host functions.
 *
 * While a thread is in wasmtime's own memory.atomic.wait32, only memory.atomic.notify wakes it: no
 * library can be opened meanwhile, and the program cannot be ended. So a load can replace these
 * instructions by calls. The functions do what the instructions do, trap for trap, over the
 * program's pl_futex. The futex functions of WASIX use the same pl_futex, so a wake of either kind
 * reaches a wait of the other kind. WASIX's sleep is here because a nudge ends it as well.
 *
 * States: the group is PARKED while it waits. A wake does not park, but it is a safepoint, as every
 * host call is.
 *
 * A wait ends early with a trap when the linker is cancelled, or when `check` returns nonzero.
 * `check` is called on the main thread only (epoch.h), because no other thread handles signals;
 * other threads sleep without a periodic wake-up.
 *
 * The functions of WASIX return an error number: 0, or 78 (memviolation) if an operand is outside
 * the memory. `*woken` is 1 after a wake or a nudge, and if the value differs from the expected
 * one; 0 after a timeout. A wake sets it to 1, whether or not there was a waiter. A timeout is 16
 * bytes: a tag of 8 bits, nonzero if there is a timeout, and nanoseconds at offset 8. This follows
 * WASIX's declarations (api_wasix.h in wasix-libc) and what programs observe under Wasmer. A wake
 * accepts any address, because no thread waits on an invalid one. A sleep is a wait without a cell;
 * a sleep of zero nanoseconds yields.
 *
 * Protects: nothing; the queue is in the pl_futex.
 * Requires: a pl_atomics_call is filled in before its first call and not changed afterwards.
 * Blocks: the waits.
 * Memory order: as futex.h.
 * Threads: the thread that runs the store.
 *
 *     pl_atomics_call call = {.group = group, .context = context, .kind = PL_ATOMICS_WAIT32,
 *                             .memory = memory};
 *     pl_atomics_new(type, &call); */
#ifndef PL_ATOMICS_H
#define PL_ATOMICS_H

#include "call.h"
#include "wrappers.h"

/* The functions and their types. An address is the sum of the instruction's operand and its
 * offset in 64 bits, which cannot overflow. */
enum pl_atomics_kind {
    /* memory.atomic.wait32 (address i64, expected i32, timeout i64) -> i32: an enum pl_waited,
     * from 0 on */
    PL_ATOMICS_WAIT32 = 0,
    /* memory.atomic.wait64 (address i64, expected i64, timeout i64) -> i32 */
    PL_ATOMICS_WAIT64 = 1,
    /* memory.atomic.notify (address i64, count i32) -> i32: the number of woken threads */
    PL_ATOMICS_NOTIFY = 2,
    /* futex_wait (futex i32, expected i32, timeout i32, woken i32) -> i32 */
    PL_ATOMICS_FUTEX_WAIT = 3,
    PL_ATOMICS_FUTEX_WAKE = 4,     /* futex_wake (futex i32, woken i32) -> i32 */
    PL_ATOMICS_FUTEX_WAKE_ALL = 5, /* futex_wake_all (futex i32, woken i32) -> i32 */
    PL_ATOMICS_SLEEP = 6,          /* thread_sleep (nanoseconds i64) -> i32 */
    PL_ATOMICS_KINDS = 7
};

typedef struct pl_atomics_call {
    pl_group *group;     /* of the caller */
    pl_context *context; /* of the caller: where `memory` is */
    int kind;            /* enum pl_atomics_kind */
    /* called with `handle` every PL_SLICE nanoseconds during a wait of the main thread; nonzero
     * ends the wait with a trap. May be NULL */
    pl_check check;
    uintptr_t handle;
    pl_extern memory; /* all zeros: there is no memory yet, and a call traps */
    pl_func self;     /* set by pl_atomics_new */
} pl_atomics_call;

/* Wait as pl_futex_wait32 and pl_futex_wait64 do, with the group PARKED. A nudge of the group ends
 * the wait, and on the main thread `check`, which is called with `handle` and may be NULL.
 * `timeout` in nanoseconds, negative for none. */
int pl_group_wait32(pl_group *group, uint64_t key, const void *cell, uint32_t expected,
                    int64_t timeout, pl_check check, uintptr_t handle);
int pl_group_wait64(pl_group *group, uint64_t key, const void *cell, uint64_t expected,
                    int64_t timeout, pl_check check, uintptr_t handle);

/* Makes `call` callable in the store of its context. `type` is a wasm_functype_t, which the store
 * copies. */
void pl_atomics_new(const pl_type *type, pl_atomics_call *call);

#endif
