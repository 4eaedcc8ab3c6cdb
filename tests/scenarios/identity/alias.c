/* Two names of one function and of one variable. */
int original(int x) { return x + 1; }
extern int other_name(int x) __attribute__((alias("original")));
int variable = 4;
extern int other_variable __attribute__((alias("variable")));
int same_function(void) {
    int (*volatile a)(int) = original, (*volatile b)(int) = other_name;
    return a == b;
}
int same_variable(void) {
    int *volatile a = &variable, *volatile b = &other_variable;
    return a == b;
}
