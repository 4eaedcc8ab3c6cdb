/* The wording of errors. A program should not depend on it; it is here to be read. */
#include "guest.h"

static void absent(const char *name, const char *library_path) {
    u32 handle;
    print("%d ", dlopen(name, length(name), NOW, message, sizeof message, library_path, length(library_path), &handle));
    print("%s\n", message);
}

void _start(void) {
    absent("absent.so", "");
    absent("absent.so", "/one:/two");
    absent("/lib/absent.so", "");
    absent("lib/absent.so", "");
    absent("libdata.so", "");
    absent("libpointer.so", "");
    absent("libstatic.so", "");
    find(open("libplain.so"), "absent");
    find(1000, "absent");
    proc_exit2(0);
}
