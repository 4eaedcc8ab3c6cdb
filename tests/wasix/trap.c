/* A constructor traps: the open fails, and leaves no trace. */
#include "guest.h"

static int attempt(u32 *handle) {
    message[0] = 0;
    return dlopen(TEXT("libtrapping.so"), NOW, message, sizeof message, "", 0, handle);
}

void _start(void) {
    u32 handle = 99, after = 0;
    void *address;
    print("first: %d, says something: %d, handle untouched: %d\n", attempt(&handle), message[0] != 0, handle == 99);
    print("its symbols: %d\n", dlsym(EVERYWHERE, TEXT("answer"), message, sizeof message, &address));
    print("second: %d\n", attempt(&after));
    print("others: %d\n", ((int (*)(int))find(open("libplain.so"), "twice"))(4));
    print("third: %d\n", attempt(&after));
    proc_exit2(0);
}
