/* atomics: a guest waits on an address of its memory and wakes those who do, through host functions.
 *
 * wasmtime's own memory.atomic.wait32 is asleep to everybody but memory.atomic.notify: no library can be opened meanwhile, and no program
 * ended. So these instructions can be made calls, when a module is loaded. The functions do what the instructions do, trap for trap, over
 * the program's pl_futex; WASIX's functions of the same purpose are here too, so that a wake-up of either kind reaches a wait of the other.
 *
 * The group is PARKED while it waits. To wake is short and parks nobody, but it is a safepoint, as every host call is.
 *
 * A wait ends early with a trap when the linker is cancelled or when `check` says so, which is asked on the main thread only (epoch.h):
 * nowhere else is there anything to find, and who is not asked sleeps without a break.
 *
 * WASIX's functions answer an error number: 0; 78 (memviolation) if something they read or write lies outside the memory; 28 (inval) if
 * the futex of a wait is not aligned to 4. `*woken` is 1 after a wake-up or a nudge, and if the value was not the expected one; 0 after a
 * time-out. To wake sets it to whether anybody was woken. A time-out is 16 bytes: a tag of 8 bits, 1 if there is one, and at 8 the
 * nanoseconds. That is what WASIX's declarations say (api_wasix.h in wasix-libc) and what Wasmer's tests of these calls ask for; only that
 * a futex must be aligned is not in there, since wasix-libc sees to it. To wake takes any address: nobody waits on a bad one.
 *
 * Blocking: the waits. Threads: as the store's; a pl_atomics_call is fixed before its first call.
 *
 *     pl_atomics_call call = {.group = group, .context = context, .kind = PL_ATOMICS_WAIT32, .memory = memory};
 *     pl_atomics_new(context, type, &call, &func);
 */
#ifndef PL_ATOMICS_H
#define PL_ATOMICS_H

#include "call.h"
#include "object.h"

/* The functions, and their types. An address is the sum of the instruction's operand and its offset, as 64 bits, so that it cannot wrap. */
enum pl_atomics_kind {
    PL_ATOMICS_WAIT32 = 0,        /* memory.atomic.wait32 (address i64, expected i32, timeout i64) -> i32: an enum pl_waited, from 0 on */
    PL_ATOMICS_WAIT64 = 1,        /* memory.atomic.wait64 (address i64, expected i64, timeout i64) -> i32 */
    PL_ATOMICS_NOTIFY = 2,        /* memory.atomic.notify (address i64, count i32) -> i32: how many */
    PL_ATOMICS_FUTEX_WAIT = 3,    /* futex_wait (futex i32, expected i32, timeout i32, woken i32) -> i32 */
    PL_ATOMICS_FUTEX_WAKE = 4,    /* futex_wake (futex i32, woken i32) -> i32 */
    PL_ATOMICS_FUTEX_WAKE_ALL = 5 /* futex_wake_all (futex i32, woken i32) -> i32 */
};

typedef struct pl_atomics_call {
    pl_group *group;     /* of the caller */
    pl_context *context; /* of the caller: where `memory` is */
    int kind;            /* enum pl_atomics_kind */
    pl_check check;      /* gets `handle` now and then during a wait of the main thread; not 0 ends it with a trap. May be NULL */
    uintptr_t handle;
    pl_extern memory; /* zeros: there is none yet, and a call traps */
} pl_atomics_call;

/* Makes `call` callable in the store of `context`. `type` is a wasm_functype_t; the store copies it. */
void pl_atomics_new(pl_context *context, const pl_type *type, pl_atomics_call *call, pl_func *result);

#endif
