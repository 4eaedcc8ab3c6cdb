#include <stdio.h>
extern int odd_calls;
int is_odd(int n);
int even_calls;
int is_even(int n) {
    even_calls += 1;
    return n == 0 ? 1 : is_odd(n - 1);
}
int main(void) {
    printf("9 is %s\n", is_even(9) ? "even" : "odd");
    printf("calls %d %d\n", even_calls, odd_calls);
    return 0;
}
