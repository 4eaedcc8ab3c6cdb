/* Discipline: `place` is thread-local; `forget` is read-only once there are guests. */
#include "failure.h"

#include "api_table.h"

static _Thread_local pl_hosted place;

static pl_forget forget;

void pl_failures_set(pl_forget function) { forget = function; }

uint64_t pl_raise(uint64_t raised) {
    if (place.raised == 0) {
        place.raised = raised;
    }
    return place.raised;
}

uint64_t pl_raised(void) { return place.raised; }

void pl_set_genuine(int genuine) { place.genuine = genuine; }

int pl_take_genuine(void) {
    int genuine = place.genuine;
    place.genuine = 0;
    return genuine;
}

pl_hosted pl_calling(void) {
    pl_hosted before = place;
    place = (pl_hosted){0, 0};
    return before;
}

static void drop(uint64_t raised) {
    if (raised != 0 && forget != NULL) {
        forget(raised);
    }
}

void pl_called(pl_hosted before, int failed, pl_failure *failure) {
    uint64_t raised = place.raised;
    place = before;
    if (failed) {
        failure->raised = raised;
    } else {
        drop(raised);
    }
}

void pl_failure_move(pl_failure *to, pl_failure *from) {
    *to = *from;
    *from = (pl_failure){0};
}

void pl_failure_release(pl_failure *failure) {
    pl_failure own;
    pl_failure_move(&own, failure);
    if (own.trap != NULL) {
        pl_wasmtime.trap_delete(own.trap);
    }
    if (own.error != NULL) {
        pl_wasmtime.error_delete(own.error);
    }
    drop(own.raised);
}
