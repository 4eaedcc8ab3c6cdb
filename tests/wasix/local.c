/* Thread-local data of the program and of a library, opened before and after threads were spawned.
   Arguments: which library, and how many threads. */
#include "guest.h"

_Thread_local int mine = 5;

static int (*bump)(int), (*wide_is_right)(void), *(*address)(void);
static u32 handle, opened, running, seen, done;

static struct {
    int program[2], library[2], *address, wide_is_right, own, by_name;
} results[3];

static void work(int index) {
    ADD(running, 1);
    wait_for(&opened);
    results[index].program[0] = mine++;
    results[index].program[1] = mine++;
    results[index].library[0] = bump(1);
    results[index].library[1] = bump(1);
    results[index].wide_is_right = wide_is_right();
    results[index].address = address();
    void *found = 0;
    dlsym(handle, TEXT("mine"), 0, 0, &found);
    results[index].by_name = found == address();
    STORE(*address(), 300 + index);
    ADD(seen, 1);
    wait_for(&done);
    results[index].own = *address() == 300 + index && address() == results[index].address;
}

void _start(void) {
    int count = number(argument(2));
    for (int i = 0; i < (count + 1) / 2; i++)
        spawn(&threads[i], work, i);
    until(&running, (u32)(count + 1) / 2);
    handle = open(argument(1));
    bump = find(handle, "bump");
    address = find(handle, "address");
    wide_is_right = find(handle, "wide_is_right");
    int first = bump(1), second = bump(1);
    print("the opener: program %d, library %d %d, aligned %d\n", mine, first, second, wide_is_right());
    release(&opened);
    for (int i = (count + 1) / 2; i < count; i++)
        spawn(&threads[i], work, i);
    until(&seen, (u32)count);
    release(&done);
    for (int i = 0; i < count; i++) {
        join(&threads[i]);
        print("thread %d: program %d %d", i, results[i].program[0], results[i].program[1]);
        print(", library %d %d", results[i].library[0], results[i].library[1]);
        print(", aligned %d, own %d", results[i].wide_is_right, results[i].own);
        print(", by name %d\n", results[i].by_name);
    }
    print("the opener: program %d, library %d\n", mine, bump(1));
    print("by name: %d\n", find(handle, "mine") == address());
    print("all: %d\n", *(int *)find(handle, "all"));
    proc_exit2(0);
}
