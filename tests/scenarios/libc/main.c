#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *format_greeting(const char *name, int times);
int format_print(const char *text);
void keep(char *text);
int keep_length(void), keep_print(void);
void keep_drop(void);

static int by_length(const void *a, const void *b) {
    return (int)strlen(*(char *const *)a) - (int)strlen(*(char *const *)b);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOFBF, 4096); /* one buffer for all three modules: the lines come out in the order printed */
    char *text = format_greeting(argv[1], 2);
    printf("main: %s\n", text);
    format_print(text);
    keep(text);
    keep_print();
    printf("length %d\n", keep_length());
    keep_drop();
    qsort(argv + 1, argc - 1, sizeof *argv, by_length);
    for (int i = 1; i < argc; i++)
        printf("%s\n", argv[i]);
    return 21;
}
