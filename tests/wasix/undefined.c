/* A call of a function that nobody defines ends the program, but not before. */
#include "guest.h"

void _start(void) {
    u32 handle = open("libfunction.so");
    print("before\n");
    ((int (*)(void))find(handle, "get"))();
    print("after\n");
    proc_exit2(0);
}
