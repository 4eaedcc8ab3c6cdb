/* Discipline: a place belongs to the thread that took it from `next` until its `ready` is set, and
 * is read-only from then on. */
#include "trace.h"

#include "event.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef struct place {
    pl_trace_event event;
    atomic_int ready;
} place;

struct pl_trace {
    atomic_size_t owners;
    _Atomic uint64_t next;
    size_t capacity; /* read-only, like `places` */
    place *places;
};

pl_trace *pl_trace_new(size_t capacity) {
    pl_trace *trace = calloc(1, sizeof *trace);
    if (trace == NULL) {
        return NULL;
    }
    /* pages that are never written are never allocated */
    trace->places = calloc(capacity, sizeof *trace->places);
    if (trace->places == NULL) {
        free(trace);
        return NULL;
    }
    trace->capacity = capacity;
    atomic_init(&trace->owners, 1);
    return trace;
}

pl_trace *pl_trace_share(pl_trace *trace) {
    atomic_fetch_add(&trace->owners, 1);
    return trace;
}

void pl_trace_free(pl_trace *trace) {
    if (trace != NULL && atomic_fetch_sub(&trace->owners, 1) == 1) {
        free(trace->places);
        free(trace);
    }
}

void pl_trace_add(pl_trace *trace, int kind, uint64_t group, uint64_t detail) {
    uint64_t number = atomic_fetch_add_explicit(&trace->next, 1, memory_order_relaxed);
    if (number < trace->capacity) {
        place *own = trace->places + number;
        own->event = (pl_trace_event){pl_now(), group, detail, (uint32_t)kind};
        atomic_store_explicit(&own->ready, 1, memory_order_release);
    }
}

size_t pl_trace_read(const pl_trace *trace, size_t first, pl_trace_event *events, size_t count) {
    size_t copied = 0;
    while (copied < count && first + copied < trace->capacity &&
           atomic_load_explicit(&trace->places[first + copied].ready, memory_order_acquire)) {
        events[copied] = trace->places[first + copied].event;
        copied++;
    }
    return copied;
}

uint64_t pl_trace_lost(const pl_trace *trace) {
    uint64_t added = atomic_load_explicit(&trace->next, memory_order_relaxed);
    return added > trace->capacity ? added - trace->capacity : 0;
}
