/* Times of a linker as a WASIX program sees them, by its own clock. The first argument is what to measure; see `ways` at the end.
   Every line of output is a JSON object with a list of samples: nanoseconds for so many operations, one after the other. */
#define MOST_THREADS 64
#include "guest.h"

enum { SAMPLES = 1000, LIBRARIES = 100, FUNCTIONS = 200 };

static u64 samples[SAMPLES];
static u32 taken;

static void sample(u64 nanoseconds) {
    if (taken < SAMPLES)
        samples[taken++] = nanoseconds;
}

/* Prints what was sampled, and forgets it. */
static void report(const char *what, int threads_then, int libraries_then, u32 operations) {
    print("{\"what\": \"%s\", \"threads\": %d, \"libraries\": %d, \"operations\": %u, \"samples\": [", what, threads_then, libraries_then,
          (u64)operations);
    for (u32 i = 0; i < taken; i++)
        print(i ? ", %u" : "%u", samples[i]);
    print("]}\n");
    taken = 0;
}

static int option(u32 index, int otherwise) {
    const char *text = argument(index);
    return *text ? number(text) : otherwise;
}

/* Other threads, and what they do meanwhile */

static u32 ready, stop;

static void yielding(int index) {
    ADD(ready, 1);
    while (!LOAD(stop))
        sched_yield();
}

static void blocked(int index) {
    ADD(ready, 1);
    wait_for(&stop);
}

static void locking(int index) { /* a call that takes wasmer's linker lock each time: there is no such symbol */
    void *address;
    ADD(ready, 1);
    while (!LOAD(stop))
        dlsym(MAIN, TEXT("absent"), 0, 0, &address);
}

static void computing(int index) {
    ADD(ready, 1);
    while (!LOAD(stop))
        ;
}

/* The second argument is how many, the third what they do. */
static int company(void) {
    static const struct {
        const char *name;
        void (*function)(int);
    } kinds[] = {{"yield", yielding}, {"futex", blocked}, {"lock", locking}, {"compute", computing}};
    int count = option(2, 0);
    for (u32 kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
        if (equal(argument(3), kinds[kind].name)) {
            for (int i = 0; i < count; i++)
                spawn(&threads[i], kinds[kind].function, i);
            until(&ready, (u32)count);
            return count;
        }
    return 0;
}

static void dismiss(int count) {
    release(&stop);
    for (int i = 0; i < count; i++)
        join(&threads[i]);
}

/* libsmall000.so and so on: one file by many names */
static const char *small(int index) {
    static char name[] = "libsmall000.so";
    name[8] = (char)('0' + index / 100);
    name[9] = (char)('0' + index / 10 % 10);
    name[10] = (char)('0' + index % 10);
    return name;
}

/* What is measured */

static void dlopen_(void) {
    int count = option(4, 40), others = company();
    u64 before = now();
    open(small(0));
    sample(now() - before);
    report("dlopen, first", others, 1, 1);
    for (int i = 1; i < count; i++) {
        before = now();
        open(small(i));
        sample(now() - before);
    }
    report("dlopen", others, count, 1);
    for (int i = 0; i < 200; i++) {
        before = now();
        open(small(1));
        sample(now() - before);
    }
    report("dlopen, already open", others, count, 1);
    dismiss(others);
}

static void dlsym_(void) {
    int others = company();
    u32 handle = open("libmany.so");
    char name[] = "f000";
    for (int i = 0; i < FUNCTIONS; i++) {
        name[1] = (char)('0' + i / 100);
        name[2] = (char)('0' + i / 10 % 10);
        name[3] = (char)('0' + i % 10);
        u64 before = now();
        find(handle, name);
        sample(now() - before);
    }
    report("dlsym, new function", others, 1, 1);
    enum { BATCH = 1000 };
    for (int i = 0; i < 20; i++) {
        u64 before = now();
        for (int j = 0; j < BATCH; j++)
            find(handle, "f007");
        sample(now() - before);
    }
    report("dlsym, known function", others, 1, BATCH);
    dismiss(others);
}

enum { CALLS = 100000, ROUNDS = 20 };

int callee(int x); /* of libcallee.so, which the program needs */
__attribute__((noinline)) static int own(int x) {
    __asm__ volatile("" : "+r"(x));
    return x + 1;
}

int program_callee(int x) { return x + 1; }

static void timed(const char *what, int (*loop)(int (*)(int), int), int (*function)(int)) {
    loop(function, CALLS);
    for (int i = 0; i < ROUNDS; i++) {
        u64 before = now();
        loop(function, CALLS);
        sample(now() - before);
    }
    report(what, 0, 1, CALLS);
}

static int loop_own(int (*function)(int), int count) {
    int x = 0;
    while (count--)
        x = own(x);
    return x;
}

static int loop_needed(int (*function)(int), int count) {
    int x = 0;
    while (count--)
        x = callee(x);
    return x;
}

static int loop_pointer(int (*function)(int), int count) {
    int (*volatile hidden)(int) = function, (*called)(int) = hidden;
    int x = 0;
    while (count--)
        x = called(x);
    return x;
}

static void calls(void) {
    u64 before = now();
    callee(1);
    sample(now() - before);
    report("call of a needed library, first", 0, 1, 1);
    u32 caller = open("libcaller.so");
    timed("call in the module", loop_own, 0);
    timed("call of a needed library", loop_needed, 0);
    timed("call of an earlier library", find(caller, "loop_callee"), 0);
    timed("call of the program from a library", find(caller, "loop_program"), 0);
    timed("call_indirect", loop_pointer, find(caller, "leaf"));
}

static void backing(u8 *arguments, u8 *results, void *environment) { memcpy(results, arguments, 4); }

#define HOST(what, batch, call)                                                                                                          \
    do {                                                                                                                                 \
        for (int i = 0; i < ROUNDS; i++) {                                                                                               \
            u64 before = now();                                                                                                          \
            for (int j = 0; j < (batch); j++)                                                                                            \
                call;                                                                                                                    \
            sample(now() - before);                                                                                                      \
        }                                                                                                                                \
        report(what, others, 1, batch);                                                                                                  \
    } while (0)

static void host(void) {
    int others = company();
    u32 value, handle = open("libcaller.so"), closure = 0;
    u64 time;
    u8 types[2], woken;
    struct signature signature;
    int one = 1, result;
    HOST("thread_id", 10000, thread_id(&value));
    HOST("sched_yield", 10000, sched_yield());
    HOST("clock_time_get", 10000, clock_time_get(MONOTONIC, 1, &time));
    HOST("dl_invalid_handle", 10000, dl_invalid_handle(handle));
    HOST("futex_wake of nobody", 10000, futex_wake(&value, &woken));
    HOST("call_dynamic", 10000, call_dynamic(SLOT(program_callee), &one, 4, &result, 4, 1));
    HOST("reflect_signature", 10000, reflect_signature(SLOT(program_callee), types, 2, types, 2, &signature));
    HOST("closure_allocate and free", 100, (closure_allocate(&value), closure_free(value)));
    closure_allocate(&closure);
    HOST("closure_prepare", 5, closure_prepare(SLOT(backing), closure, (const u8 *)"\0", 1, (const u8 *)"\0", 1, 0));
    dismiss(others);
    timed("closure call", loop_pointer, (int (*)(int))closure);
}

static void nothing(int index) {}

static void spawns(void) {
    int count = option(2, 0);
    for (int i = 0; i < count; i++)
        open(small(i));
    for (int i = 0; i < 100; i++) {
        u64 before = now();
        spawn(&threads[0], nothing, 0);
        join(&threads[0]);
        sample(now() - before);
    }
    report("spawn and join", 0, count, 1);
}

static const struct {
    const char *name;
    void (*measure)(void);
} ways[] = {
    {"dlopen", dlopen_}, /* threads, what they do, how many libraries */
    {"dlsym", dlsym_},   /* threads, what they do */
    {"calls", calls},
    {"host", host},    /* threads, what they do */
    {"spawn", spawns}, /* how many libraries */
};

void _start(void) {
    for (u32 i = 0; i < sizeof ways / sizeof *ways; i++)
        if (equal(argument(1), ways[i].name))
            ways[i].measure();
    proc_exit2(0);
}
