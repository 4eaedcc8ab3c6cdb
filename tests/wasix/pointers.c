/* The address of a function, as everybody sees it. */
#include "guest.h"

int program_function(int x) { return x - 1; }

static u32 owner, go;
static void *seen;

static void work(int index) {
    wait_for(&go);
    seen = find(owner, "owned");
}

void _start(void) {
    spawn(&threads[0], work, 0);
    owner = open_for_all("libowner.so");
    u32 other = open("libother.so");
    void *by_name = find(owner, "owned");
    void *by_owner = ((void *(*)(void))find(owner, "owner_pointer"))();
    void *by_other = ((void *(*)(void))find(other, "other_pointer"))();
    int (*call)(int (*)(int), int) = find(other, "call_pointer");
    print("they work: %d %d %d\n", call(by_name, 1), call(by_owner, 2), call(by_other, 3));
    print("its owner and dlsym: %d\n", by_owner == by_name);
    print("its owner and another library: %d\n", by_owner == by_other);
    print("dlsym everywhere: %d\n", find(EVERYWHERE, "owned") == by_name);
    void *by_library = ((void *(*)(void))find(owner, "program_pointer"))();
    print("the program's, itself and a library: %d\n", by_library == (void *)program_function);
    print("the program's, itself and dlsym: %d\n", find(MAIN, "program_function") == (void *)program_function);
    release(&go);
    join(&threads[0]);
    print("in another thread: %d\n", seen == by_name);
    proc_exit2(0);
}
