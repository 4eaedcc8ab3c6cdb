/* hot: what the paths that a guest takes often may look at without a function call. Internal to the core: cffi does not see it. */
#ifndef PL_HOT_H
#define PL_HOT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct pl_event;

/* Tells the processor that this thread looks at a word again and again. */
static inline void pl_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* stack.h: the lowest address of the calling thread's stack. Above all addresses until it is read, 0 if it is not known. */
extern _Thread_local uintptr_t pl_stack_end;

/* Whether less than `needed` bytes of stack are left, or the bounds were not read yet. */
static inline int pl_stack_is_short(size_t needed) {
    return (uintptr_t)__builtin_frame_address(0) < pl_stack_end + needed;
}

/* flag.h */
struct pl_flag {
    atomic_int set;
};

/* cancel.h */
struct pl_cancel {
    _Atomic uint64_t cause;
    struct pl_event *event; /* read-only, like the hooks once there are other threads */
    struct {
        void (*hook)(void *argument); /* may be NULL */
        void *argument;
    } hooks[2]; /* a linker's own, and its futex's */
};

/* Whether a RUNNING group has nothing to do: no operation is pending, the linker is not cancelled, and nobody nudged it. Relaxed: a
 * change that was just made may be missed, so it is for callers that look again soon. (A running group is behind only while the flag is
 * up: the leader waits for it.) */
static inline int pl_is_quiet(const struct pl_flag *flag, const struct pl_cancel *cancel, const struct pl_flag *nudge) {
    return atomic_load_explicit(&flag->set, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&cancel->cause, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&nudge->set, memory_order_relaxed) == 0;
}

#endif
