/* Clocks and sleep. */
#include "guest.h"

enum { MS = 1000000, SECOND = 1000 * MS };

static u64 read(u32 clock) {
    u64 time = 0;
    clock_time_get(clock, 1, &time);
    return time;
}

/* Sets a clock, and tells whether it goes on from there. */
static int set(u32 clock, u64 to) {
    int error = clock_time_set(clock, to);
    u64 after = read(clock);
    return error ? error : after >= to && after - to < 60ull * SECOND;
}

static void look(int index) { print("in another thread: %d\n", read(REALTIME) < 1000ull * SECOND); }

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
    for (int clock = REALTIME; clock <= THREAD_TIME + 1; clock++) {
        int error = clock_res_get((u32)clock, &time);
        print("resolution %d: %d, at most a second: %d\n", clock, error, time > 0 && time <= SECOND);
        time = 0;
    }
    print("outside: %d %d\n", clock_res_get(PROCESS_TIME, OUTSIDE), clock_time_get(THREAD_TIME, 1, OUTSIDE));
    for (int clock = REALTIME; clock <= THREAD_TIME + 1; clock++)
        print("set %d: %d\n", clock, set((u32)clock, read((u32)clock) + 3600ull * SECOND));
    print("back: %d\n", set(REALTIME, 5));
    spawn(&threads[0], look, 0);
    join(&threads[0]);
    proc_exit2(0);
}
