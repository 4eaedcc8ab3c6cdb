/* Two libraries define the same names, and neither is opened for all. */
#include "guest.h"

void _start(void) {
    u32 first = open("libfirst.so"), second = open("libsecond.so");
    print("by handle: %d %d, ", ((int (*)(void))find(first, "tell"))(), ((int (*)(void))find(second, "tell"))());
    print("%d %d\n", *(int *)find(first, "number"), *(int *)find(second, "number"));
    print("a function, from within: %d", ((int (*)(void))find(first, "tell_own"))());
    print(" %d\n", ((int (*)(void))find(second, "tell_own"))());
    print("a value, from within: %d", *((int *(*)(void))find(first, "number_address"))());
    print(" %d\n", *((int *(*)(void))find(second, "number_address"))());
    void *address;
    print("everywhere: %d\n", dlsym(EVERYWHERE, TEXT("tell"), message, sizeof message, &address));
    open_for_all("libsecond.so");
    print("opened for all: %d\n", dlsym(EVERYWHERE, TEXT("tell"), message, sizeof message, &address));
    print("who tells: %d\n", ((int (*)(void))find(EVERYWHERE, "tell"))());
    proc_exit2(0);
}
