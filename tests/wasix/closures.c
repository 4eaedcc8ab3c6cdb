/* Closures: what their backing function is called with, and what the calls answer. */
#include "guest.h"

static u8 *arguments_seen, *results_seen, copy[64];
static void *environment_seen;

static void backing(u8 *arguments, u8 *results, void *environment) {
    arguments_seen = arguments;
    results_seen = results;
    environment_seen = environment;
    memcpy(copy, arguments, sizeof copy);
    for (int i = 0; i < 32; i++)
        results[i] = (u8)(i + 1);
}

static u32 closure;

static int prepare(const char *arguments, u32 argument_count, const char *results, u32 result_count) {
    return closure_prepare(SLOT(backing), closure, (const u8 *)arguments, argument_count, (const u8 *)results, result_count, &closure);
}

static void fib(u8 *arguments, u8 *results, void *environment) {
    int x, one, other;
    memcpy(&x, arguments, 4);
    if (x < 2) {
        memcpy(results, &x, 4);
        return;
    }
    int (*self)(int) = *(int (**)(int))environment;
    one = self(x - 1);
    other = self(x - 2);
    one += other;
    memcpy(results, &one, 4);
}

void _start(void) {
    u32 other = 0;
    print("allocate: %d %d, differ %d\n", closure_allocate(&closure), closure_allocate(&other), closure != other && closure && other);

    print("prepare: %d\n", prepare("\0\1\2\3", 4, "\0", 1));
    int (*mixed)(int, i64, float, double) = (void *)closure;
    volatile char before[16];
    int result = mixed(0x01020304, 0x1112131415161718, 1.0f, 2.0);
    print("result: %x, environment %d\n", result, environment_seen == &closure);
    print_bytes("arguments", copy, 24);
    print("aligned: %d, apart: %d\n", ((u32)arguments_seen | (u32)results_seen) % 16 == 0, results_seen >= arguments_seen + 24);
    print("below the stack of the caller: %d\n", (volatile char *)results_seen < before);

    print("as another type: %d", prepare("", 0, "\1", 1));
    i64 wide = ((i64(*)(void))closure)();
    print_bytes("", &wide, 8);
    print("of nothing: %d\n", prepare("", 0, "", 0));
    ((void (*)(void))closure)();
    print("of floats: %d", prepare("\2\3", 2, "\2", 1));
    float single = ((float (*)(float, double))closure)(1.5f, 2.5);
    print_bytes("", &single, 4);
    print_bytes("arguments", copy, 12);
    print("of doubles: %d", prepare("\3", 1, "\3", 1));
    double real = ((double (*)(double))closure)(1.5);
    print_bytes("", &real, 8);

    print("a bad type: %d %d\n", prepare("\5", 1, "\0", 1), prepare("\0", 1, "\177", 1));
    print("types outside: %d\n", closure_prepare(SLOT(backing), closure, OUTSIDE, 100, 0, 0, 0));
    print("it is what it was: %d\n", ((double (*)(double))closure)(1.5) == real);

    closure_prepare(SLOT(fib), other, (const u8 *)"\0", 1, (const u8 *)"\0", 1, &other);
    print("within itself: %d\n", ((int (*)(int))other)(10));

    print("free: %d\n", closure_free(other));
    u32 again = 0;
    closure_allocate(&again);
    print("used again: %d\n", again == other);
    print("free what is none: %d %d\n", closure_free(SLOT(backing)), closure_free(100000));
    print("free twice: %d %d\n", closure_free(again), closure_free(again));
    u32 one = 0, two = 0;
    closure_allocate(&one);
    closure_allocate(&two);
    print("given out once: %d\n", one != two && one != closure && two != closure);
    proc_exit2(0);
}
