#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    printf("static %s\n", argc > 1 ? argv[1] : "-");
    return argc > 2 ? atoi(argv[2]) : 0;
}
