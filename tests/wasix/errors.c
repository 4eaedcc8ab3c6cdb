/* Error numbers, and what becomes of the buffer for the text. */
#include "guest.h"

enum { SIZE = 256 };

static char text[SIZE + 1];

static void fill(void) { memset(text, '#', SIZE); }

static int open_absent(void *buffer, u32 size) {
    u32 handle = 99;
    fill();
    int error = dlopen(TEXT("/lib/absent.so"), NOW, buffer, size, "", 0, &handle);
    return handle == 99 ? error : -1; /* the handle is not touched */
}

static int find_absent(u32 handle, void *buffer, u32 size) {
    void *address = &address;
    fill();
    int error = dlsym(handle, TEXT("absent"), buffer, size, &address);
    return address == &address ? error : -1;
}

/* A buffer of `size` bytes: what is written there, and that all of it is. */
static void cut(u32 size) {
    print("a buffer of %d: %d", size, open_absent(text, size));
    u32 written = 0;
    while (written < size && text[written])
        written++;
    print(", %d characters, %s, the rest is untouched: %d\n", written, written < size && !text[written] ? "terminated" : "open",
          text[size] == '#');
}

void _start(void) {
    u32 plain = open("libplain.so"), handle = 0;
    void *address = 0;

    print("no such library: %d\n", open_absent(text, SIZE));
    print("says which: %d\n", contains(text, "/lib/absent.so"));
    print("no such symbol: %d\n", find_absent(plain, text, SIZE));
    print("in the program: %d\n", find_absent(MAIN, text, SIZE));
    print("anywhere: %d\n", find_absent(EVERYWHERE, text, SIZE));
    print("by a bad handle: %d %d\n", find_absent(1000, text, SIZE), find_absent(NO_HANDLE, text, SIZE));
    print("no name: %d\n", dlsym(plain, "", 0, text, SIZE, &address));
    print("a name is what its length says: %d\n", dlsym(plain, TEXT("twice!") - 1, text, SIZE, &address));
    print("not less: %d\n", dlsym(plain, TEXT("twice\0"), text, SIZE, &address));

    cut(0);
    cut(1);
    cut(2);
    cut(10);
    print("no buffer: %d %d\n", open_absent(0, 0), find_absent(plain, 0, 0));
    print("a symbol's text is cut, too: %d", find_absent(plain, text, 10));
    print(" %d\n", length(text));

    print("not UTF-8: %d\n", dlopen(TEXT("\xff.so"), NOW, text, SIZE, "", 0, &handle));
    print("a path outside: %d\n", dlopen(OUTSIDE, 100, NOW, text, SIZE, "", 0, &handle));
    print("a library path outside: %d\n", dlopen(TEXT("absent.so"), NOW, text, SIZE, OUTSIDE, 100, &handle));
    print("a text outside: %d\n", open_absent(OUTSIDE, 100));
    print("a handle outside: %d\n", dlopen(TEXT("libplain.so"), NOW, text, SIZE, "", 0, OUTSIDE));
    print("a name outside: %d\n", dlsym(plain, OUTSIDE, 100, text, SIZE, &address));
    print("an address outside: %d\n", dlsym(plain, TEXT("twice"), text, SIZE, OUTSIDE));

    print("not a module: %d\n", dlopen(TEXT("libjunk.so"), NOW, text, SIZE, "", 0, &handle));
    print("an empty file: %d\n", dlopen(TEXT("libempty.so"), NOW, text, SIZE, "", 0, &handle));
    print("not a library: %d\n", dlopen(TEXT("libstatic.so"), NOW, text, SIZE, "", 0, &handle));
    print("a directory: %d\n", dlopen(TEXT("/lib"), NOW, text, SIZE, "", 0, &handle));
    print("needs what is not there: %d\n", dlopen(TEXT("libneeds.so"), NOW, text, SIZE, "", 0, &handle));
    print("says what: %d\n", contains(text, "libgone.so"));
    print("again: %d\n", dlopen(TEXT("libneeds.so"), NOW, text, SIZE, "", 0, &handle));
    static const u32 flags[] = {0, NOW | FOR_ALL, ~0u};
    for (int i = 0; i < 3; i++)
        print("any flags: %d\n", dlopen(TEXT("libplain.so"), flags[i], text, SIZE, "", 0, &handle));
    proc_exit2(0);
}
