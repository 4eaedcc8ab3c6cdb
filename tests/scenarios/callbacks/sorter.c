#include <stdlib.h>

typedef int comparator(const void *, const void *);
typedef int unary(int);

int main_negate(int x); /* in the main module */
int doubled(int x) { return 2 * x; }
static int hidden(int x) { return x + 7; }
unary *const table[] = {main_negate, doubled, hidden};

int descending(const void *a, const void *b) { return *(const int *)b - *(const int *)a; }
void sort(int *values, int count, comparator *compare) { qsort(values, count, sizeof *values, compare); }
int apply(unary *function, int x) { return function(x); }
unary *pick(int index) { return table[index]; }
