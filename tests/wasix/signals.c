/* Signals: a thread that waits hears them while it waits, and goes on waiting. */
#include "guest.h"

enum { MS = 1000000 };

static u32 calls, last, in_thread, ready, awake, done, word;

void on_signal(int signal) {
    STORE(last, (u32)signal);
    thread_id(&in_thread);
    ADD(calls, 1);
}

static void wait_in_futex(int index) {
    callback_signal(TEXT("on_signal"));
    ADD(ready, 1);
    u8 woken = 9;
    int error = futex_wait(&word, 0, &forever, &woken);
    print("the wait: %d %d, to its end: %d\n", error, woken, LOAD(done));
    ADD(awake, 1);
}

static void sleep_long(int index) {
    callback_signal(TEXT("on_signal"));
    ADD(ready, 1);
    u64 before = now();
    int error = thread_sleep(100 * MS);
    print("the sleep: %d, to its end: %d\n", error, now() - before >= 100 * MS);
    ADD(awake, 1);
}

static void wait_for_other(int index) {
    callback_signal(TEXT("on_signal"));
    ADD(ready, 1);
    int error = join(&threads[1]);
    print("the join: %d, to its end: %d\n", error, LOAD(done));
    ADD(awake, 1);
}

static void other(int index) {
    while (!LOAD(done))
        sched_yield();
}

static void run_along(int index) {
    callback_signal(TEXT("on_signal"));
    ADD(ready, 1);
    while (!LOAD(done))
        sched_yield();
    ADD(awake, 1);
}

static void deaf(int index) {
    ADD(ready, 1);
    while (!LOAD(done))
        sched_yield();
    ADD(awake, 1);
}

/* Starts a thread, sends it signals that it shall hear, has it end, and tells what it has heard. */
static void send(const char *what, void (*function)(int)) {
    STORE(ready, 0);
    STORE(awake, 0);
    STORE(done, 0);
    STORE(calls, 0);
    STORE(last, 0);
    spawn(&threads[1], other, 0);
    spawn(&threads[0], function, 0);
    until(&ready, 1);
    thread_sleep(5 * MS); /* so that it does wait; it hears them in any case */
    print("%s: %d", what, thread_signal(threads[0].number, SIGUSR1));
    print(" %d\n", function == deaf ? 0 : (until(&calls, 1), (int)last));
    thread_signal(threads[0].number, SIGUSR2);
    if (function != deaf)
        until(&calls, 2);
    print("heard: %d, last %d, there: %d\n", calls, last, !calls || in_thread == threads[0].number);
    STORE(done, 1);
    u8 woken;
    while (!LOAD(awake))
        futex_wake(&word, &woken);
    join(&threads[0]);
    join(&threads[1]);
}

void _start(void) {
    u32 self = 0;
    thread_id(&self);
    callback_signal(TEXT("on_signal"));
    print("to itself: %d, ", thread_signal(self, SIGUSR1));
    print("heard at once: %d, %d, here: %d\n", calls, last, in_thread == self);
    print("an interrupt that is heard: %d, ", thread_signal(self, SIGINT));
    print("%d, %d\n", calls, last);
    print("to nobody: %d, %d\n", thread_signal(1000, SIGUSR1), calls);
    send("to one who waits", wait_in_futex);
    send("to one who sleeps", sleep_long);
    send("to one who joins", wait_for_other);
    send("to one who yields", run_along);
    send("to one without a handler", deaf);
    proc_exit2(0);
}
