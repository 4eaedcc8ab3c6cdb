/* How a program ends. Argument: which way. */
#include "guest.h"

static u32 ready, word, go;

static void run_along(int index) {
    ADD(ready, 1);
    for (;;)
        sched_yield();
}

static void wait_for_ever(int index) {
    ADD(ready, 1);
    for (;;) {
        u8 woken;
        futex_wait(&word, 0, &forever, &woken);
    }
}

static void sleep_for_ever(int index) {
    ADD(ready, 1);
    for (;;)
        thread_sleep(1000000000000);
}

static void wait_atomically(int index) {
    ADD(ready, 1);
    for (;;)
        __builtin_wasm_memory_atomic_wait32((int *)&word, 0, -1);
}

static void compute(int index) {
    ADD(ready, 1);
    while (!LOAD(word))
        ;
}

static void leave(int status) {
    wait_for(&go);
    proc_exit2(status);
}

static void trap(int index) {
    wait_for(&go);
    __builtin_trap();
}

static void (*const others[])(int) = {run_along, wait_for_ever, sleep_for_ever, wait_atomically, compute};
static const char *const names[] = {"yield", "wait", "sleep", "atomic", "compute"};

/* A second argument says what other threads do meanwhile. */
static void company(void) {
    const char *name = argument(2);
    for (u32 i = 0; i < sizeof names / sizeof *names; i++)
        if (equal(name, names[i])) {
            for (int thread = 1; thread < 4; thread++)
                spawn(&threads[thread], others[i], thread);
            until(&ready, 3);
        }
}

void _start(void) {
    const char *way = argument(1);
    company();
    print("before\n");
    if (equal(way, "return"))
        return;
    if (equal(way, "exit"))
        proc_exit2(3);
    if (equal(way, "255"))
        proc_exit2(255);
    if (equal(way, "thread-exit")) /* of the first thread */
        thread_exit(5);
    if (equal(way, "trap"))
        __builtin_trap();
    if (equal(way, "dynamic-trap")) {
        STORE(go, 1);
        call_dynamic(SLOT(trap), &word, 4, 0, 0, 1);
    }
    if (equal(way, "kill")) {
        u32 self;
        thread_id(&self);
        thread_signal(self, SIGKILL);
    }
    if (equal(way, "interrupt")) {
        u32 self;
        thread_id(&self);
        thread_signal(self, SIGINT);
    }
    if (equal(way, "thread-exits"))
        spawn(&threads[0], leave, 9);
    if (equal(way, "thread-traps"))
        spawn(&threads[0], trap, 0);
    release(&go);
    static u32 never;
    u8 woken;
    for (;;) /* the other one ends us */
        futex_wait(&never, 0, &forever, &woken);
}
