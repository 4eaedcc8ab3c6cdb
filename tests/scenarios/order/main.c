#include <stdio.h>
#include <stdlib.h>
extern char trace[256];
int outer(void);
void record(char what);
__attribute__((constructor)) static void start(void) { record('M'); }
__attribute__((destructor)) static void stop(void) { record('m'); }
static void at_exit(void) { record('!'); }
int main(int argc, char **argv) {
    atexit(at_exit);
    printf("%s %d\n", trace, outer());
    if (argc > 1)
        exit(4);
    return 3;
}
