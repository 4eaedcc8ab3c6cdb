/* trace: events are read complete and in order, also while other threads add; events without room
 * are counted. */
#include "check.h"
#include "made.h"

#include "safepoint.h"
#include "trace.h"

#include <pthread.h>

enum { THREADS = 4, EACH = 1000 };

static void test_room(void) {
    pl_trace_event events[4];
    pl_trace *trace = pl_trace_new(3);
    CHECK(trace != NULL && pl_trace_read(trace, 0, events, 4) == 0 && pl_trace_lost(trace) == 0);
    for (uint64_t number = 0; number < 5; number++) {
        pl_trace_add(trace, PL_TRACE_LEAD_BEGIN, 7, number);
    }
    CHECK(pl_trace_read(trace, 0, events, 4) == 3 && pl_trace_lost(trace) == 2);
    for (uint64_t number = 0; number < 3; number++) {
        CHECK(events[number].group == 7 && events[number].detail == number &&
              events[number].kind == PL_TRACE_LEAD_BEGIN);
        CHECK(number == 0 || events[number].when >= events[number - 1].when);
    }
    CHECK(pl_trace_read(trace, 2, events, 4) == 1 && events[0].detail == 2);
    CHECK(pl_trace_read(trace, 3, events, 4) == 0);
    pl_trace_free(pl_trace_share(trace));
    pl_trace_free(trace);
    pl_trace_free(NULL);
}

static void *add(void *trace) {
    for (uint64_t number = 0; number < EACH; number++) {
        pl_trace_add(trace, PL_TRACE_PARK, (uint64_t)pthread_self(), number);
    }
    return NULL;
}

static void test_many_add_while_one_reads(void) {
    pl_trace *trace = pl_trace_new(THREADS * EACH);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(threads + i, NULL, add, trace) == 0);
    }
    uint64_t next[THREADS] = {0};
    for (size_t read = 0; read < THREADS * EACH;) {
        pl_trace_event event;
        if (pl_trace_read(trace, read, &event, 1) == 0) {
            continue;
        }
        read++;
        for (int i = 0; i < THREADS; i++) {
            if (event.group == (uint64_t)threads[i]) {
                CHECK(event.detail == next[i]); /* the events of one thread are in order */
                next[i]++;
            }
        }
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0 && next[i] == EACH);
    }
    CHECK(pl_trace_lost(trace) == 0);
    pl_trace_free(trace);
}

static void test_safepoint_notes_changes_of_state_only(void) {
    static const int expected[] = {PL_TRACE_UNPARK, PL_TRACE_PARK, PL_TRACE_UNPARK, PL_TRACE_DEAD};
    pl_trace_event events[8];
    pl_trace *trace = pl_trace_new(8);
    pl_waiter *waiter = new_waiter();
    pl_safepoint *safepoint = new_safepoint(waiter);
    pl_safepoint_run(safepoint);
    pl_safepoint_park(safepoint); /* without a trace nothing happens */
    pl_safepoint_on_trace(safepoint, trace, 3);
    int outer = pl_safepoint_run(safepoint);
    int inner = pl_safepoint_run(safepoint); /* runs already */
    pl_safepoint_restore(safepoint, inner);
    pl_safepoint_restore(safepoint, outer);
    pl_safepoint_park(safepoint); /* is parked already */
    pl_safepoint_run(safepoint);
    pl_safepoint_die(safepoint);
    pl_safepoint_die(safepoint);
    CHECK(pl_trace_read(trace, 0, events, 8) == 4);
    for (int i = 0; i < 4; i++) {
        CHECK((int)events[i].kind == expected[i] && events[i].group == 3);
    }
    free_safepoint(safepoint);
    free_waiter(waiter);
    pl_trace_free(trace);
}

int main(void) {
    check_begin(0);
    RUN(test_room);
    RUN(test_many_add_while_one_reads);
    RUN(test_safepoint_notes_changes_of_state_only);
    return 0;
}
