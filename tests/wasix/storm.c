/* Threads spawn and join threads, while the first one and one more open libraries and look up functions. Argument: how many. */
#include "guest.h"

enum { ROUNDS = 5, LIBRARIES = 8 };

static u32 ready, go, children, opened;
static int (*found)(int);
static int wrong;
static struct thread inner[16];

static int use(int x) {
    int (*function)(int) = LOAD(found);
    return function ? function(x) != 2 * x : 0;
}

static void child(int index) {
    if (use(index))
        ADD(wrong, 1);
    ADD(children, 1);
}

static void parent(int index) {
    ADD(ready, 1);
    wait_for(&go);
    for (int round = 0; round < ROUNDS; round++) {
        if (spawn(&inner[index], child, index) || join(&inner[index]))
            ADD(wrong, 1);
        if (use(index))
            ADD(wrong, 1);
    }
}

static void open_some(int first) {
    char name[] = "libplain0.so";
    for (int i = first; i <= LIBRARIES; i += 2) {
        name[8] = (char)('0' + i);
        u32 handle = open(name);
        STORE(found, (int (*)(int))find(handle, "twice"));
        if (((int (*)(void))find(handle, "constructions"))() == 1)
            ADD(opened, 1);
    }
}

static void opener(int index) {
    ADD(ready, 1);
    wait_for(&go);
    open_some(2);
}

void _start(void) {
    int count = number(argument(1));
    spawn(&threads[16], opener, 0);
    for (int i = 0; i < count; i++)
        if (spawn(&threads[i], parent, i))
            print("cannot spawn %d\n", i);
    until(&ready, (u32)count + 1);
    release(&go);
    open_some(1);
    for (int i = 0; i < count; i++)
        join(&threads[i]);
    join(&threads[16]);
    print("children %d of %d, libraries %d", children, count * ROUNDS, opened);
    print(", wrong %d\n", wrong);
    proc_exit2(0);
}
