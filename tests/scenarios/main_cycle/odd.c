int is_even(int n); /* in the main module */
int odd_calls;
int is_odd(int n) {
    odd_calls += 1;
    return n == 0 ? 0 : is_even(n - 1);
}
