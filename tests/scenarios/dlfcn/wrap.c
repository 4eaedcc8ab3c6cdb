#include <dlfcn.h>
/* Put before the library that has the real one. */
int measure(int a, int b) {
    int (*next)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "measure");
    return next ? 1000 + next(a, b) : -1;
}
