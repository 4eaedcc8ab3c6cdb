/* time_rendezvous: prints the nanoseconds of a rendezvous, for benchmarks/constants.py.
 *
 *     ./time_rendezvous GROUPS OPERATIONS KIND    KIND: `yields` or `computes` between safepoints
 *
 * Prints the median and the 99th percentile of OPERATIONS. */
#include "../event.h"
#include "../measure.h"
#include "program.h"

static void *yield(void *group) {
    pl_measure_follow(group, 1, 1);
    return NULL;
}

static void *compute(void *group) {
    pl_measure_follow(group, 1, 0);
    return NULL;
}

static int compare(const void *one, const void *other) {
    double left = *(const double *)one, right = *(const double *)other;
    return (left > right) - (left < right);
}

int main(int count, char **arguments) {
    enum { MOST = 256, OPERATIONS_MOST = 100000 };
    CHECK(count == 4);
    size_t groups = (size_t)atoi(arguments[1]);
    uint64_t operations = (uint64_t)atoi(arguments[2]);
    CHECK(groups >= 2 && groups <= MOST && operations > 0 && operations <= OPERATIONS_MOST);
    shared = pl_shared_new();
    pl_group *members[MOST];
    pthread_t threads[MOST];
    for (size_t i = 0; i < groups; i++) {
        members[i] = pl_group_new(shared, i, NULL, NULL);
    }
    for (size_t i = 1; i < groups; i++) {
        threads[i] = thread_start(arguments[3][0] == 'y' ? yield : compute, members[i]);
    }
    for (size_t i = 1; i < groups; i++) {
        while (pl_safepoint_state(pl_group_safepoint(members[i])) != PL_RUNNING) {
            sched_yield();
        }
    }
    static double times[OPERATIONS_MOST];
    for (uint64_t i = 0; i < operations; i++) {
        int64_t begin = pl_now();
        CHECK(pl_measure_lead(members[0], 1) == 1);
        times[i] = (double)(pl_now() - begin);
    }
    qsort(times, operations, sizeof *times, compare);
    printf("%.0f %.0f\n", times[operations / 2], times[operations * 99 / 100]);
    pl_cancel_set(pl_shared_cancel(shared), PL_CAUSE_CLOSED);
    for (size_t i = 1; i < groups; i++) {
        thread_join(threads[i]);
    }
    for (size_t i = 0; i < groups; i++) {
        pl_group_free(members[i]);
    }
    pl_shared_free(shared);
    return 0;
}
