/* Discipline: single-threaded. */
#include "measure.h"

#include "backoff.h"
#include "hold.h"

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
