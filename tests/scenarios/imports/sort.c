/* Python compares: its function is passed as a pointer, and called from here and there. */
typedef int comparator(const void *, const void *);

comparator compare; /* Python's; only its address is taken */
__attribute__((weak)) int perhaps(int);
double log2(double);

int numbers[5];
comparator *pointer(void) { return compare; }

void sort(int *values, int count) {
    comparator *volatile order = compare;
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && order(values + j - 1, values + j) > 0; j--) {
            int value = values[j];
            values[j] = values[j - 1];
            values[j - 1] = value;
        }
}

double bits(double values) { return log2(values); }
int try(int x) { return perhaps ? perhaps(x) : -1; }
