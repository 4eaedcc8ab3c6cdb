/* barrier: one thread waits for many, each of which may arrive, or leave.
 *
 * The members are the caller's; the barrier asks it about each (`done`) and sleeps while one is
 * not done. Whatever makes a member done (an arrival, parking, death) must notify `event` after
 * it; then no wake-up is lost.
 *
 * Blocking: pl_barrier_wait, until all are done, the deadline is reached, or the linker is
 * cancelled. Threads: one waits, any arrive. Memory order: that of `done`, which is expected to
 * load SeqCst.
 *
 *     size_t late;
 *     int result = pl_barrier_wait(event, cancel, members, count, has_arrived, number, deadline,
 *                                  &late);
 *     if (result == PL_TIMEOUT) blame(members[late]); */
#ifndef PL_BARRIER_H
#define PL_BARRIER_H

#include "cancel.h"
#include "event.h"
#include "rwlock.h"

#include <stddef.h>
#include <stdint.h>

/* Returns 1 if this member is not to be waited for, or no longer, at barrier `number`. */
typedef int (*pl_member_done)(void *member, uint64_t number);

/* Returns PL_ACQUIRED, PL_TIMEOUT or PL_CANCELLED; in the last two cases `late` is the index of
 * a member that is not done. */
int pl_barrier_wait(pl_event *event, const pl_cancel *cancel, void **members, size_t count,
                    pl_member_done done, uint64_t number, int64_t deadline, size_t *late);

#endif
