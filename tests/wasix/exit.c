/* A constructor exits: so does the program. */
#include "guest.h"

void _start(void) {
    u32 handle = 0;
    print("before\n");
    int error = dlopen(TEXT("libexiting.so"), NOW, message, sizeof message, "", 0, &handle);
    print("after: %d\n", error);
    proc_exit2(0);
}
