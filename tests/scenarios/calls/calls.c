/* Functions of every signature for calls from Python. */
#include <stddef.h>

int counter = 5;
char text[32] = "initial";
double numbers[4] = {0.5, 1.5, 2.5, 3.5};

int add(int a, int b) { return a + b; }
unsigned unsigned_add(unsigned a, unsigned b) { return a + b; }
long long wide_add(long long a, long long b) { return a + b; }
float half(float x) { return x / 2; }
double scale(double x, int by) { return x * by; }
void set_counter(int value) { counter = value; }
int get_counter(void) { return counter; }
int length(const char *string) {
    int n = 0;
    while (string[n])
        n++;
    return n;
}
int same(const char *a, const char *b) { return a == b; }
int byte_sum(const unsigned char *bytes, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += bytes[i];
    return sum;
}
const char *address_of_argument(const char *string) { return string; }
int apply(int (*function)(int, int), int a, int b) { return function(a, b); }
int (*pointer_to_add(void))(int, int) { return add; }
double sum_numbers(const double *from, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += from[i];
    return sum;
}
void trap(void) { __builtin_trap(); }
