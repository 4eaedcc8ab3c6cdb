/* A constructor that opens another library and calls it, and a destructor that closes that. */
#include "threads.h"

extern int nested;
static void *handle;

__attribute__((constructor)) static void construct(void) {
    handle = dlopen("libtwice.so", 2);
    function pointer = handle ? (function)dlsym(handle, "twice") : 0;
    STORE(nested, pointer ? pointer(21) : -1);
}
__attribute__((destructor)) static void destroy(void) { dlclose(handle); }
int nest(int x) { return x + 9; }
