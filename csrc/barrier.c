/* Discipline: no state; the members belong to the caller. */
#include "barrier.h"

int pl_barrier_wait(pl_event *event, const pl_cancel *cancel, void **members, size_t count,
                    pl_member_done done, uint64_t number, int64_t deadline, size_t *late) {
    /* In order: a member that is done stays done for this barrier, so it is not checked again. */
    for (size_t i = 0; i < count; i++) {
        for (;;) {
            uint32_t key = pl_event_prepare(event);
            if (done(members[i], number)) {
                break;
            }
            *late = i;
            if (pl_cancel_cause(cancel) != 0) {
                return PL_CANCELLED;
            }
            if (!pl_event_wait(event, key, deadline)) {
                return PL_TIMEOUT;
            }
        }
    }
    return PL_ACQUIRED;
}
