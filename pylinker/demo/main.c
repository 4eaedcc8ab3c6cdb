/* The main module. It is linked against libgreet.so, and opens libplugin.so while it runs.
 *
 * It carries the C library, which the two libraries share with it: that is why build.py exports printf and qsort from it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

extern int greetings;          /* data of libgreet.so */
void greet(const char *whom);  /* code of libgreet.so */

int main(int argc, char **argv) {
    greet(argc > 1 ? argv[1] : "world");

    void *plugin = dlopen("libplugin.so", RTLD_NOW);
    if (!plugin) {
        fprintf(stderr, "%s\n", dlerror());
        return EXIT_FAILURE;
    }
    void (*sort)(const char **, size_t) = (void (*)(const char **, size_t))dlsym(plugin, "plugin_sort");
    if (!sort) {
        fprintf(stderr, "%s\n", dlerror());
        return EXIT_FAILURE;
    }
    const char *words[] = {"together", "link", "we", "now"};
    sort(words, 4);
    for (size_t i = 0; i < 4; i++) printf("%s%s", words[i], i < 3 ? ", " : "\n");

    printf("%d greetings\n", greetings);
    return EXIT_SUCCESS;
}
