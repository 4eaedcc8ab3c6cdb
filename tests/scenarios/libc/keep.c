#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *kept;
void keep(char *text) { kept = text; } /* text was allocated elsewhere; it is freed here */
int keep_length(void) { return (int)strlen(kept); }
void keep_drop(void) {
    free(kept);
    kept = NULL;
}
int keep_print(void) {
    int n = printf("kept: %s", kept);
    putchar('\n');
    return n;
}
