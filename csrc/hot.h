/* hot: what the paths that a guest takes often may look at without a function call. Internal to the core: cffi does not see it. */
#ifndef PL_HOT_H
#define PL_HOT_H

#include "cancel.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

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
    _Atomic uint64_t cause; /* 0, a cause, or for a while the number of the call to stop: pl_stop_of */
    _Atomic uint64_t calls; /* odd: the number of the call in progress. Written by the thread that makes the call */
    struct pl_event *event; /* read-only, like the hooks once there are other threads */
    struct {
        void (*hook)(void *argument); /* may be NULL */
        void *argument;
    } hooks[2]; /* a linker's own, and its futex's */
};

/* How a call that is to stop is kept in `cause`: no cause has this low byte. */
static inline uint64_t pl_stop_of(uint64_t call) {
    return call << 8 | PL_CAUSE_STOPPED;
}

static inline int pl_is_stop(uint64_t cause) {
    return (cause & 0xFF) == PL_CAUSE_STOPPED;
}

/* The outermost call of a group begins, and ends; pl_call_ends answers the call's number if it was to stop, else 0. Between the two only
 * this thread begins or ends calls. Release is enough: a thread that reads an older number stops a call that is over, which has no effect. */
static inline void pl_call_begins(struct pl_cancel *cancel) {
    atomic_store_explicit(&cancel->calls, atomic_load_explicit(&cancel->calls, memory_order_relaxed) + 1, memory_order_release);
}

static inline uint64_t pl_call_ends(struct pl_cancel *cancel) {
    uint64_t call = atomic_load_explicit(&cancel->calls, memory_order_relaxed);
    atomic_store_explicit(&cancel->calls, call + 1, memory_order_release);
    uint64_t cause = atomic_load_explicit(&cancel->cause, memory_order_acquire);
    if (cause == 0 || !pl_is_stop(cause)) {
        return 0;
    }
    uint64_t stale = cause; /* of this call or an older one: out of the way of pl_is_quiet */
    atomic_compare_exchange_strong(&cancel->cause, &stale, 0);
    return cause == pl_stop_of(call) ? call : 0;
}

/* Whether a RUNNING group has nothing to do: no operation is pending, the linker is not cancelled, and nobody nudged it. Relaxed: a
 * change that was just made may be missed, so it is for callers that look again soon. (A running group is behind only while the flag is
 * up: the leader waits for it.) */
static inline int pl_is_quiet(const struct pl_flag *flag, const struct pl_cancel *cancel, const struct pl_flag *nudge) {
    return atomic_load_explicit(&flag->set, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&cancel->cause, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&nudge->set, memory_order_relaxed) == 0;
}

#endif
