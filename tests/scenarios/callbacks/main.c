#include <stdio.h>
#include <stdlib.h>

typedef int comparator(const void *, const void *);
typedef int unary(int);

extern unary *const table[];
comparator descending;
void sort(int *values, int count, comparator *compare);
int apply(unary *function, int x);
unary *pick(int index);

int main_negate(int x) { return -x; }
static int ascending(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static void show(const char *what, const int *values) {
    printf("%s %d %d %d %d\n", what, values[0], values[1], values[2], values[3]);
}

int main(void) {
    int values[] = {3, 1, 4, 2};
    sort(values, 4, ascending); /* the library calls libc here, which calls back here */
    show("ascending", values);
    qsort(values, 4, sizeof *values, descending); /* libc here calls the library */
    show("descending", values);
    printf("apply %d\n", apply(main_negate, 5));
    for (int i = 0; i < 3; i++)
        printf("table %d pick %d\n", table[i](10), pick(i)(10));
    return 0;
}
