/* Its constructor traps. */
int begun;

__attribute__((constructor)) static void construct(void) {
    begun++;
    __builtin_trap();
}

int answer(void) { return 42; }
