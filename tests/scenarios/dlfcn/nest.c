#include <dlfcn.h>
/* Opens another library while it is being opened. */
static int (*add)(int, int);
__attribute__((constructor)) static void start(void) {
    void *plugin = dlopen("libplugin.so", RTLD_NOW);
    if (plugin)
        add = (int (*)(int, int))dlsym(plugin, "plugin_add");
}
int nested_add(int a, int b) { return add ? 100 + add(a, b) : -1; }
