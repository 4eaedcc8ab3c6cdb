/* stack: checks that a thread has enough stack to enter a guest.
 *
 * wasmtime lets the guest of a store use PL_STACK_GUEST bytes below the address where the store was
 * entered, whatever the size of the thread's stack: without a check a guest that recurses on a
 * small stack writes to the guard page. So every entry compares the stack pointer with the lowest
 * address from which the guest, and a host function at the deepest call of the guest, have room.
 * wasmtime keeps the limit of the outermost entry for nested entries into the same store; those
 * need room for the host only.
 *
 * States: the bounds of a thread are read at its first entry: the stack of the first thread of a
 * process ends where RLIMIT_STACK says, that of any other thread has the size of its creation. They
 * are read again before an entry is refused, because that limit can be raised. A stack that the
 * system does not know (of a coroutine) has no known bounds, and is not checked.
 *
 * The first entry also installs the alternate signal stack that wasmtime needs; wasmtime would
 * allocate one itself, and abort the process on failure. It is freed when the thread exits.
 *
 * Protects: nothing; the state is thread-local. It stays valid in a child of fork().
 * Blocks: never.
 * Threads: any. */
#ifndef PL_STACK_H
#define PL_STACK_H

#include "call.h"

#include <stddef.h>
#include <stdint.h>

enum {
    PL_STACK_GUEST = 512 << 10, /* the engine's max_wasm_stack */
    PL_STACK_HOST = 256 << 10,  /* for a host function at the deepest call of the guest */
    PL_STACK_WHOLE = PL_STACK_GUEST + PL_STACK_HOST,
    PL_STACK_NESTED = 64 << 10,  /* for a nested entry into the same store */
    PL_STACK_SIGNAL = 256 << 10, /* for signals: at least the size that wasmtime needs */
    /* of a thread that the core creates: room for Python, and for the signal stack */
    PL_STACK_THREAD = 4 << 20
};

/* The lowest address of the calling thread's stack. Above all addresses until it is read, 0 if
 * unknown. */
extern _Thread_local uintptr_t pl_stack_end;

/* Returns whether less than `needed` bytes of stack are left, or the bounds were not read yet. */
static inline int pl_stack_is_short(size_t needed) {
    return (uintptr_t)__builtin_frame_address(0) < pl_stack_end + needed;
}

/* Checks whether the calling thread may enter a guest. Returns NULL, or an error that says what to
 * do, owned by the caller. `is_nested`: the store has been entered on this thread already. */
pl_error *pl_stack_check(int is_nested);
/* Returns the prefix of the text of such an error. */
const char *pl_stack_refusal(void);

#endif
