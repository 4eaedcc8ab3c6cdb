/* atomics: a guest waits on an address of its memory and wakes those who do, through host
 * functions.
 *
 * wasmtime's own memory.atomic.wait32 is asleep to everybody but memory.atomic.notify: no
 * library can be opened meanwhile, and no program ended. So these instructions can be made
 * calls, when a module is loaded. The functions do what the instructions do, trap for trap, over
 * the program's pl_futex; WASIX's functions of the same purpose are here too, so that a wake-up
 * of either kind reaches a wait of the other, and WASIX's sleep, which a nudge reaches as it
 * does them.
 *
 * The group is PARKED while it waits. To wake is short and parks nobody, but it is a safepoint,
 * as every host call is.
 *
 * A wait ends early with a trap when the linker is cancelled or when `check` says so, which is
 * asked on the main thread only (epoch.h): nowhere else is there anything to find, and who is
 * not asked sleeps without a break.
 *
 * WASIX's functions answer an error number: 0, or 78 (memviolation) if something they read or
 * write lies outside the memory. `*woken` is 1 after a wake-up or a nudge, and if the value was
 * not the expected one; 0 after a time-out. To wake sets it to 1, whether or not anybody waited.
 * A time-out is 16 bytes: a tag of 8 bits, not 0 if there is one, and at 8 the nanoseconds. That
 * is what WASIX's declarations say (api_wasix.h in wasix-libc) and what programs see under
 * Wasmer. To wake takes any address: nobody waits on a bad one. A sleep is a wait at nothing;
 * one of no time yields.
 *
 * Blocking: the waits. Threads: as the store's; a pl_atomics_call is fixed before its first
 * call.
 *
 *     pl_atomics_call call = {.group = group, .context = context, .kind = PL_ATOMICS_WAIT32,
 *                             .memory = memory};
 *     pl_atomics_new(type, &call); */
#ifndef PL_ATOMICS_H
#define PL_ATOMICS_H

#include "call.h"
#include "wrappers.h"

/* The functions, and their types. An address is the sum of the instruction's operand and its
 * offset, as 64 bits, so that it cannot wrap. */
enum pl_atomics_kind {
    /* memory.atomic.wait32 (address i64, expected i32, timeout i64) -> i32: an enum pl_waited,
     * from 0 on */
    PL_ATOMICS_WAIT32 = 0,
    /* memory.atomic.wait64 (address i64, expected i64, timeout i64) -> i32 */
    PL_ATOMICS_WAIT64 = 1,
    /* memory.atomic.notify (address i64, count i32) -> i32: how many */
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
    /* gets `handle` now and then during a wait of the main thread; not 0 ends it with a trap.
     * May be NULL */
    pl_check check;
    uintptr_t handle;
    pl_extern memory; /* zeros: there is none yet, and a call traps */
    pl_func self;     /* by pl_atomics_new */
} pl_atomics_call;

/* Waits of a group, as pl_futex_wait32 and pl_futex_wait64 do them: a nudge reaches them, and on
 * the main thread `check`, which gets `handle` and may be NULL. The group is PARKED. `timeout`
 * in nanoseconds, negative for none. */
int pl_group_wait32(pl_group *group, uint64_t key, const void *cell, uint32_t expected,
                    int64_t timeout, pl_check check, uintptr_t handle);
int pl_group_wait64(pl_group *group, uint64_t key, const void *cell, uint64_t expected,
                    int64_t timeout, pl_check check, uintptr_t handle);

/* Makes `call` callable in the store of its context. `type` is a wasm_functype_t; the store
 * copies it. */
void pl_atomics_new(const pl_type *type, pl_atomics_call *call);

#endif
