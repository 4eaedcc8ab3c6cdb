/* A constructor that opens another library and calls it. */
#include "threads.h"

extern int nested;
__attribute__((constructor)) static void construct(void) {
    void *handle = dlopen("libtwice.so", 2);
    function pointer = handle ? (function)dlsym(handle, "twice") : 0;
    STORE(nested, pointer ? pointer(21) : -1);
}
int nest(int x) { return x + 9; }
