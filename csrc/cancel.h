/* cancel: cancellation of a linker, which is final; and of one call, after which the linker goes
 * on.
 *
 * States: open, then cancelled with a cause. The first cause stays. Every waiter of the linker
 * checks it in each iteration, and cancelling wakes all waiters: those that sleep on the event, and
 * through the hooks those that sleep elsewhere (futex.h).
 *
 * One call. A linker with a single group numbers its outermost calls: `calls` is odd while one is
 * in progress. pl_cancel_stop cancels the call with a number, for as long as that call lasts:
 * pl_cancel_cause is PL_CAUSE_STOPPED for it and 0 for every other call, so each place that ends
 * for a cause also ends for a stop. A stop of a finished call has no effect: numbers are never
 * reused, and a stop counts only while `calls` is its number. The thread that makes the call
 * compares with a number it has written itself; a value that another thread reads (Shared.cause)
 * may be stale at once. Of several stops the one of the newest call stays, because an older call is
 * finished. A cause replaces a stop, never the reverse. Stopping wakes the same waiters as
 * cancelling.
 *
 * Protects: nothing.
 * Requires: hooks are added before other threads know the pl_cancel.
 * Blocks: never, except for the leaf mutexes that a hook takes.
 * Memory order: SeqCst; the hooks are called after the cause is set.
 * Threads: any.
 *
 *     if (pl_cancel_set(cancel, PL_CAUSE_LEADER)) log_the_cause();
 *     uint64_t call = pl_cancel_call(cancel);
 *     if (call != 0) pl_cancel_stop(cancel, call); */
#ifndef PL_CANCEL_H
#define PL_CANCEL_H

#include "event.h"

#include <stdint.h>

/* The result of pl_cancel_cause within a call that is to stop. */
enum { PL_CAUSE_STOPPED = 0x80 };

/* Wakes sleepers, so that they check the cause. May wait only for a mutex that is held briefly. */
typedef void (*pl_cancel_hook)(void *argument);

typedef struct pl_cancel {
    /* 0, a cause, or temporarily the number of the call to stop: pl_stop_of */
    _Atomic uint64_t cause;
    /* odd: the number of the call in progress. Written by the thread that makes the call */
    _Atomic uint64_t calls;
    pl_event *event; /* read-only, like the hooks once there are other threads */
    struct {
        pl_cancel_hook hook; /* may be NULL */
        void *argument;
    } hooks[2]; /* a linker's own, and its futex's */
} pl_cancel;

/* Initializes an open one whose waiters sleep on `event`. Never fails; nothing needs to be
 * released. */
void pl_cancel_init(pl_cancel *cancel, pl_event *event);
/* Adds a hook, which the first pl_cancel_set and each effective pl_cancel_stop call with
 * `argument`; a NULL hook removes the hook with this argument. Returns 0, or -1 if there are two
 * already. */
int pl_cancel_on_set(pl_cancel *cancel, pl_cancel_hook hook, void *argument);
/* Cancels with a cause (nonzero, with a low byte other than PL_CAUSE_STOPPED). Returns 1 if this
 * was the first cause, else 0. */
int pl_cancel_set(pl_cancel *cancel, uint64_t cause);
/* Cancels in a child of fork(), from its only thread: wakes no waiter, calls no hook and takes no
 * mutex. */
void pl_cancel_abandon(pl_cancel *cancel, uint64_t cause);
/* Returns the cause; PL_CAUSE_STOPPED if the call in progress is to stop; 0 while open. */
uint64_t pl_cancel_cause(const pl_cancel *cancel);
/* Returns the number of the call in progress, or 0. */
uint64_t pl_cancel_call(const pl_cancel *cancel);
/* Stops the call with this number if it is still in progress. */
void pl_cancel_stop(pl_cancel *cancel, uint64_t call);

/* Encodes the stop of a call for `cause`: no cause has this low byte. */
static inline uint64_t pl_stop_of(uint64_t call) { return call << 8 | PL_CAUSE_STOPPED; }

static inline int pl_is_stop(uint64_t cause) { return (cause & 0xFF) == PL_CAUSE_STOPPED; }

/* Note the begin and the end of the outermost call of a group; pl_call_ends returns the number of
 * the call if it was to stop, else 0. Only this thread begins or ends calls. Release suffices: a
 * thread that reads an older number stops a finished call, which has no effect. */
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
    uint64_t stale = cause; /* of this call or an older one: cleared so that pl_is_quiet is true */
    atomic_compare_exchange_strong(&cancel->cause, &stale, 0);
    return cause == pl_stop_of(call) ? call : 0;
}

#endif
