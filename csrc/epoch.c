/* Discipline: a pl_watch is written before its store runs and read by the thread that runs it. */
#if !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#endif

#include "epoch.h"

#include "api_table.h"
#include "rendezvous.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define PL_FAR (UINT64_C(1) << 62) /* ticks: never */

static _Atomic uintptr_t main_thread;

void pl_epoch_main_thread(uintptr_t thread) { atomic_store(&main_thread, thread); }

int pl_epoch_on_main_thread(void) { return (uintptr_t)pthread_self() == atomic_load(&main_thread); }

static pl_error *called_back(pl_context *context, void *data, uint64_t *delta, uint8_t *kind) {
    pl_watch *watch = data;
    /* wasmtime removes the callback from the store while the callback runs, and restores it
     * afterwards. Guest code can run meanwhile: a replay instantiates modules, and a signal
     * handler may call guest functions. So this installs the callback again, with a near
     * deadline. That deadline also applies if an error is returned: only a return without an
     * error sets another. */
    pl_epoch_install(watch->store, context, watch);
    *delta = 1;
    *kind = 0; /* go on with the guest */
    pl_cancel *cancel = pl_shared_cancel(pl_group_shared(watch->group));
    if (watch->check != NULL && pl_epoch_on_main_thread() && pl_cancel_cause(cancel) == 0) {
        pl_safepoint *safepoint = pl_group_safepoint(watch->group);
        int before = pl_safepoint_park(safepoint); /* the check may wait for the GIL */
        int stop = watch->check(watch->handle);
        pl_safepoint_restore(safepoint, before);
        if (stop) {
            return pl_wasmtime.error_new("interrupted");
        }
        /* The group was parked: it must replay before it runs. */
        if (pl_group_safepoint_poll(watch->group) != PL_ACQUIRED) {
            return pl_wasmtime.error_new("the guest was stopped");
        }
        return NULL;
    }
    if (pl_cancel_cause(cancel) != 0 ||
        (watch->preempt && pl_group_safepoint_poll(watch->group) != PL_ACQUIRED)) {
        return pl_wasmtime.error_new("the guest was stopped");
    }
    return NULL;
}

void pl_epoch_install(pl_store *store, pl_context *context, pl_watch *watch) {
    watch->store = store;
    pl_wasmtime.store_epoch_deadline_callback(store, called_back, watch, NULL);
    pl_wasmtime.context_set_epoch_deadline(context, 1);
}

void pl_epoch_ignore(pl_context *context) {
    pl_wasmtime.context_set_epoch_deadline(context, PL_FAR);
}

void pl_epoch_bump(pl_engine *engine) { pl_wasmtime.engine_increment_epoch(engine); }

struct ticker {
    pl_engine *engine;
    struct timespec interval;
};

static void *tick(void *data) {
    struct ticker *ticker = data;
    for (;;) {
        nanosleep(&ticker->interval, NULL);
        pl_epoch_bump(ticker->engine);
    }
    return NULL;
}

int pl_epoch_tick(pl_engine *engine, int64_t interval) {
    struct ticker *ticker = malloc(sizeof *ticker);
    if (ticker == NULL) {
        return -1;
    }
    ticker->engine = engine;
    ticker->interval.tv_sec = interval / 1000000000;
    ticker->interval.tv_nsec = interval % 1000000000;
    pthread_t thread;
    if (pthread_create(&thread, NULL, tick, ticker) != 0) {
        free(ticker);
        return -1;
    }
    pthread_detach(thread);
    return 0;
}
