/* The constructor traps, after the one of the library it needs has run. */
void record(char what);
int inner(void);
int ballast[5000] = {1};
int (*const functions[])(void) = {inner};
__attribute__((constructor)) static void start(void) {
    record('T');
    __builtin_trap();
}
int trapping(void) { return functions[0]() + ballast[0]; }
