/* Calls of functions whose type only the host looks at. */
#include "guest.h"

static int calls;

static int add(int one, int other) { return calls++, one + other; }
static i64 mixed(int a, i64 b, float c, double d) { return a + b + (i64)c + (i64)d; }
static float half(float x) { return x / 2; }
static void nothing(void) { calls++; }

static int result[4];

static void attempt(const char *what, u32 size, u32 result_size, int strict) {
    static const int values[4] = {30, 12, 5, 6};
    result[0] = result[1] = -1;
    calls = 0;
    int error = call_dynamic(SLOT(add), values, size, result, result_size, strict);
    print("%s: %d, %d", what, error, result[0]);
    print(" %d, calls %d\n", result[1], calls);
}

void _start(void) {
    attempt("strict", 8, 4, 1);
    attempt("too few", 7, 4, 1);
    attempt("too many", 9, 4, 1);
    attempt("a small result", 8, 3, 1);
    attempt("a large result", 8, 8, 1);
    attempt("lax", 8, 4, 0);
    attempt("one missing", 7, 4, 0);
    attempt("all missing", 0, 4, 0);
    attempt("more than wanted", 16, 4, 0);
    attempt("no room", 8, 3, 0);
    attempt("much room", 8, 12, 0);
    attempt("strict is only 1", 7, 4, 2);

    u8 values[64];
    int a = 1;
    i64 b = 2, wide = 0;
    float c = 3.5f, single = 5;
    double d = 4.5;
    memcpy(values + 1, &a, 4);
    memcpy(values + 5, &b, 8);
    memcpy(values + 13, &c, 4);
    memcpy(values + 17, &d, 8);
    print("packed, unaligned: %d", call_dynamic(SLOT(mixed), values + 1, 24, values + 27, 8, 1));
    memcpy(&wide, values + 27, 8);
    print(" %u\n", (u64)wide);
    print("a float: %d", call_dynamic(SLOT(half), &single, 4, &single, 4, 1));
    print(" %d\n", single == 2.5f);
    print("nothing: %d %d\n", call_dynamic(SLOT(nothing), 0, 0, 0, 0, 1), calls);

    u32 plain = open("libplain.so"), types = open("libtypes.so");
    print("of a library: %d", call_dynamic(SLOT(find(plain, "twice")), &a, 4, result, 4, 1));
    print(" %d\n", result[0]);
    print("two results: %d", call_dynamic(SLOT(find(types, "two")), &a, 4, result, 8, 1));
    print(" %d %d\n", result[0], result[1]);
    for (u32 i = 0; i < sizeof values; i++)
        values[i] = (u8)i;
    u8 reversed[40];
    print("every type: %d\n", call_dynamic(SLOT(find(types, "every")), values, 40, reversed, 40, 1));
    print_bytes("reversed", reversed, 40);

    print("no function: %d %d %d\n", call_dynamic(0, 0, 0, 0, 0, 1), call_dynamic(1000000, 0, 0, 0, 0, 1),
          call_dynamic(~0u, 0, 0, 0, 0, 1));
    print("values outside: %d, result outside: %d\n", call_dynamic(SLOT(add), OUTSIDE, 8, result, 4, 1),
          call_dynamic(SLOT(add), values, 8, OUTSIDE, 4, 1));
    print("outside, but none: %d\n", call_dynamic(SLOT(nothing), OUTSIDE, 0, OUTSIDE, 0, 1));
    u32 closure;
    closure_allocate(&closure);
    print("a closure before it is prepared: %d\n", call_dynamic(closure, 0, 0, 0, 0, 0));
    proc_exit2(0);
}
