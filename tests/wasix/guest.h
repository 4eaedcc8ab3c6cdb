/* What the programs here share: lines on standard output, arguments, threads, and libraries by short words. Included once by each. */
#pragma once

#include "abi.h"

#define UNUSED __attribute__((unused))
#define HIDDEN __attribute__((visibility("hidden")))
#define LOAD(variable) __atomic_load_n(&(variable), __ATOMIC_SEQ_CST)
#define STORE(variable, value) __atomic_store_n(&(variable), (value), __ATOMIC_SEQ_CST)
#define ADD(variable, value) __atomic_add_fetch(&(variable), (value), __ATOMIC_SEQ_CST)
#define TEXT(literal) (literal), sizeof(literal) - 1
#define OUTSIDE ((void *)0xfffffff0) /* of every memory here */
#define SLOT(function) ((u32)(unsigned long)(function))

/* The compiler calls these. */
HIDDEN void *memset(void *to, int value, unsigned long count) {
    for (char *at = to; count--;)
        *at++ = (char)value;
    return to;
}

HIDDEN void *memcpy(void *to, const void *from, unsigned long count) {
    const char *source = from;
    for (char *at = to; count--;)
        *at++ = *source++;
    return to;
}

UNUSED static u32 length(const char *text) {
    u32 count = 0;
    while (text[count])
        count++;
    return count;
}

UNUSED static int equal(const char *one, const char *other) {
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

UNUSED static int contains(const char *text, const char *part) {
    for (; *text; text++) {
        u32 same = 0;
        while (part[same] && text[same] == part[same])
            same++;
        if (!part[same])
            return 1;
    }
    return 0;
}

/* Output */

struct line {
    char text[1024];
    u32 size;
};

static void put(struct line *line, char letter) {
    if (line->size < sizeof line->text)
        line->text[line->size++] = letter;
}

static void put_number(struct line *line, u64 value) {
    char digits[20];
    int count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count)
        put(line, digits[--count]);
}

/* Prints with one write, so that lines of threads do not mix: %d an int, %u an u64, %x an u32 in hexadecimal, %s a string. */
static void print(const char *format, ...) {
    struct line line = {.size = 0};
    __builtin_va_list list;
    __builtin_va_start(list, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(&line, *format);
            continue;
        }
        switch (*++format) {
        case 'd': {
            i64 value = __builtin_va_arg(list, int);
            if (value < 0)
                put(&line, '-');
            put_number(&line, (u64)(value < 0 ? -value : value));
            break;
        }
        case 'u':
            put_number(&line, __builtin_va_arg(list, u64));
            break;
        case 'x':
            for (u32 value = __builtin_va_arg(list, u32), shift = 32; shift; shift -= 4)
                put(&line, "0123456789abcdef"[value >> (shift - 4) & 15]);
            break;
        case 's':
            for (const char *text = __builtin_va_arg(list, const char *); *text; text++)
                put(&line, *text);
            break;
        }
    }
    __builtin_va_end(list);
    struct bytes all = {line.text, line.size};
    u32 written;
    fd_write(1, &all, 1, &written);
}

UNUSED static void print_bytes(const char *what, const void *data, u32 count) {
    struct line line = {.size = 0};
    for (u32 i = 0; i < count; i++) {
        put(&line, ' ');
        put(&line, "0123456789abcdef"[((const u8 *)data)[i] >> 4]);
        put(&line, "0123456789abcdef"[((const u8 *)data)[i] & 15]);
    }
    put(&line, 0);
    print("%s:%s\n", what, line.text);
}

/* Arguments */

UNUSED static const char *argument(u32 index) {
    static char buffer[256], *list[16];
    u32 count, size;
    if (args_sizes_get(&count, &size) || count > 16 || size > sizeof buffer || args_get(list, buffer))
        return "";
    return index < count ? list[index] : "";
}

UNUSED static int number(const char *text) {
    int value = 0;
    while (*text)
        value = value * 10 + *text++ - '0';
    return value;
}

/* Time */

UNUSED static u64 now(void) {
    u64 time = 0;
    clock_time_get(MONOTONIC, 1, &time);
    return time;
}

static const struct timeout forever UNUSED = {0, 0};

/* Waits, letting others run, until a counter has reached a value. */
UNUSED static void until(const u32 *counter, u32 value) {
    while (LOAD(*counter) < value)
        sched_yield();
}

/* Threads */

struct thread {
    char stack[32768] __attribute__((aligned(16)));
    char block[256] __attribute__((aligned(64)));
    struct thread_start start;
    u32 number;
};

#ifndef MOST_THREADS
#define MOST_THREADS 40
#endif
static struct thread threads[MOST_THREADS] UNUSED;

__asm__(".globaltype __stack_pointer, i32\n"
        ".functype __wasm_init_tls (i32) -> ()\n"
        ".functype begin (i32, i32) -> ()\n"
        ".globl wasi_thread_start\n"
        ".export_name wasi_thread_start, wasi_thread_start\n"
        ".section .text.wasi_thread_start,\"\",@\n"
        ".type wasi_thread_start,@function\n"
        "wasi_thread_start:\n"
        "    .functype wasi_thread_start (i32, i32) -> ()\n"
        "    local.get 1\n"
        "    i32.load 0\n"
        "    global.set __stack_pointer\n"
        "    local.get 1\n"
        "    i32.load 4\n"
        "    call __wasm_init_tls\n"
        "    local.get 0\n"
        "    local.get 1\n"
        "    call begin\n"
        "    end_function\n");

static u32 given_number_of_last UNUSED; /* that wasi_thread_start was called with */

HIDDEN void begin(int number, const struct thread_start *start) {
    STORE(given_number_of_last, (u32)number);
    start->function(start->argument);
}

/* Starts function(argument) on `thread`'s stack. */
UNUSED static int spawn(struct thread *thread, void (*function)(int), int argument) {
    thread->start = (struct thread_start){
        .stack = thread->stack + sizeof thread->stack,
        .thread_local_block = thread->block,
        .function = function,
        .argument = argument,
        .stack_size = sizeof thread->stack,
    };
    return thread_spawn_v2(&thread->start, &thread->number);
}

UNUSED static int join(const struct thread *thread) { return thread_join(thread->number); }

/* A word that threads wait at until it is 1. */
UNUSED static void wait_for(u32 *word) {
    u8 woken;
    while (!LOAD(*word))
        futex_wait(word, 0, &forever, &woken);
}

UNUSED static void release(u32 *word) {
    u8 woken;
    STORE(*word, 1);
    futex_wake_all(word, &woken);
}

/* Libraries */

static char message[1024]; /* of the last failure */

static u32 open_as(const char *name, u32 flags) {
    u32 handle = 0;
    int error = dlopen(name, length(name), flags, message, sizeof message, "", 0, &handle);
    if (error)
        print("cannot open %s: %d %s\n", name, error, message);
    return handle;
}

UNUSED static u32 open(const char *name) { return open_as(name, NOW); }
UNUSED static u32 open_for_all(const char *name) { return open_as(name, NOW | FOR_ALL); }

UNUSED static void *find(u32 handle, const char *name) {
    void *address = 0;
    int error = dlsym(handle, name, length(name), message, sizeof message, &address);
    if (error)
        print("cannot find %s: %d %s\n", name, error, message);
    return address;
}

/* Memory for the libraries that make thread-local blocks themselves. */
void *lend(u32 size) {
    static char arena[65536] __attribute__((aligned(64)));
    static u32 used;
    size = (size + 63) & ~63u;
    return arena + (ADD(used, size) - size);
}
