/* What the modules of this scenario throw at each other. */
#pragma once

struct Base {
    int code;
    explicit Base(int code) : code(code) {}
    Base(const Base &other) = default;
    virtual ~Base(); /* in the thrower: the type's information is there, and only there */
};
struct Derived : Base {
    explicit Derived(int code) : Base(code) {}
    ~Derived() override;
};
struct Other {
    int code;
};

enum kind { NOTHING, INT, BASE, DERIVED, OTHER };

extern "C" {
int toss(int kind, int code);       /* the thrower's: throws, or returns code */
int through(int (*f)(int), int x);   /* the thrower's: calls f with an object on the stack */
extern int destroyed;                /* the thrower's: how many such objects were destroyed */
int catching(int kind, int code);    /* the catcher's: who caught what, as CAUGHT * 1000 + code */
int catching_call(int (*f)(int), int x);
}
