/* A freestanding program with threads, whose every thread throws and catches, and makes closures of what throws. */
#include "thrown.h"

typedef unsigned int u32;
typedef unsigned char u8;

#define WASIX(symbol) __attribute__((import_module("wasix_32v1"), import_name(#symbol)))

extern "C" {
WASIX(closure_allocate) int closure_allocate(u32 *slot);
WASIX(closure_prepare)
int closure_prepare(u32 backing, u32 slot, const u8 *arguments, u32 count, const u8 *results, u32 result_count, void *environment);
WASIX(call_dynamic)
int call_dynamic(u32 function, const void *values, u32 size, void *results, u32 results_size, u32 strict);
WASIX(callback_signal) void callback_signal(const char *name, u32 length);
WASIX(thread_signal) int thread_signal(u32 thread, int signal);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("sched_yield"))) int yield(void);

/* What the runtime wants of a libc. */
static char heap[1 << 20] __attribute__((aligned(16)));
static u32 used;
void *malloc(unsigned long size) {
    u32 at = __atomic_fetch_add(&used, (size + 15) & ~15ul, __ATOMIC_SEQ_CST);
    return at + size > sizeof heap ? nullptr : heap + at;
}
void *aligned_alloc(unsigned long, unsigned long size) { return malloc(size); }
void free(void *) {}
_Noreturn void abort() { __builtin_trap(); }
void *memset(void *at, int value, unsigned long size) {
    for (unsigned long i = 0; i < size; i++)
        ((volatile char *)at)[i] = (char)value;
    return at;
}
unsigned long strlen(const char *text) {
    unsigned long size = 0;
    while (((const volatile char *)text)[size])
        size++;
    return size;
}
int strcmp(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return (u8)*a - (u8)*b;
}

int running, stop, turns;
thread_local int mine = 100;

/* Throws and catches `times` times, of every kind, what differs from thread to thread; how often that went wrong. */
int work(int index, int times) {
    int bad = 0;
    __atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < times; i++) {
        int code = index * 100 + i % 100;
        bad += catching(NOTHING, code) != code;
        bad += catching(INT, code) != INT * 1000 + code;
        bad += catching(DERIVED, code) != BASE * 1000 + code;
        bad += catching(OTHER, code) != OTHER * 1000;
        try {
            toss(DERIVED, code);
            bad++;
        } catch (Base &base) {
            bad += base.code != code;
        }
        yield();
    }
    bad += mine++ != 100;
    return bad;
}

/* Throws and catches until it is told to stop, within the program; what comes then is from libraries that were opened since. */
int work_on(int index) {
    int bad = 0;
    __atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        try {
            toss(INT, index);
        } catch (int code) {
            bad += code != index;
        }
        __atomic_add_fetch(&turns, 1, __ATOMIC_SEQ_CST);
        yield();
    }
    return bad + work(index, 20);
}

int call_and_catch(int (*f)(int), int x) { return catching_call(f, x); }

int throw_up(int x) { throw x; }

static void backing(int *arguments, int *results, void *environment) { throw *arguments + *(int *)environment; }

/* A closure whose function throws: it comes out of the closure as out of any function. */
u32 throwing_closure(void) {
    static int bias = 1000;
    u32 slot = 0;
    if (closure_allocate(&slot) || closure_prepare((u32)(unsigned long)(void *)backing, slot, (const u8 *)"", 1, (const u8 *)"", 1, &bias))
        return 0;
    return slot;
}

/* 10 with what was caught. */
int catch_through_call_dynamic(int x) {
    try {
        int result = 0;
        return call_dynamic((u32)(unsigned long)(void *)throw_up, &x, 4, &result, 4, 1);
    } catch (int code) {
        return 10 + code;
    }
}

/* A handler of signals that throws, at whoever signals himself. */
void on_signal(int signal) { throw signal; }
int catch_from_handler(void) {
    callback_signal("on_signal", 9);
    try {
        return thread_signal(1, 10);
    } catch (...) {
        return -1;
    }
}

void _start(void) {}
}
