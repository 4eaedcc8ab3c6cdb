/* Waiting at a word, and waking. */
#include "guest.h"

enum { MS = 1000000 };

static u32 word, ready, awake;

static void wait_once(int index) {
    u8 woken = 9;
    ADD(ready, 1);
    int error = futex_wait(&word, 0, &forever, &woken);
    if (!error && woken == 1)
        ADD(awake, 1);
}

static void wait_long(int index) {
    struct timeout long_one = {1, 60000000000};
    u8 woken = 9;
    ADD(ready, 1);
    if (!futex_wait(&word, 0, &long_one, &woken) && woken == 1)
        ADD(awake, 1);
}

void _start(void) {
    struct timeout some = {1, 20 * MS}, none = {1, 0};
    u8 woken = 9;
    print("another value: %d", futex_wait(&word, 1, &forever, &woken));
    print(" %d\n", woken);
    u64 before = now();
    print("a time-out: %d", futex_wait(&word, 0, &some, &woken));
    print(" %d, not early: %d\n", woken, now() - before >= 20 * MS);
    woken = 9;
    print("no time: %d", futex_wait(&word, 0, &none, &woken));
    print(" %d\n", woken);
    woken = 9;
    print("wake nobody: %d", futex_wake(&word, &woken));
    print(" %d\n", woken);
    woken = 9;
    print("wake all nobody: %d", futex_wake_all(&word, &woken));
    print(" %d\n", woken);

    for (int i = 0; i < 4; i++)
        spawn(&threads[i], i % 2 ? wait_long : wait_once, i);
    until(&ready, 4);
    thread_sleep(20 * MS); /* so that they do sleep; whether or not, one wake wakes at most one */
    u32 wakes = 0;
    int too_many = 0;
    while (LOAD(awake) < 3) {
        wakes++;
        futex_wake(&word, &woken);
        thread_sleep(5 * MS);
        too_many |= LOAD(awake) > wakes;
    }
    print("one at a time: %d\n", !too_many);
    while (LOAD(awake) < 4)
        futex_wake(&word, &woken);
    for (int i = 0; i < 4; i++)
        join(&threads[i]);

    STORE(ready, 0);
    STORE(awake, 0);
    for (int i = 0; i < 4; i++)
        spawn(&threads[i], wait_once, i);
    until(&ready, 4);
    while (LOAD(awake) < 4)
        futex_wake_all(&word, &woken);
    for (int i = 0; i < 4; i++)
        join(&threads[i]);
    print("all: %d\n", awake);

    static u32 others[2];
    struct timeout short_one = {1, 1 * MS};
    futex_wake(&others[1], &woken);
    print("a wake is not kept, nor for others: %d", futex_wait(&others[0], 0, &short_one, &woken));
    print(" %d", woken);
    print(", %d", futex_wait(&others[1], 0, &short_one, &woken));
    print(" %d\n", woken);

    print("outside: %d %d %d\n", futex_wait(OUTSIDE, 0, &some, &woken), futex_wait(&word, 0, OUTSIDE, &woken),
          futex_wait(&word, 0, &none, OUTSIDE));
    print("outside: %d %d\n", futex_wake(&word, OUTSIDE), futex_wake_all(&word, OUTSIDE));
    proc_exit2(0);
}
