/* Libraries that lack something. */
#include "guest.h"

static void attempt(const char *name, const char *symbol) {
    u32 handle = 0;
    message[0] = 0;
    int error = dlopen(name, length(name), NOW, message, sizeof message, "", 0, &handle);
    print("%s: %d, says which: %d\n", name, error, contains(message, symbol));
    error = dlopen(name, length(name), NOW, message, sizeof message, "", 0, &handle);
    print("%s again: %d\n", name, error);
}

void _start(void) {
    attempt("libdata.so", "absent_data");
    attempt("libpointer.so", "absent_function");
    u32 function = open("libfunction.so");
    print("a function may be missing until it is called: %d\n", ((int (*)(void))find(function, "present"))());
    print("weak ones are null: %d\n", ((int (*)(void))find(open("libweak.so"), "get"))());
    proc_exit2(0);
}
