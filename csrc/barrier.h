/* barrier: one thread waits for many, each of which may arrive or leave.
 *
 * The caller has the list of members; the barrier calls `done` for each of them and sleeps while a
 * member is not done. Each change that makes a member done (an arrival, parking, death) is followed
 * by a notification of `event`, so no wake-up is lost.
 *
 * Protects: nothing.
 * Requires: the members stay valid during the wait.
 * Blocks: pl_barrier_wait, until all members are done, the deadline is reached, or the linker is
 * cancelled.
 * Memory order: that of `done`, which loads SeqCst.
 * Threads: one waits, any arrive.
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

/* Returns 1 if barrier `number` need not wait for this member, or no longer. */
typedef int (*pl_member_done)(void *member, uint64_t number);

/* Returns PL_ACQUIRED, PL_TIMEOUT or PL_CANCELLED; in the last two cases `late` is the index of a
 * member that is not done. */
int pl_barrier_wait(pl_event *event, const pl_cancel *cancel, void **members, size_t count,
                    pl_member_done done, uint64_t number, int64_t deadline, size_t *late);

#endif
