/* Discipline: everything happens under the locks that the leader holds; the steps are those of
 * rendezvous.c, each atomic in its primitives. */
#include "lead.h"

#include "rendezvous.h"
#include "shared_impl.h"

static int step(pl_step function, pl_leading *leading) {
    return function != NULL ? function(leading) : PL_DONE;
}

/* The state under the lock must not be used any more. */
static void give_up(pl_leading *leading, uint64_t cause) {
    pl_cancel_set(&leading->lock->shared->cancel, cause);
    pl_hold_poison(leading->lock);
}

static int breach(pl_leading *leading, int what) {
    leading->breach = what;
    give_up(leading, PL_CAUSE_BUS);
    return PL_CANCELLED;
}

/* Not all groups have arrived: releases the groups that have. Does nothing once the linker is
 * cancelled, which wakes them. */
static int withdraw(pl_group *self, pl_leading *leading, int result) {
    pl_shared *shared = self->shared;
    if (pl_cancel_cause(&shared->cancel) != 0) {
        return result;
    }
    pl_log_append(&shared->log, NULL, NULL); /* a number, and no entry: it needs no memory */
    return pl_lead_withdraw(self) != 0 ? result : breach(leading, PL_BREACH_WITHDRAW);
}

static int commit_alone(pl_leading *leading) {
    int result = step(leading->commit, leading);
    if (result == PL_BROKEN) {
        pl_hold_poison(leading->lock);
    }
    return result; /* PL_DONE is PL_ACQUIRED */
}

static int meet_and_commit(pl_group *self, pl_leading *leading) {
    pl_shared *shared = self->shared;
    if (pl_log_reserve(&shared->log) != 0) {
        return PL_BUSY;
    }
    leading->number = pl_lead_open(self);
    if (leading->number == 0) {
        return breach(leading, PL_BREACH_OPEN);
    }
    int result = step(leading->wake, leading);
    if (result == PL_BROKEN) {
        give_up(leading, PL_CAUSE_BUS);
        return result;
    }
    if (result == PL_DONE) {
        result = pl_lead_meet(self, leading->timeout, &leading->late);
    }
    if (result != PL_ACQUIRED) {
        return withdraw(self, leading, result);
    }
    result = step(leading->commit, leading);
    if (result != PL_DONE) {
        give_up(leading, result == PL_BROKEN ? PL_CAUSE_BUS : PL_CAUSE_LEADER);
        return result;
    }
    /* Before the operation is published: from then on followers read the log. */
    leading->is_logged = 1;
    if (pl_log_append(&shared->log, leading->operation, leading->owner) != leading->number) {
        return breach(leading, PL_BREACH_LOG);
    }
    if (pl_hold_publish(leading->lock, self) != leading->number) {
        return breach(leading, PL_BREACH_PUBLISH);
    }
    return pl_hold_finish(leading->lock, self);
}

int pl_lead(pl_group *self, pl_leading *leading) {
    pl_shared *shared = leading->lock->shared;
    int result;
    leading->number = 0;
    leading->late = 0;
    leading->is_logged = 0;
    leading->breach = PL_BREACH_NONE;
    if (pl_cancel_cause(&shared->cancel) != 0) {
        result = PL_CANCELLED;
    } else if (pl_shared_is_alone(shared)) {
        result = commit_alone(leading);
    } else {
        result = meet_and_commit(self, leading);
    }
    pl_hold_release(leading->lock);
    pl_hold_release(leading->token);
    return result;
}
