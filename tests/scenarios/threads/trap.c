/* A constructor that tells it has begun, waits to be let go, and traps if told to. */
#include "threads.h"

extern int constructions, in_constructor, leave_constructor, trap_in_constructor;
int trapping_value = 5;

__attribute__((constructor)) static void construct(void) {
    ADD(in_constructor, 1);
    while (!LOAD(leave_constructor))
        yield();
    if (LOAD(trap_in_constructor))
        __builtin_trap();
    ADD(constructions, 1);
}
int trapping(int x) { return x + trapping_value; }
