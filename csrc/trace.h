/* trace: what threads did and when, for whoever wants to look at it afterwards.
 *
 * A trace has room for a fixed number of events. Any thread adds to it, in any order; an event
 * that finds no room is counted and lost, so the beginning is what is kept. Events of one group
 * are added by its own thread, in the order in which they happen; only PL_TRACE_DEAD may come
 * from another.
 *
 * Who has none pays for it where a thread parks, comes back, leads or follows: one look at a
 * pointer that is NULL.
 *
 * Blocking: never. Memory order: a place is taken relaxed; an event is written, then released by
 * its `ready`, which a reader acquires. So a reader sees whole events, and may read while others
 * still add. */
#ifndef PL_TRACE_H
#define PL_TRACE_H

#include <stddef.h>
#include <stdint.h>

/* What happened to a group. BEGIN and END come in pairs, nested, on the group's thread. */
enum pl_trace_kind {
    PL_TRACE_UNPARK = 1,      /* it goes into guest code */
    PL_TRACE_PARK = 2,        /* it leaves guest code, or waits outside of it */
    PL_TRACE_DEAD = 3,        /* it has ended */
    PL_TRACE_LEAD_BEGIN = 4,  /* it calls the others together; detail: the number of the barrier */
    PL_TRACE_LEAD_END = 5,    /* they went on; detail: 0, or 1 if nothing came of it */
    PL_TRACE_AWAIT_BEGIN = 6, /* as leader it waits for one other; detail: its handle */
    /* detail: 1 if that one came to the barrier, 0 if it was parked, dead or late; 2: it has
     * replayed */
    PL_TRACE_AWAIT_END = 7,
    PL_TRACE_FOLLOW_BEGIN = 8, /* it is held up by the rendezvous of another, or has to catch up */
    PL_TRACE_FOLLOW_END = 9,
    PL_TRACE_REPLAY_BEGIN = 10, /* it carries operations of others out; detail: how many */
    PL_TRACE_REPLAY_END = 11    /* detail: 0, or 1 if one of them failed */
};

typedef struct pl_trace pl_trace;

typedef struct pl_trace_event {
    int64_t when;   /* pl_now's clock */
    uint64_t group; /* its handle */
    uint64_t detail;
    uint32_t kind;
} pl_trace_event;

/* One owner; NULL if there is no memory. */
pl_trace *pl_trace_new(size_t capacity);
/* Each owner frees it once; NULL is allowed. */
pl_trace *pl_trace_share(pl_trace *trace);
void pl_trace_free(pl_trace *trace);

void pl_trace_add(pl_trace *trace, int kind, uint64_t group, uint64_t detail);
/* Copies up to `count` events from the one numbered `first` on, up to the first that is still
 * being written, and answers how many. */
size_t pl_trace_read(const pl_trace *trace, size_t first, pl_trace_event *events, size_t count);
/* How many found no room. */
uint64_t pl_trace_lost(const pl_trace *trace);

#endif
