/* A program that does not export wasi_thread_start has no threads. */
#include "abi.h"

static void nothing(int x) {}

void _start(void) {
    static char stack[1024] __attribute__((aligned(16)));
    struct thread_start start = {.stack = stack + sizeof stack, .function = nothing, .stack_size = sizeof stack};
    u32 number = 77;
    int error = thread_spawn_v2(&start, &number);
    proc_exit2(error == NOT_CAPABLE && number == 77 ? 0 : error + 1);
}
