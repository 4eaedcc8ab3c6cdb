/* A program that needs a library: it is there before the program begins. */
#include "guest.h"

extern int value;
int constructions(void), twice(int x), thrice(int x);

static int (*const table[])(int) = {twice, thrice};

static void work(int index) { print("in a thread: %d %d\n", twice(index), table[1](index)); }

void _start(void) {
    print("constructed: %d, value %d\n", constructions(), value);
    print("called: %d, through a pointer: %d\n", twice(4), table[1](5));
    u32 handle = open("libplain.so");
    print("opened: %d, constructed: %d\n", find(handle, "value") == &value, constructions());
    spawn(&threads[0], work, 6);
    join(&threads[0]);
    proc_exit2(0);
}
