/* primes.wasm: workers and a queue. Freestanding: what it needs of WASI it declares. */
#include "pthread.h"

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))
struct bytes {
    const char *text;
    unsigned length;
};
WASI(fd_write) int fd_write(int fd, const struct bytes *parts, int count, unsigned *written);
WASI(proc_exit) _Noreturn void proc_exit(int status);
void *dlopen(const char *name, int mode), *dlsym(void *library, const char *name);

enum { WORKERS = 4, RANGES = 10, RANGE = 10000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static int queue[RANGES], head, tail, is_closed; /* all with mutex */
static int (*count_primes)(int, int);            /* with opening */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local int mine; /* primes this thread has found */

/* Opens the library the first time. The function pointer is good in every thread. */
static int (*counter(void))(int, int) {
    pthread_mutex_lock(&opening);
    if (!count_primes) {
        void *library = dlopen("libcount.so", 2);
        if (!library) proc_exit(3);
        count_primes = (int (*)(int, int))dlsym(library, "count_primes");
    }
    int (*found)(int, int) = count_primes;
    pthread_mutex_unlock(&opening);
    return found;
}

/* The next range, or -1 when there will be none. */
static int take(void) {
    pthread_mutex_lock(&mutex);
    while (head == tail && !is_closed) pthread_cond_wait(&filled, &mutex);
    int range = head < tail ? queue[head++] : -1;
    pthread_mutex_unlock(&mutex);
    return range;
}

static void *work(void *unused) {
    (void)unused;
    for (int range; (range = take()) >= 0;) mine += counter()(range * RANGE, (range + 1) * RANGE);
    return (void *)mine;
}

static void say(const char *text) {
    struct bytes part = {text, 0};
    unsigned written;
    while (text[part.length]) part.length++;
    fd_write(1, &part, 1, &written);
}

static void say_number(int number) {
    char digits[12] = {0}, *first = digits + 11;
    do *--first = '0' + number % 10;
    while (number /= 10);
    say(first);
}

void _start(void) {
    pthread_t workers[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        if (pthread_create(&workers[i], 0, work, 0)) proc_exit(2);
    for (int i = 0; i < RANGES; i++) {
        pthread_mutex_lock(&mutex);
        queue[tail++] = i;
        pthread_mutex_unlock(&mutex);
        pthread_cond_signal(&filled);
    }
    pthread_mutex_lock(&mutex);
    is_closed = 1;
    pthread_mutex_unlock(&mutex);
    pthread_cond_broadcast(&filled);
    int total = 0;
    for (int i = 0; i < WORKERS; i++) {
        void *found;
        pthread_join(workers[i], &found);
        total += (int)found;
    }
    say_number(WORKERS);
    say(" workers, ");
    say_number(RANGES);
    say(" ranges: ");
    say_number(total);
    say(" primes below ");
    say_number(RANGES * RANGE);
    say("\n");
    proc_exit(0);
}
