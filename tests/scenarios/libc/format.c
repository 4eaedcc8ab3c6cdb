#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *format_greeting(const char *name, int times) {
    char *text = malloc(64);
    snprintf(text, 64, "hello %s x%d", name, times);
    return text;
}
int format_print(const char *text) { return printf("[%s]\n", text); }
