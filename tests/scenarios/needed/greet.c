#include <stdio.h>

int greeted;

int greet(const char *name) {
    greeted += 1;
    return printf("hello, %s\n", name);
}
