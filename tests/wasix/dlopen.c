/* Libraries, handles and symbols. */
#include "guest.h"

int program_value = 1000;
int program_function(int x) { return x + 1; }

void _start(void) {
    u32 plain = open_for_all("libplain.so");
    int (*twice)(int) = find(plain, "twice");
    print("a function: %d\n", twice(21));
    print("a value: %d\n", *(int *)find(plain, "value"));
    print("the same again: %d %d\n", find(plain, "twice") == (void *)twice, find(plain, "value") == find(plain, "value"));
    print("opened again: %d\n", open("libplain.so") == plain);
    print("constructed: %d\n", ((int (*)(void))find(plain, "constructions"))());

    u32 top = open("libtop.so");
    print("another handle: %d\n", top != plain && top > MAIN && plain > MAIN);
    print("needs another: %d\n", ((int (*)(int))find(top, "top"))(2));
    print("and the program: %d\n", ((int (*)(int))find(top, "through_program"))(3));
    u32 base = open("libbase.so");
    print("what was needed: %d\n", base != top && base != plain);
    print("its data: %d\n", ((int *(*)(void))find(top, "base_address"))() == find(base, "base_value"));
    void *address = 0;
    print("by the library that needs it: %d\n", dlsym(top, TEXT("base"), message, sizeof message, &address));

    u32 handle = 0;
    print("the program: %d", dlopen(0, 0, 0, message, sizeof message, 0, 0, &handle));
    print(" %d\n", handle == MAIN);
    print("its function: %d\n", ((int (*)(int))find(MAIN, "program_function"))(1));
    print("its value: %d\n", find(MAIN, "program_value") == &program_value);
    print("not its own: %d\n", dlsym(MAIN, TEXT("twice"), message, sizeof message, &address));
    print("everywhere: %d %d\n", ((int (*)(int))find(EVERYWHERE, "thrice"))(3), *(int *)find(EVERYWHERE, "program_value"));

    print("valid: %d %d %d\n", dl_invalid_handle(plain), dl_invalid_handle(top), dl_invalid_handle(base));
    print("invalid: %d %d %d\n", dl_invalid_handle(EVERYWHERE), dl_invalid_handle(NO_HANDLE), dl_invalid_handle(1000));
    print("the program's: %d\n", dl_invalid_handle(MAIN));
    proc_exit2(0);
}
