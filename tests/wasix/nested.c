/* Constructors that open libraries and look up functions, while other threads run. */
#include "guest.h"

int program_function(int x) { return x + 1; }

static u32 ready, done;

static void run_along(int index) {
    ADD(ready, 1);
    while (!LOAD(done))
        sched_yield();
}

void _start(void) {
    spawn(&threads[0], run_along, 0);
    until(&ready, 1);
    print("opens: %d\n", ((int (*)(int))find(open("libnestopen.so"), "call"))(4));
    print("finds: %d\n", ((int (*)(int))find(open("libnestfind.so"), "call"))(4));
    STORE(done, 1);
    join(&threads[0]);
    proc_exit2(0);
}
