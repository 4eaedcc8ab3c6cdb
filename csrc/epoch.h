/* epoch: how a guest that makes no call is reached.
 *
 * wasmtime's code looks at the engine's epoch on the way into a function and at the end of a
 * loop; when the epoch has moved, it calls back. The callback is the place where a running guest
 * learns that its linker was cancelled, that its thread has a signal to handle (the group's
 * `check`), and, in a group that is preempted, that an operation is pending.
 *
 * The epoch moves in two ways: a ticker moves it every few milliseconds, which is soon enough
 * for a person; a leader moves it at once (pl_epoch_bump).
 *
 * The callback is nested when guest code that runs within it computes: a module that is
 * replayed, or a function that a signal handler calls. Each level looks at everything anew.
 * After an error the next call of the store is watched as before.
 *
 * Blocking: in the callback, as pl_follow. Threads: pl_epoch_bump is for any; the callback runs
 * on the thread that runs the store. One ticker serves an engine for as long as the process
 * lives.
 *
 *     pl_epoch_install(store, context, &watch);
 *     pl_epoch_tick(engine, 50000000); */
#ifndef PL_EPOCH_H
#define PL_EPOCH_H

#include "api.h"
#include "group.h"

/* What stands behind one store; it must stay where it is until the store is gone. */
typedef struct pl_watch {
    pl_group *group;
    /* gets `handle`, on the main thread only; not 0 ends the guest with an error. May be NULL */
    pl_check check;
    uintptr_t handle;
    int preempt;     /* the callback is a safepoint */
    pl_store *store; /* set by pl_epoch_install */
} pl_watch;

/* Watches the guest of this store from now on. */
void pl_epoch_install(pl_store *store, pl_context *context, pl_watch *watch);
/* Lets the guest of this store run for ever: it is not watched. */
void pl_epoch_ignore(pl_context *context);
/* Says which thread handles signals, as (uintptr_t)pthread_self() of it: only there a `check`
 * has anything to find. */
void pl_epoch_main_thread(uintptr_t thread);
/* Whether the calling thread is that one. */
int pl_epoch_on_main_thread(void);
/* Makes every running guest of the engine call back now. */
void pl_epoch_bump(pl_engine *engine);
/* Moves the engine's epoch every `interval` nanoseconds from now on. Answers 0, or -1 if no
 * thread can be made. */
int pl_epoch_tick(pl_engine *engine, int64_t interval);

#endif
