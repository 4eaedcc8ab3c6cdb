/* The types of functions. */
#include "guest.h"

static i64 mixed(int a, i64 b, float c, double d) { return a + b + (i64)c + (i64)d; }
static void nothing(void) {}
static void backing(u8 *arguments, u8 *results, void *environment) {}

static void show(const char *what, u32 function, int argument_limit, int result_limit) {
    u8 arguments[8], results[8];
    struct {
        struct signature signature;
        u8 after[2];
    } out;
    memset(arguments, 0xaa, sizeof arguments);
    memset(results, 0xbb, sizeof results);
    memset(&out, 0xcc, sizeof out);
    int error = reflect_signature(function, arguments, argument_limit, results, result_limit, &out.signature);
    print("%s: %d\n", what, error);
    print_bytes("   signature", &out, sizeof out);
    print_bytes("   arguments", arguments, sizeof arguments);
    print_bytes("   results", results, sizeof results);
}

void _start(void) {
    show("mixed", SLOT(mixed), 8, 8);
    show("as long as it is", SLOT(mixed), 4, 1);
    show("too short for the arguments", SLOT(mixed), 3, 1);
    show("too short for the results", SLOT(mixed), 4, 0);
    show("nothing", SLOT(nothing), 0, 0);
    u32 types = open("libtypes.so");
    show("every type", SLOT(find(types, "every")), 8, 8);
    show("a reference", SLOT(find(types, "reference")), 8, 8);

    u32 closure = 0;
    closure_allocate(&closure);
    show("a closure before it is prepared", closure, 8, 8);
    closure_prepare(SLOT(backing), closure, (const u8 *)"\4\1", 2, (const u8 *)"\4", 1, 0);
    show("a closure", closure, 8, 8);
    closure_prepare(SLOT(backing), closure, 0, 0, 0, 0, 0);
    show("a closure of another type", closure, 8, 8);

    show("null", 0, 8, 8);
    show("beyond the table", 1000000, 8, 8);
    struct signature signature;
    u8 list[8];
    print("no buffers: %d %d\n", reflect_signature(SLOT(nothing), 0, 0, 0, 0, &signature),
          reflect_signature(SLOT(mixed), 0, 0, 0, 0, &signature));
    print("outside: %d %d %d\n", reflect_signature(SLOT(mixed), OUTSIDE, 32, list, 8, &signature),
          reflect_signature(SLOT(mixed), list, 8, OUTSIDE, 32, &signature), reflect_signature(SLOT(mixed), list, 8, list, 8, OUTSIDE));
    proc_exit2(0);
}
