/* Calls in a loop: of a library that is there before, and of the program. */
int callee(int x), program_callee(int x);

int leaf(int x) { return x + 1; }

int loop_callee(int (*function)(int), int count) {
    int x = 0;
    while (count--)
        x = callee(x);
    return x;
}

int loop_program(int (*function)(int), int count) {
    int x = 0;
    while (count--)
        x = program_callee(x);
    return x;
}
