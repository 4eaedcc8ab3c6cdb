/* trace: a record of events of threads, with times, for later analysis.
 *
 * A trace has room for a fixed number of events. Any thread adds events, in any order; an event
 * without room is counted and lost, so the beginning is kept. Events of one group are added by its
 * own thread, in the order in which they happen; only PL_TRACE_DEAD may come from another.
 *
 * Without a trace the cost is one comparison of a pointer with NULL where a thread parks, unparks,
 * leads or follows.
 *
 * Protects: nothing.
 * Blocks: never.
 * Memory order: a place is taken relaxed; an event is written, then released by its `ready`, which
 * a reader acquires. So a reader sees complete events, and may read while other threads add.
 * Threads: any. */
#ifndef PL_TRACE_H
#define PL_TRACE_H

#include <stddef.h>
#include <stdint.h>

/* An event of a group. BEGIN and END are pairs, nested, on the group's thread. */
enum pl_trace_kind {
    PL_TRACE_UNPARK = 1,      /* it enters guest code */
    PL_TRACE_PARK = 2,        /* it leaves guest code, or waits outside of it */
    PL_TRACE_DEAD = 3,        /* it died */
    PL_TRACE_LEAD_BEGIN = 4,  /* it opens a barrier; detail: the number of the barrier */
    PL_TRACE_LEAD_END = 5,    /* the others go on; detail: 0, or 1 if it was withdrawn or failed */
    PL_TRACE_AWAIT_BEGIN = 6, /* as leader it waits for one group; detail: its handle */
    /* detail: 1 if that group arrived at the barrier, 0 if it was parked, dead or late; 2: it has
     * replayed */
    PL_TRACE_AWAIT_END = 7,
    PL_TRACE_FOLLOW_BEGIN = 8, /* it waits in the rendezvous of another group, or catches up */
    PL_TRACE_FOLLOW_END = 9,
    PL_TRACE_REPLAY_BEGIN = 10, /* it replays operations; detail: how many */
    PL_TRACE_REPLAY_END = 11    /* detail: 0, or 1 if one of them failed */
};

typedef struct pl_trace pl_trace;

typedef struct pl_trace_event {
    int64_t when;   /* pl_now's clock */
    uint64_t group; /* its handle */
    uint64_t detail;
    uint32_t kind;
} pl_trace_event;

/* Creates a trace with one owner; NULL if out of memory. */
pl_trace *pl_trace_new(size_t capacity);
/* Adds an owner. Each owner frees it once; NULL is allowed. */
pl_trace *pl_trace_share(pl_trace *trace);
void pl_trace_free(pl_trace *trace);

void pl_trace_add(pl_trace *trace, int kind, uint64_t group, uint64_t detail);
/* Copies up to `count` events from number `first` on, up to the first that is still being written.
 * Returns how many. */
size_t pl_trace_read(const pl_trace *trace, size_t first, pl_trace_event *events, size_t count);
/* Returns the number of lost events. */
uint64_t pl_trace_lost(const pl_trace *trace);

#endif
