/* libplugin.so, opened at run time. It gives a function pointer of its own to the qsort of the main module's C library. */
#include <stdlib.h>
#include <string.h>

void greet(const char *whom); /* in libgreet.so */

static int compare(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void plugin_sort(const char **words, size_t count) {
    greet("plugin");
    qsort(words, count, sizeof *words, compare);
}
