/* libgreet.so, needed by the main module and by libplugin.so: one copy of its data for both. */
#include <stdio.h>

int greetings;

void greet(const char *whom) {
    greetings++;
    printf("hello, %s\n", whom);
}
