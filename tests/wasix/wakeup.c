/* Signals of every number: what a handler hears, and that a wait goes on to its end whatever was heard. */
#include "guest.h"

enum { MS = 1000000, WAKEUP = 31, LAST = 34 };

static u32 calls, last, ready, done, word;

void on_signal(int signal) {
    STORE(last, (u32)signal);
    ADD(calls, 1);
}

static void wait_a_while(int hears) {
    struct timeout some = {1, 60 * MS};
    u8 woken = 9;
    callback_signal(TEXT("on_signal"));
    if (!hears)
        callback_signal(TEXT("nobody"));
    u64 before = now();
    ADD(ready, 1);
    int error = futex_wait(&word, 0, &some, &woken);
    print("a wait: %d %d, not early: %d\n", error, woken, now() - before >= 60 * MS);
    ADD(done, 1);
}

void _start(void) {
    u32 self = 0;
    thread_id(&self);
    callback_signal(TEXT("on_signal"));
    for (int signal = 25; signal <= LAST; signal++) {
        STORE(last, 99);
        int error = thread_signal(self, signal);
        print("%d: %d, heard as %d\n", signal, error, (int)LOAD(last));
    }
    for (int hears = 0; hears < 2; hears++) {
        STORE(calls, 0);
        STORE(ready, 0);
        spawn(&threads[0], wait_a_while, hears);
        until(&ready, 1);
        thread_sleep(5 * MS);
        thread_signal(threads[0].number, WAKEUP);
        join(&threads[0]);
        print("heard: %d\n", calls);
    }
    proc_exit2(0);
}
