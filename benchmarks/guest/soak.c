/* What a soak opens and closes: data that must be fresh each time, and every way out of a library. */
int callee(int x);              /* of a library that it needs */
int soak_host(int x);           /* Python's */
void soak_constructing(void);   /* Python's: it may fail */

static int data = 41, zero, fresh, never;
static int *relocated = &data;
#ifdef TLS
static _Thread_local volatile int mine = 7; /* volatile: or it would be a constant */
int soak_mine(void) { return mine; }
#endif

__attribute__((constructor)) static void construct(void) {
    fresh = data == 41 && zero == 0 && relocated == &data;
    data = zero = 99;
    relocated = 0;
    soak_constructing();
}

int soak_is_fresh(void) { return fresh; }
int soak_lazy(int x) { return callee(x); }
int soak_through(int (*function)(int), int x) { return function(x); }
int (*soak_pointer(void))(int) { return soak_lazy; }
int soak_ask(int x) { return soak_host(x); }
int soak_wait(long long nanoseconds) { return __builtin_wasm_memory_atomic_wait32(&never, 0, nanoseconds); }
void soak_trap(void) { __builtin_trap(); }

void soak_spin(int turns) {
    for (volatile int i = 0; i < turns; i++)
        ;
}
