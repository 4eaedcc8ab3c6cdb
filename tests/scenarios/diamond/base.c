int loads;
int shared = 100;
__attribute__((constructor)) static void count(void) { loads += 1; }
