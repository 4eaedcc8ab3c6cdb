/* Clocks and sleep. */
#include "guest.h"

enum { MS = 1000000 };

void _start(void) {
    u64 time = 0, first, second;
    for (int clock = REALTIME; clock <= THREAD_TIME + 1; clock++)
        print("clock %d: %d\n", clock, clock_time_get((u32)clock, 1, &time));
    clock_time_get(REALTIME, 1, &time);
    print("after 2020: %d\n", time > 1577836800000000000);
    first = now();
    second = now();
    print("forward: %d\n", second >= first);
    first = now();
    print("sleep: %d", thread_sleep(20 * MS));
    print(", not early: %d\n", now() - first >= 20 * MS);
    print("sleep no time: %d\n", thread_sleep(0));
    print("yield: %d\n", sched_yield());
    print("outside: %d\n", clock_time_get(MONOTONIC, 1, OUTSIDE));
    proc_exit2(0);
}
