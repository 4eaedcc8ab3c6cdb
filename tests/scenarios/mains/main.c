/* DIRECT: a PIE refers to the library's names as any C program does. Otherwise functions are declared as imports and data
   comes through functions, since a program that is not PIE has no GOT. */
#include <stdio.h>
#include <stdlib.h>

typedef int unary(int);
#ifdef DIRECT
#define LIBRARY(name)
extern int tool_value;
#else
#define LIBRARY(name) __attribute__((import_module("env"), import_name(name)))
#define tool_value (*tool_address())
#endif
LIBRARY("tool_add") int tool_add(int a, int b);
LIBRARY("tool_read") int tool_read(void);
LIBRARY("tool_call") int tool_call(int x);
LIBRARY("tool_apply") int tool_apply(unary *function, int x);
LIBRARY("tool_main_pointer") unary *tool_main_pointer(void);
LIBRARY("tool_pointer") unary *tool_pointer(void);
LIBRARY("tool_address") int *tool_address(void);

int main_value = 33;
int main_twice(int x) { return 2 * x; }

int main(int argc, char **argv) {
    printf("add %d\n", tool_add(1, 2));
    printf("read %d\n", tool_read());
    printf("call %d\n", tool_call(5));
    printf("apply %d\n", tool_apply(main_twice, 6));
    printf("identity %d\n", tool_main_pointer() == main_twice);
    printf("pointer %d\n", tool_pointer()(9));
    tool_value += 7;
    printf("value %d\n", *tool_address());
    char *large = malloc(300000);
    for (int i = 0; i < 300000; i++)
        large[i] = 1;
    printf("value %d\n", tool_value);
    free(large);
    printf("arguments %d\n", argc);
    return argc > 1 ? atoi(argv[1]) : 0;
}
