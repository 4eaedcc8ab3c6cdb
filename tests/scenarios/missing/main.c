#include <stdio.h>
int absent_function(int x);
int main(int argc, char **argv) {
    printf("before\n");
    fflush(stdout);
    return argc > 1 ? absent_function(argc) : 0;
}
