void record(char what);
__attribute__((constructor)) static void start(void) { record('I'); }
int inner(void) { return 1; }
