/* A toolbox of threads. Python calls its functions on threads of the guest and talks to them through the counters below;
   run as a program, the first argument says what it does (see _start). */
#include "threads.h"

int running, done, stop; /* how many works have begun and ended; that the endless ones shall end */
int constructions;       /* counted by the constructors of the libraries */
int in_constructor, leave_constructor, trap_in_constructor, nested;

_Thread_local int mine = 7;
_Thread_local char wide[32] __attribute__((aligned(64))) = "wide";

/* Where a thread is */

int add_tls(int x) { return mine += x; }
int *tls_address(void) { return &mine; }
int tls_plus(int x) { return (int)(unsigned long)&mine + x; }
int wide_is_right(void) { return wide[0] == 'w' && wide[3] == 'e' && wide[4] == 0 && (unsigned long)wide % 64 == 0; }
int put_mine(int x) { return mine = x, wide[5] = (char)x, mine; }

__attribute__((noinline)) int stack_address(void) {
    volatile char here[16];
    volatile char *volatile escape = here;
    return (int)(unsigned long)escape;
}

/* Fills its frames with `value`, lets others run, and tells how many it found changed. */
__attribute__((noinline)) int recurse(int depth, int value) {
    volatile int frame[256];
    int bad = 0;
    for (int i = 0; i < 256; i++)
        frame[i] = value + depth;
    if (depth % 8 == 0)
        yield();
    if (depth)
        bad = recurse(depth - 1, value);
    for (int i = 0; i < 256; i++)
        bad += frame[i] != value + depth;
    return bad;
}

/* Time */

struct subscription {
    u64 userdata;
    u8 tag, pad[7];
    u32 clock;
    u64 timeout, precision;
    u16 flags;
};
struct event {
    u64 userdata;
    u16 error;
    u8 type;
    u64 bytes;
    u16 flags;
};

_Static_assert(sizeof(struct subscription) == 48 && sizeof(struct event) == 32, "as WASI has them");

int sleep_for(u64 nanoseconds) {
    struct subscription subscription = {.userdata = 77, .clock = 1, .timeout = nanoseconds};
    struct event event = {.error = 1, .type = 1};
    u32 happened = 0;
    int error = poll_oneoff(&subscription, &event, 1, &happened);
    return error ? -error : happened == 1 && event.userdata == 77 && event.error == 0 && event.type == 0 ? 0 : 1;
}

int sleep_ms(int milliseconds) { return sleep_for(milliseconds * 1000000ull); }

/* Waits for the earliest of `count` clocks of 1 to `count` times `step` ms, given latest first; the userdata of what happened. */
int earliest(int count, int step) {
    struct subscription list[8] = {0};
    struct event events[8] = {0};
    u32 happened = 0;
    for (int i = 0; i < count; i++) {
        list[i].userdata = 1000 + i;
        list[i].clock = 1;
        list[i].timeout = (u64)(count - i) * step * 1000000;
    }
    if (poll_oneoff(list, events, count, &happened) || happened != 1 || events[0].error || events[0].type)
        return -1;
    return (int)events[0].userdata;
}

/* Waits for `count` clocks at once, all of the same time; how many happened, each with its own userdata, no error, type clock. */
int together(int count, int milliseconds) {
    struct subscription list[8] = {0};
    struct event events[8] = {0};
    u32 happened = 0, seen = 0;
    for (int i = 0; i < count; i++) {
        list[i].userdata = 0x100000000ull + i;
        list[i].clock = 1;
        list[i].timeout = milliseconds * 1000000ull;
    }
    if (poll_oneoff(list, events, count, &happened))
        return -1;
    for (u32 i = 0; i < happened; i++) {
        if (events[i].error || events[i].type || events[i].userdata >> 32 != 1)
            return -2;
        seen |= 1u << (events[i].userdata & 7);
    }
    return (int)(seen + (happened << 8));
}

/* What a thread can do */

enum kind { RETURN, YIELD, NAP, SLEEP, COMPUTE, TRAP, EXIT, READ, SERVE, WAIT };

int answers[64];
function mail[64]; /* a function pointer for the thread of that index */
int letters;
int progress[64];
int futex;

/* Calls every function pointer that is put into its box. */
static void serve(int index) {
    while (!LOAD(stop)) {
        function fresh = LOAD(mail[index]);
        if (fresh) {
            STORE(answers[index], fresh(100 + index));
            STORE(mail[index], (function)0);
            ADD(letters, 1);
        }
        yield();
    }
}

int work(int kind, int index) {
    char buffer[16];
    struct bytes into = {buffer, sizeof buffer};
    u32 count = 0;
    ADD(running, 1);
    switch (kind) {
    case YIELD:
        while (!LOAD(stop)) {
            ADD(progress[index], 1);
            yield();
        }
        break;
    case NAP:
        while (!LOAD(stop)) {
            ADD(progress[index], 1);
            sleep_ms(5);
        }
        break;
    case SLEEP:
        while (!LOAD(stop))
            sleep_ms(1000 * 1000);
        break;
    case COMPUTE:
        while (!LOAD(stop))
            ADD(progress[index], 1);
        break;
    case TRAP:
        __builtin_trap();
    case EXIT:
        proc_exit(40 + index);
    case READ:
        if (fd_read(0, &into, 1, &count))
            return -1;
        ADD(done, 1);
        return (int)count;
    case SERVE:
        serve(index);
        break;
    case WAIT:
        while (!LOAD(stop))
            __builtin_wasm_memory_atomic_wait32(&futex, 0, -1);
        break;
    }
    ADD(done, 1);
    return index;
}

int wake(void) { return (int)__builtin_wasm_memory_atomic_notify(&futex, 1000); }
int call(function pointer, int x) { return pointer(x); }
int call_after_stop(function pointer, int x) {
    ADD(running, 1);
    while (!LOAD(stop))
        yield();
    return pointer(x);
}
int compute_and_call(function pointer, int x) {
    ADD(running, 1);
    while (!LOAD(stop))
        ;
    return pointer(x);
}
int nothing(void) { return 0; }

/* dlfcn.h; a failure says so to whoever asks next */

char message[256];

static void *remember(void *result) {
    char *text = result ? 0 : dlerror();
    for (int i = 0; text && i < 255 && (message[i] = text[i]); i++)
        ;
    return result;
}

void *open_library(const char *name, int flags) { return remember(dlopen(name, flags)); }
void *symbol(void *handle, const char *name) { return remember(dlsym(handle, name)); }
int close_library(void *handle) { return dlclose(handle); }

/* The same, by as many threads at once as are told to. */
void *open_after_stop(const char *name, int flags) {
    ADD(running, 1);
    while (!LOAD(stop))
        yield();
    return remember(dlopen(name, flags));
}

/* Fails to open a library that nobody else fails to open, and looks for its name in what dlerror says after all have failed. */
int own_error(int index) {
    char name[] = "nowhere??.so";
    name[7] = (char)('a' + index / 8);
    name[8] = (char)('a' + index % 8);
    if (dlopen(name, 2))
        return -1;
    ADD(running, 1);
    while (!LOAD(stop))
        yield();
    char *text = dlerror();
    for (; text && *text; text++) {
        int i = 0;
        while (name[i] && text[i] == name[i])
            i++;
        if (!name[i])
            return 1;
    }
    return 0;
}

/* Opens a library, calls a function of it, and closes it again, `times` times; how often that went wrong. */
int reopen(const char *name, const char *what, int expected, int times) {
    int bad = 0;
    ADD(running, 1);
    for (int i = 0; i < times; i++) {
        void *handle = dlopen(name, 2);
        function pointer = handle ? (function)dlsym(handle, what) : 0;
        bad += !pointer || pointer(21) != expected;
        bad += !handle || dlclose(handle) != 0;
    }
    return bad;
}

/* Threads of the guest's own. A start structure begins with the stack, as wasi-libc's does, then the thread-local block. */

struct start {
    void *stack, *block;
    int index, kind;
};
static struct start starts[64];
static char stacks[64][8192] __attribute__((aligned(16)));
static char blocks[64][256] __attribute__((aligned(64)));
int tids[64], told[64], stack_of[64], tls_of[64], tls_at[64], symbol_at[64];

void __wasm_init_tls(void *block);

void thread_body(int tid, struct start *start) {
    int index = start->index;
    if (start->block)
        __wasm_init_tls(start->block);
    tls_of[index] = mine;
    mine += index + 1;
    tids[index] = tid;
    stack_of[index] = stack_address();
    tls_at[index] = (int)(unsigned long)&mine;
    symbol_at[index] = (int)(unsigned long)dlsym(0, "mine");
    work(start->kind, index);
}

__asm__(".globaltype __stack_pointer, i32\n"
        ".functype thread_body (i32, i32) -> ()\n"
        ".globl wasi_thread_start\n"
        ".type wasi_thread_start,@function\n"
        "wasi_thread_start:\n"
        "  .functype wasi_thread_start (i32, i32) -> ()\n"
        "  local.get 1\n"
        "  i32.load 0\n"
        "  global.set __stack_pointer\n"
        "  local.get 0\n"
        "  local.get 1\n"
        "  call thread_body\n"
        "  end_function\n"
        ".export_name wasi_thread_start, wasi_thread_start\n");

/* Starts threads with the indices from `first`; how many there are. */
int start_threads(int first, int count, int kind, int own_block) {
    int started = 0;
    for (int i = first; i < first + count; i++) {
        starts[i] = (struct start){stacks[i] + sizeof stacks[i], own_block ? blocks[i] : 0, i, kind};
        told[i] = thread_spawn(&starts[i]);
        started += told[i] > 0;
    }
    return started;
}

static void wait_for(int *counter, int value) {
    while (LOAD(*counter) < value)
        yield();
}

int finish(int count) {
    STORE(stop, 1);
    wait_for(&done, count);
    return done;
}

/* A board of function pointers that threads offer to each other. Whoever offers one keeps its library open until nobody is in
   a call of it any more. */

static struct {
    function pointer;
    int users, expected;
} board[16];

int offer(int place, function pointer, int expected) {
    board[place].expected = expected;
    STORE(board[place].pointer, pointer);
    return 0;
}

int withdraw(int place) {
    STORE(board[place].pointer, (function)0);
    while (LOAD(board[place].users))
        yield();
    return 0;
}

/* 0 if the pointer did what was promised, 1 if there was none, else what it answered. */
int call_offer(int place) {
    int result = 1;
    ADD(board[place].users, 1);
    function pointer = LOAD(board[place].pointer);
    if (pointer) {
        int got = pointer(1000);
        result = got == board[place].expected ? 0 : got;
    }
    ADD(board[place].users, -1);
    return result;
}

/* Looks at random places and calls what is there; how many calls there were, or minus how many went wrong. */
int browse(u32 seed, int times, int yields) {
    int good = 0, bad = 0;
    for (int i = 0; i < times; i++) {
        seed = seed * 1664525 + 1013904223;
        int result = call_offer((int)(seed >> 28));
        good += result == 0;
        bad += result != 0 && result != 1;
        if (yields && (seed >> 16) % 4 == 0)
            yield();
    }
    return bad ? -bad : good;
}

/* Opens a library, offers a function of it for so many turns, and closes it; 0 if all went well. */
int present(const char *name, const char *what, int expected, int place, int turns) {
    void *handle = dlopen(name, 1);
    function pointer = handle ? (function)dlsym(handle, what) : 0;
    if (!pointer)
        return 1;
    offer(place, pointer, expected);
    int bad = 0;
    while (turns--) {
        bad += pointer(1000) != expected;
        yield();
    }
    withdraw(place);
    return bad + 2 * (dlclose(handle) != 0);
}

/* Files and lines */

static u32 length(const char *text) {
    u32 size = 0;
    while (text[size])
        size++;
    return size;
}

int open_file(const char *path) {
    int fd = -1;
    int error = path_open(3, 0, path, (int)length(path), 1 /* create */, 0x6e /* read, seek, tell, write */, 0, 0, &fd);
    return error ? -error : fd;
}

int put(int fd, const char *text) {
    struct bytes from = {text, length(text)};
    u32 count = 0;
    int error = fd_write(fd, &from, 1, &count);
    return error ? -error : (int)count;
}

char taken[64];
int take(int fd) {
    struct bytes into = {taken, sizeof taken - 1};
    u32 count = 0;
    int error = fd_read(fd, &into, 1, &count);
    taken[error ? 0 : count] = 0;
    return error ? -error : (int)count;
}
int rewind_file(int fd) {
    u64 position;
    return -fd_seek(fd, 0, 0, &position);
}
int close_file(int fd) { return -fd_close(fd); }

/* Writes `count` lines of 32 bytes; how many were not written whole. */
int write_lines(int index, int count) {
    int bad = 0;
    char line[32];
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < 31; k++)
            line[k] = (char)('a' + index);
        line[0] = (char)('0' + i / 1000 % 10);
        line[1] = (char)('0' + i / 100 % 10);
        line[2] = (char)('0' + i / 10 % 10);
        line[3] = (char)('0' + i % 10);
        line[31] = '\n';
        struct bytes all = {line, 32}; /* one piece: wasmtime writes no more than the first */
        u32 written = 0;
        bad += fd_write(1, &all, 1, &written) || written != 32;
    }
    return bad;
}

/* As a program: `MODE [COUNT]` */

static char *arguments[8], texts[256];

static int is(const char *text, const char *other) {
    while (*text && *text == *other)
        text++, other++;
    return *text == *other;
}

static void ready(int count) {
    wait_for(&running, count);
    put(1, "ready\n");
}

void _start(void) {
    u32 argc = 0, size = 0;
    args_sizes_get(&argc, &size);
    if (argc > 8 || size > sizeof texts || args_get(arguments, texts))
        proc_exit(99);
    const char *mode = argc > 1 ? arguments[1] : "";
    int count = argc > 2 ? arguments[2][0] - '0' : 0;

    if (is(mode, "status"))
        proc_exit(count);
    if (is(mode, "records")) {
        start_threads(0, count, RETURN, 0);
        wait_for(&done, count);
        return;
    }
    if (is(mode, "exit")) { /* another thread exits; this one would never */
        start_threads(0, count, YIELD, 0);
        ready(count);
        start_threads(count, 1, EXIT, 0);
        work(COMPUTE, 63);
    }
    if (is(mode, "trap")) {
        start_threads(0, count, NAP, 0);
        ready(count);
        start_threads(count, 1, TRAP, 0);
        work(COMPUTE, 63);
    }
    if (is(mode, "main-traps")) {
        start_threads(0, count, COMPUTE, 0);
        ready(count);
        __builtin_trap();
    }
    if (is(mode, "return") || is(mode, "main-exits")) {
        start_threads(0, count, COMPUTE, 0);
        start_threads(count, count, SLEEP, 0);
        start_threads(2 * count, count, YIELD, 0);
        ready(3 * count);
        if (is(mode, "main-exits"))
            proc_exit(23);
        return;
    }
    if (is(mode, "compute")) {
        start_threads(0, count, COMPUTE, 0);
        ready(count);
        work(COMPUTE, 63);
    }
    if (is(mode, "sleep")) {
        start_threads(0, count, SLEEP, 0);
        ready(count);
        work(SLEEP, 63);
    }
    if (is(mode, "yield")) {
        start_threads(0, count, YIELD, 0);
        ready(count);
        work(YIELD, 63);
    }
    if (is(mode, "stdin")) {
        start_threads(0, count, READ, 0);
        ready(count);
        work(READ, 63);
    }
    if (is(mode, "rendezvous")) { /* waits for a thread that does not come */
        start_threads(0, 1, COMPUTE, 0);
        ready(1);
        dlopen("libtwice.so", 2);
        proc_exit(98);
    }
    proc_exit(97);
}
