/* A destructor that tells it has begun, waits to be let go, and calls the library that this one needs. */
#include "threads.h"

extern int in_constructor, leave_constructor, nested;
int twice(int x);
__attribute__((destructor)) static void destroy(void) {
    ADD(in_constructor, 1);
    while (!LOAD(leave_constructor))
        yield();
    STORE(nested, twice(50));
}
int slow(int x) { return twice(x) + 2; }
