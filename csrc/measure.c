/* Discipline: every function belongs to its thread; `words` are atomic. */
#define _POSIX_C_SOURCE 200809L /* sched_yield */

#include "measure.h"

#include "backoff.h"
#include "hold.h"
#include "lead.h"
#include "rendezvous.h"

#include <sched.h>
#include <stdatomic.h>

static uint64_t once(pl_shared *shared, pl_group *group, int what, pl_hold *hold) {
    switch (what) {
    case PL_MEASURE_FLAG_RELAXED:
        return !pl_flag_load(pl_shared_flag(shared), PL_RELAXED);
    case PL_MEASURE_FLAG_SEQ_CST:
        return !pl_flag_load(pl_shared_flag(shared), PL_SEQ_CST);
    case PL_MEASURE_TRY_WRITE:
        return pl_hold_write(hold) == PL_ACQUIRED && pl_hold_release(hold);
    case PL_MEASURE_WRITE:
        return pl_hold_write_now(hold, group) == PL_ACQUIRED && pl_hold_release(hold);
    case PL_MEASURE_TOKEN:
        return pl_hold_acquire(hold) == PL_ACQUIRED && pl_hold_release(hold);
    default: {
        pl_backoff backoff = {.pauses = PL_BACKOFF_SPINS};
        while (backoff.pauses < PL_BACKOFF_SPINS + PL_BACKOFF_YIELDS) {
            pl_backoff_pause(&backoff);
        }
        return 1;
    }
    }
}

uint64_t pl_measure(pl_shared *shared, pl_group *group, int what, uint64_t count) {
    uint64_t had = 0;
    pl_hold hold;
    pl_hold_init(&hold, shared, NULL);
    for (uint64_t i = 0; i < count; i++) {
        had += once(shared, group, what, &hold);
    }
    pl_hold_destroy(&hold);
    return had;
}

uint64_t pl_measure_lead(pl_group *group, uint64_t count) {
    pl_shared *shared = pl_group_shared(group);
    uint64_t done = 0;
    pl_hold token, lock;
    pl_hold_init(&token, shared, NULL);
    pl_hold_init(&lock, shared, &token);
    for (uint64_t i = 0; i < count; i++) {
        pl_leading leading = {.token = &token, .lock = &lock, .timeout = -1};
        /* the lock is busy while the followers of the previous operation replay */
        while (pl_hold_exclusive(&token, &lock, group) == PL_BUSY &&
               pl_cancel_cause(pl_shared_cancel(shared)) == 0) {
            sched_yield();
        }
        done += pl_hold_kind(&lock) == PL_HOLDS_WRITE && pl_lead(group, &leading) == PL_ACQUIRED;
    }
    pl_hold_destroy(&lock);
    pl_hold_destroy(&token);
    return done;
}

static int replay_nothing(uintptr_t handle, uint64_t from, uint64_t to) {
    (void)handle, (void)from, (void)to;
    return 0;
}

uint64_t pl_measure_follow(pl_group *group, int in_c, int yields) {
    uint64_t passed = 0;
    if (in_c) {
        pl_group_set_replay(group, replay_nothing, pl_group_handle(group));
    }
    int before = pl_safepoint_run(pl_group_safepoint(group));
    while (pl_group_safepoint_poll(group) == PL_ACQUIRED) {
        passed++;
        if (yields) {
            sched_yield();
        }
    }
    pl_safepoint_restore(pl_group_safepoint(group), before);
    return passed;
}

uint64_t pl_measure_ask(uint32_t *words, uint32_t threads, uint64_t count) {
    _Atomic uint32_t *asked = (_Atomic uint32_t *)words;
    _Atomic uint32_t *answered = (_Atomic uint32_t *)(words + 1);
    for (uint64_t i = 0; i < count; i++) {
        atomic_store(answered, 0);
        atomic_fetch_add(asked, 1);
        while (atomic_load(answered) < threads) {
            sched_yield();
        }
    }
    return count;
}

uint64_t pl_measure_answer(uint32_t *words) {
    _Atomic uint32_t *asked = (_Atomic uint32_t *)words;
    _Atomic uint32_t *answered = (_Atomic uint32_t *)(words + 1);
    uint64_t seen = 0;
    uint32_t last = atomic_load(asked);
    atomic_fetch_add(answered, 1); /* it has begun */
    for (uint32_t now; (now = atomic_load(asked)) != UINT32_MAX; sched_yield()) {
        if (now != last) {
            last = now;
            seen++;
            atomic_fetch_add(answered, 1);
        }
    }
    return seen;
}
