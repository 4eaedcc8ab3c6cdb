#include <dlfcn.h>
/* Holds a plugin as long as it lives itself. */
static void *plugin;
__attribute__((constructor)) static void start(void) { plugin = dlopen("libplugin.so", RTLD_NOW); }
__attribute__((destructor)) static void stop(void) { dlclose(plugin); }
int holder_add(int a, int b) {
    int (*add)(int, int) = (int (*)(int, int))dlsym(plugin, "plugin_add");
    return add(a, b);
}
