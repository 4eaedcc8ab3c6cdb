#include <stdio.h>

extern int greeted;
int greet(const char *name);

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        printf("%d characters\n", greet(argv[i]));
    return greeted;
}
