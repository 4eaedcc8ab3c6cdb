#include <cstdio>

extern "C" {
#include "guest_dlfcn.h"
}
#include "thrown.h"

extern "C" {
int raise_in_main(int code) { throw Derived(code); }
int catch_in_main(int (*f)(int), int x) {
    try {
        return f(x);
    } catch (int code) {
        return code;
    }
}
}

/* A constructor of the library throws: that is no business of who opens it. */
extern "C" int opens(const char *name) {
    try {
        return dlopen(name, 2) != nullptr;
    } catch (...) {
        return -1;
    }
}

int main() {
    try {
        toss(DERIVED, 1);
    } catch (const Base &base) {
        printf("main caught %d\n", base.code);
    }
    auto opened = dlopen("libcatcher.so", 2);
    if (!opened)
        return 1;
    auto catching = (int (*)(int, int))dlsym(opened, "catching");
    auto catching_call = (int (*)(int (*)(int), int))dlsym(opened, "catching_call");
    auto rethrowing = (int (*)(int, int))dlsym(opened, "rethrowing");
    for (int kind = NOTHING; kind <= OTHER; kind++)
        printf("library caught %d\n", catching(kind, 7));
    printf("library caught %d from main\n", catching_call(raise_in_main, 8));
    try {
        rethrowing(DERIVED, 9);
    } catch (const Derived &derived) {
        printf("main caught %d again\n", derived.code);
    }
    int before = destroyed;
    try {
        through(raise_in_main, 10);
    } catch (const Base &base) {
        printf("main caught %d, %d destroyed\n", base.code, destroyed - before);
    }
    return 0;
}
