#include "thrown.h"

Base::~Base() {}
Derived::~Derived() {}

int destroyed;

namespace {
struct Guard {
    volatile int here[16];
    ~Guard() { destroyed++; }
};
} // namespace

extern "C" int toss(int kind, int code) {
    switch (kind) {
    case INT:
        throw code;
    case BASE:
        throw Base(code);
    case DERIVED:
        throw Derived(code);
    case OTHER:
        throw Other{code};
    }
    return code;
}

extern "C" int through(int (*f)(int), int x) {
    Guard guard;
    return f(x);
}

extern "C" int raise_int(int code) { throw code; }
