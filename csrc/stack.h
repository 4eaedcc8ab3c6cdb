/* stack: how much stack a thread must have to enter a guest.
 *
 * wasmtime lets the guest of a store use PL_STACK_GUEST bytes below the place where the store
 * was entered, whatever the stack of the thread is: without a check a guest that recurses on a
 * small stack writes to the guard page. So every entry compares the stack pointer with the
 * lowest address from which the guest, and a host function that it calls at its deepest, have
 * room. wasmtime keeps the limit of the outermost entry for entries into the same store within
 * it; those need room for the host only.
 *
 * The bounds of a thread are read at its first entry: the stack of a process's first thread ends
 * where RLIMIT_STACK says, that of any other is what it was created with. They are read again
 * before an entry is refused, as that limit can be raised. A stack that is none of the system's
 * (a coroutine's) has no known bounds, and is not checked.
 *
 * At the same time the thread gets the stack for signals that wasmtime wants; wasmtime would
 * make one itself, and abort the process if it could not. It is freed at the end of the thread.
 *
 * Blocking: never. Threads: any; what is kept is the thread's own. After fork() it holds in the
 * child. */
#ifndef PL_STACK_H
#define PL_STACK_H

#include "call.h"

#include <stddef.h>
#include <stdint.h>

enum {
    PL_STACK_GUEST = 512 << 10, /* the engine's max_wasm_stack */
    PL_STACK_HOST = 256 << 10,  /* for a host function at the guest's deepest */
    PL_STACK_WHOLE = PL_STACK_GUEST + PL_STACK_HOST,
    PL_STACK_NESTED = 64 << 10,  /* for an entry within an entry into the same store */
    PL_STACK_SIGNAL = 256 << 10, /* for signals: not less than wasmtime wants */
    /* of a thread that the core makes: room for Python, and for the stack for signals */
    PL_STACK_THREAD = 4 << 20
};

/* The lowest address of the calling thread's stack. Above all addresses until it is read, 0 if
 * it is not known. */
extern _Thread_local uintptr_t pl_stack_end;

/* Whether less than `needed` bytes of stack are left, or the bounds were not read yet. */
static inline int pl_stack_is_short(size_t needed) {
    return (uintptr_t)__builtin_frame_address(0) < pl_stack_end + needed;
}

/* Whether the calling thread may enter a guest. Returns NULL, or an error that says what to do;
 * the caller owns it. `is_nested` says that the store has been entered on this thread already. */
pl_error *pl_stack_check(int is_nested);
/* How the text of such an error begins, with a NUL. */
const char *pl_stack_refusal(void);

#endif
