/* Discipline: a pl_backoff belongs to one thread. */
#if !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#endif

#include "backoff.h"

#include "pause.h"

#include <sched.h>
#include <time.h>

int64_t pl_backoff_kind(uint32_t pauses) {
    if (pauses < PL_BACKOFF_SPINS) {
        return 0;
    }
    if (pauses < PL_BACKOFF_SPINS + PL_BACKOFF_YIELDS) {
        return -1;
    }
    uint32_t doublings = pauses - (PL_BACKOFF_SPINS + PL_BACKOFF_YIELDS);
    if (doublings > PL_BACKOFF_DOUBLINGS) {
        doublings = PL_BACKOFF_DOUBLINGS;
    }
    int64_t sleep = (int64_t)PL_BACKOFF_FIRST_SLEEP << doublings;
    return sleep < PL_BACKOFF_CAP ? sleep : PL_BACKOFF_CAP;
}

void pl_backoff_pause(pl_backoff *backoff) {
    int64_t kind = pl_backoff_kind(backoff->pauses);
    if (backoff->pauses != UINT32_MAX) {
        backoff->pauses++;
    }
    if (kind == 0) {
        pl_pause();
    } else if (kind < 0) {
        sched_yield();
    } else {
        struct timespec time = {.tv_sec = kind / 1000000000, .tv_nsec = kind % 1000000000};
        nanosleep(&time, NULL);
    }
}
