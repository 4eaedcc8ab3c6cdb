/* epoch: interrupts guest code that makes no call.
 *
 * wasmtime's code compares the engine's epoch at the entry of a function and at the end of a loop,
 * and calls back when the epoch has advanced. In the callback a running guest detects that its
 * linker was cancelled, that its thread has a signal to handle (the group's `check`), and, in a
 * group that is preempted, that an operation is pending.
 *
 * The epoch advances in two ways: a ticker advances it every few milliseconds, which is fast enough
 * for a person; a leader advances it at once (pl_epoch_bump).
 *
 * The callback nests when guest code that runs within it computes: a module that is replayed, or a
 * function that a signal handler calls. Each level checks everything anew. After an error the next
 * call of the store is watched as before.
 *
 * Protects: nothing.
 * Blocks: the callback, as pl_follow.
 * Threads: pl_epoch_bump: any; the callback runs on the thread that runs the store. One ticker
 * serves an engine for the lifetime of the process.
 *
 *     pl_epoch_install(store, context, &watch);
 *     pl_epoch_tick(engine, 50000000); */
#ifndef PL_EPOCH_H
#define PL_EPOCH_H

#include "api.h"
#include "group.h"

/* The state of the callback of one store. Its address must not change until the store is freed. */
typedef struct pl_watch {
    pl_group *group;
    /* called with `handle`, on the main thread only; nonzero ends the guest with an error. May be
     * NULL */
    pl_check check;
    uintptr_t handle;
    int preempt;     /* the callback is a safepoint */
    pl_store *store; /* set by pl_epoch_install */
} pl_watch;

/* Watches the guest of this store from now on. */
void pl_epoch_install(pl_store *store, pl_context *context, pl_watch *watch);
/* Stops watching the guest of this store: it may run without a limit. */
void pl_epoch_ignore(pl_context *context);
/* Sets the thread that handles signals, given as (uintptr_t)pthread_self(): `check` is called there
 * only. */
void pl_epoch_main_thread(uintptr_t thread);
/* Returns whether the calling thread is that one. */
int pl_epoch_on_main_thread(void);
/* Makes every running guest of the engine call back now. */
void pl_epoch_bump(pl_engine *engine);
/* Advances the engine's epoch every `interval` nanoseconds from now on. Returns 0, or -1 if no
 * thread can be created. */
int pl_epoch_tick(pl_engine *engine, int64_t interval);

#endif
