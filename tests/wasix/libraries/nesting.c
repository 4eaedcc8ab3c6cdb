/* Its constructor uses the linker: it opens libplain.so, or looks up a function of the program. */
#include "../abi.h"

#define OPEN 1
#define FIND 2

static int error = -1;
static void *address;

__attribute__((constructor)) static void construct(void) {
#if NEST == OPEN
    u32 handle;
    error = dlopen("libplain.so", 11, NOW, 0, 0, "", 0, &handle);
    if (!error)
        error = dlsym(handle, "twice", 5, 0, 0, &address);
#else
    error = dlsym(MAIN, "program_function", 16, 0, 0, &address);
#endif
}

int call(int x) { return error ? -error : ((int (*)(int))address)(x); }
