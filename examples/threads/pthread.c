/* Threads of wasi-threads, and locks on memory.atomic.wait and notify. */
#include "pthread.h"

enum { THREADS = 16, STACK = 65536, EAGAIN = 11 };

struct pthread {
    void *stack; /* its end, for stacks grow down; the assembly below reads it */
    void *(*function)(void *);
    void *argument;
    void *result;
    int is_running; /* 1 until it has returned; joiners wait for it here */
    int is_used;
};

__attribute__((import_module("wasi"), import_name("thread-spawn"))) int thread_spawn(struct pthread *thread);

static struct pthread threads[THREADS];
static char stacks[THREADS][STACK] __attribute__((aligned(16)));

/* A new thread begins here, (number, argument), without a stack. */
__asm__(".globaltype __stack_pointer, i32\n"
        ".functype begin (i32) -> ()\n"
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
        "    call begin\n"
        "    end_function\n");

static void wait_while(int *word, int value) {
    __builtin_wasm_memory_atomic_wait32(word, value, -1);
}

static void wake(int *word, unsigned count) {
    __builtin_wasm_memory_atomic_notify(word, count);
}

void begin(struct pthread *thread) {
    thread->result = thread->function(thread->argument);
    __atomic_store_n(&thread->is_running, 0, __ATOMIC_SEQ_CST);
    wake(&thread->is_running, -1u);
}

int pthread_create(pthread_t *created, const pthread_attr_t *attributes, void *(*function)(void *), void *argument) {
    (void)attributes;
    for (int i = 0; i < THREADS; i++) {
        struct pthread *thread = &threads[i];
        if (__atomic_exchange_n(&thread->is_used, 1, __ATOMIC_SEQ_CST)) continue;
        thread->stack = stacks[i] + STACK;
        thread->function = function;
        thread->argument = argument;
        thread->is_running = 1;
        if (thread_spawn(thread) < 0) {
            __atomic_store_n(&thread->is_used, 0, __ATOMIC_SEQ_CST);
            return EAGAIN;
        }
        *created = thread;
        return 0;
    }
    return EAGAIN;
}

/* Its place is free from then on. The last instructions of a thread use no stack but `begin`'s, which it has left when it says so. */
int pthread_join(pthread_t thread, void **result) {
    while (__atomic_load_n(&thread->is_running, __ATOMIC_SEQ_CST)) wait_while(&thread->is_running, 1);
    if (result) *result = thread->result;
    __atomic_store_n(&thread->is_used, 0, __ATOMIC_SEQ_CST);
    return 0;
}

int pthread_mutex_lock(pthread_mutex_t *mutex) {
    int seen = 0;
    if (__atomic_compare_exchange_n(&mutex->state, &seen, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return 0;
    while (__atomic_exchange_n(&mutex->state, 2, __ATOMIC_SEQ_CST)) wait_while(&mutex->state, 2);
    return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex) {
    if (__atomic_exchange_n(&mutex->state, 0, __ATOMIC_SEQ_CST) == 2) wake(&mutex->state, 1);
    return 0;
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    int sequence = __atomic_load_n(&condition->sequence, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(mutex);
    wait_while(&condition->sequence, sequence);
    return pthread_mutex_lock(mutex);
}

int pthread_cond_signal(pthread_cond_t *condition) {
    __atomic_fetch_add(&condition->sequence, 1, __ATOMIC_SEQ_CST);
    wake(&condition->sequence, 1);
    return 0;
}

int pthread_cond_broadcast(pthread_cond_t *condition) {
    __atomic_fetch_add(&condition->sequence, 1, __ATOMIC_SEQ_CST);
    wake(&condition->sequence, -1u);
    return 0;
}
