/* Closures and two threads. Argument: "own", each calls what it has prepared, or "shared", each calls both. */
#include "guest.h"

enum { TIMES = 1000 };

static u32 closures[2], ready;
static int wrong[2], bias[2] = {1000, 2000};

static void add(u8 *arguments, u8 *results, void *environment) {
    int values[2];
    memcpy(values, arguments, sizeof values);
    values[0] += values[1] + *(int *)environment;
    memcpy(results, values, 4);
}

static void make(int index) {
    u32 closure;
    closure_allocate(&closure);
    closure_prepare(SLOT(add), closure, (const u8 *)"\0\0", 2, (const u8 *)"\0", 1, &bias[index]);
    STORE(closures[index], closure);
    ADD(ready, 1);
}

static void call(int index, int which) {
    wrong[index] += ((int (*)(int, int))LOAD(closures[which]))(which, index) != which + index + bias[which];
}

static void work(int index) {
    make(index);
    until(&ready, 2);
    for (int i = 0; i < TIMES; i++) {
        call(index, index);
        if (equal(argument(1), "shared"))
            call(index, !index);
    }
}

void _start(void) {
    print("begin\n");
    for (int i = 0; i < 2; i++)
        spawn(&threads[i], work, i);
    for (int i = 0; i < 2; i++)
        join(&threads[i]);
    print("called by two: %d %d wrong\n", wrong[0], wrong[1]);
    if (equal(argument(1), "shared"))
        for (int i = 0; i < 2; i++)
            print("by the first: %d\n", ((int (*)(int, int))closures[i])(1, 2));
    proc_exit2(0);
}
