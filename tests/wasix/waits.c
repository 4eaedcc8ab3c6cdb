/* Threads do something for long while another opens libraries and looks up functions. Argument: what. */
#include "guest.h"

enum { THREADS = 4, LIBRARIES = 4 };

static u32 word, ready, done;
static int (*found)(int);
static int wrong;

static void use(int index) {
    if (!LOAD(found) || found(index) != 2 * index)
        ADD(wrong, 1);
    ADD(done, 1);
}

static void in_futex(int index) {
    u8 woken;
    ADD(ready, 1);
    while (!LOAD(word))
        futex_wait(&word, 0, &forever, &woken);
    use(index);
}

static void with_time_outs(int index) {
    struct timeout some = {1, 1000000};
    u8 woken;
    ADD(ready, 1);
    while (!LOAD(word))
        futex_wait(&word, 0, &some, &woken);
    use(index);
}

static void asleep(int index) {
    ADD(ready, 1);
    while (!LOAD(word))
        thread_sleep(50000000);
    use(index);
}

static void yielding(int index) {
    ADD(ready, 1);
    while (!LOAD(word))
        sched_yield();
    use(index);
}

static void telling_time(int index) {
    ADD(ready, 1);
    while (!LOAD(word))
        now();
    use(index);
}

static void writing(int index) {
    struct bytes nothing = {"", 0};
    u32 written;
    ADD(ready, 1);
    while (!LOAD(word))
        fd_write(1, &nothing, 1, &written);
    use(index);
}

static void looking_up(int index) {
    void *address;
    ADD(ready, 1);
    while (!LOAD(word))
        dlsym(MAIN, TEXT("lend"), message, 0, &address);
    use(index);
}

static void joining(int index) {
    struct thread *other = &threads[THREADS + index];
    spawn(other, in_futex, index); /* which says that it is ready */
    join(other);
    use(index);
}

static void waking(int index) {
    u32 nobody = 0;
    u8 woken;
    ADD(ready, 1);
    while (!LOAD(word))
        futex_wake(&nobody, &woken);
    use(index);
}

/* wasmer does not open a library while a thread is in one of these. */

static void in_atomic_wait(int index) {
    ADD(ready, 1);
    while (!LOAD(word))
        __builtin_wasm_memory_atomic_wait32((int *)&word, 0, -1);
    use(index);
}

static void computing(int index) {
    ADD(ready, 1);
    while (!LOAD(word))
        ;
    use(index);
}

static void asking_who(int index) {
    u32 number;
    ADD(ready, 1);
    while (!LOAD(word))
        thread_id(&number);
    use(index);
}

static const struct {
    const char *name;
    void (*function)(int);
} ways[] = {
    {"futex", in_futex},       {"time-out", with_time_outs}, {"sleep", asleep},  {"yield", yielding},
    {"clock", telling_time},   {"write", writing},           {"dlsym", looking_up}, {"join", joining},
    {"wake", waking},          {"atomic", in_atomic_wait},   {"compute", computing}, {"id", asking_who},
};

void _start(void) {
    static const char *const names[LIBRARIES] = {"libplain1.so", "libplain2.so", "libplain3.so", "libplain4.so"};
    void (*way)(int) = 0;
    for (u32 i = 0; i < sizeof ways / sizeof *ways; i++)
        if (equal(argument(1), ways[i].name))
            way = ways[i].function;
    for (int i = 0; i < THREADS; i++)
        spawn(&threads[i], way, i);
    until(&ready, THREADS);
    int sum = 0;
    for (int i = 0; i < LIBRARIES; i++) {
        u32 handle = open(names[i]);
        sum += ((int (*)(int))find(handle, "thrice"))(i);
        STORE(found, (int (*)(int))find(handle, "twice"));
    }
    print("opened: %d\n", sum);
    release(&word);
    __builtin_wasm_memory_atomic_notify((int *)&word, ~0u);
    for (int i = 0; i < THREADS; i++)
        join(&threads[i]);
    print("used by %d, wrong %d\n", done, wrong);
    proc_exit2(0);
}
