#include <dlfcn.h>
/* Opens another library while it is being opened, and then fails. */
__attribute__((constructor)) static void start(void) {
    if (dlopen("libplugin.so", RTLD_NOW))
        __builtin_trap();
}
int nest_trap(void) { return 1; }
