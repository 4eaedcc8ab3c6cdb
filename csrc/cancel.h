/* cancel: the end of a linker, once and for all; and of one call, for a linker that goes on.
 *
 * States: open, then cancelled with a cause. Sticky: the first cause wins and stays. Every
 * waiter of the linker looks at it on each turn, and cancelling wakes them all: those that sleep
 * on the event, and through the hook those that sleep elsewhere (futex.h). Blocking: never.
 * Threads: any. Memory order: SeqCst; the hook is called after the cause is set.
 *
 * One call. A linker with a single group numbers its outermost calls: `calls` is odd while one
 * is in progress. pl_cancel_stop cancels the call with a number, for as long as that call lasts:
 * pl_cancel_cause is PL_CAUSE_STOPPED for it and 0 for every other call, so that each place that
 * ends for a cause also ends for a stop. A stop that comes when its call is over has no effect:
 * numbers are never used again, and a stop counts only while `calls` is its number. The thread
 * that makes the call compares with a number of its own writing; what other threads read
 * (Shared.cause) may be over at once. Of several stops the newest call's stays: an older call is
 * over. A cause takes the place of a stop, never the reverse. Stopping wakes what cancelling
 * wakes.
 *
 *     if (pl_cancel_set(cancel, PL_CAUSE_LEADER)) log_the_cause();
 *     uint64_t call = pl_cancel_call(cancel);
 *     if (call != 0) pl_cancel_stop(cancel, call); */
#ifndef PL_CANCEL_H
#define PL_CANCEL_H

#include "event.h"

#include <stdint.h>

/* What pl_cancel_cause answers within a call that is to stop. */
enum { PL_CAUSE_STOPPED = 0x80 };

/* Wakes sleepers, so that they look at the cause. It does not wait for anything but a mutex that
 * nobody holds for long. */
typedef void (*pl_cancel_hook)(void *argument);

typedef struct pl_cancel {
    /* 0, a cause, or for a while the number of the call to stop: pl_stop_of */
    _Atomic uint64_t cause;
    /* odd: the number of the call in progress. Written by the thread that makes the call */
    _Atomic uint64_t calls;
    pl_event *event; /* read-only, like the hooks once there are other threads */
    struct {
        pl_cancel_hook hook; /* may be NULL */
        void *argument;
    } hooks[2]; /* a linker's own, and its futex's */
} pl_cancel;

/* Makes an open one whose waiters sleep on `event`. It never fails, and there is nothing to
 * release. */
void pl_cancel_init(pl_cancel *cancel, pl_event *event);
/* Lets the first pl_cancel_set, and each pl_cancel_stop that takes effect, call `hook` with
 * `argument`; NULL removes the hook with this argument. Returns 0, or -1 if there are two
 * already. Only while no other thread knows `cancel`. */
int pl_cancel_on_set(pl_cancel *cancel, pl_cancel_hook hook, void *argument);
/* Cancels with a cause (any number but 0 whose low byte is not PL_CAUSE_STOPPED). Answers 1 if
 * this was the first, else 0. */
int pl_cancel_set(pl_cancel *cancel, uint64_t cause);
/* Cancels in a child of fork(), whose only thread calls: no waiter is woken, no hook called, no
 * mutex taken. */
void pl_cancel_abandon(pl_cancel *cancel, uint64_t cause);
/* The cause; PL_CAUSE_STOPPED if the call in progress is to stop; or 0 while open. */
uint64_t pl_cancel_cause(const pl_cancel *cancel);
/* The number of the call in progress, or 0 if there is none. */
uint64_t pl_cancel_call(const pl_cancel *cancel);
/* Stops the call with this number, if it is still in progress. */
void pl_cancel_stop(pl_cancel *cancel, uint64_t call);

/* How a call that is to stop is kept in `cause`: no cause has this low byte. */
static inline uint64_t pl_stop_of(uint64_t call) { return call << 8 | PL_CAUSE_STOPPED; }

static inline int pl_is_stop(uint64_t cause) { return (cause & 0xFF) == PL_CAUSE_STOPPED; }

/* The outermost call of a group begins, and ends; pl_call_ends answers the call's number if it
 * was to stop, else 0. Between the two only this thread begins or ends calls. Release is enough:
 * a thread that reads an older number stops a call that is over, which has no effect. */
static inline void pl_call_begins(pl_cancel *cancel) {
    atomic_store_explicit(&cancel->calls,
                          atomic_load_explicit(&cancel->calls, memory_order_relaxed) + 1,
                          memory_order_release);
}

static inline uint64_t pl_call_ends(pl_cancel *cancel) {
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

#endif
