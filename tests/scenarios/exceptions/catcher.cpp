#include "thrown.h"

template <typename F> static int caught(F call) {
    try {
        return call();
    } catch (int code) {
        return INT * 1000 + code;
    } catch (const Base &base) {
        return BASE * 1000 + base.code;
    } catch (...) {
        return OTHER * 1000;
    }
}

extern "C" int catching(int kind, int code) {
    return caught([=] { return toss(kind, code); });
}

extern "C" int catching_call(int (*f)(int), int x) {
    return caught([=] { return f(x); });
}

extern "C" int catching_through(int (*f)(int), int x) {
    return caught([=] { return through(f, x); });
}

/* Catches, and throws the same on. */
extern "C" int rethrowing(int kind, int code) {
    try {
        return toss(kind, code);
    } catch (Base &base) {
        base.code++;
        throw;
    }
}

/* Where the stack pointer is, from a frame that does not change with what was called before. */
extern "C" __attribute__((noinline)) int stack_now(void) {
    volatile char here[16];
    volatile char *volatile escape = here;
    return (int)(unsigned long)escape;
}

extern "C" int stack_kept(int times) {
    int before = stack_now(), bad = 0;
    for (int i = 0; i < times; i++) {
        catching(1 + i % 4, i);
        bad += stack_now() != before;
    }
    return bad;
}
