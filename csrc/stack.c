/* Discipline: all state is thread-local, except for the key, which is written once. */
#if defined(__linux__)
#define _GNU_SOURCE /* pthread_getattr_np */
#elif !defined(__APPLE__)
#define _XOPEN_SOURCE 700 /* sigaltstack */
#endif
#include "stack.h"

#include "api_table.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define UNREAD (UINTPTR_MAX - PL_STACK_WHOLE) /* so that no sum with it overflows */

_Thread_local uintptr_t pl_stack_end = UNREAD;

static const char refusal[] = "the stack of this thread is too small to enter a guest";

const char *pl_stack_refusal(void) { return refusal; }

/* Reads the stack of the calling thread, [low, high), without its guard. Returns 0, or -1 if
 * unknown. */
#if defined(__APPLE__)
static int bounds(uintptr_t *low, uintptr_t *high) {
    pthread_t self = pthread_self();
    size_t size = pthread_get_stacksize_np(self);
    struct rlimit limit;
    if (pthread_main_np() && getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur > size) {
        /* some releases report 512 KiB */
        size = limit.rlim_cur > (1 << 30) ? (1 << 30) : (size_t)limit.rlim_cur;
    }
    *high = (uintptr_t)pthread_get_stackaddr_np(self);
    *low = *high - size;
    return 0;
}
#elif defined(__linux__)
static int bounds(uintptr_t *low, uintptr_t *high) {
    pthread_attr_t attributes;
    void *start;
    size_t size, guard = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return -1;
    }
    int failed = pthread_attr_getstack(&attributes, &start, &size);
    pthread_attr_getguardsize(&attributes, &guard);
    pthread_attr_destroy(&attributes);
    if (failed) {
        return -1;
    }
    *low = (uintptr_t)start + guard; /* glibc counts the guard as part of the stack */
    *high = (uintptr_t)start + size;
    return 0;
}
#else
static int bounds(uintptr_t *low, uintptr_t *high) {
    (void)low, (void)high;
    return -1;
}
#endif

static pthread_key_t signal_key;
static int has_key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void free_signal_stack(void *memory) {
    stack_t now;
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == memory) {
        stack_t none = {.ss_flags = SS_DISABLE};
        sigaltstack(&none, NULL);
    }
    munmap(memory, PL_STACK_SIGNAL);
}

static void make_key(void) { has_key = pthread_key_create(&signal_key, free_signal_stack) == 0; }

/* Ensures that the thread has a signal stack that is large enough. Returns 0, or -1 if out of
 * memory. */
static int have_signal_stack(void) {
    stack_t now;
    if (sigaltstack(NULL, &now) != 0) {
        return 0;
    }
    if (!(now.ss_flags & SS_DISABLE) && now.ss_size >= PL_STACK_SIGNAL) {
        return 0;
    }
    pthread_once(&key_once, make_key);
    if (!has_key) {
        return -1;
    }
    void *memory = pthread_getspecific(signal_key);
    if (memory == NULL) {
        memory = mmap(NULL, PL_STACK_SIGNAL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (memory == MAP_FAILED) {
            return -1;
        }
        if (pthread_setspecific(signal_key, memory) != 0) {
            munmap(memory, PL_STACK_SIGNAL);
            return -1;
        }
    }
    stack_t own = {.ss_sp = memory, .ss_size = PL_STACK_SIGNAL};
    sigaltstack(&own, NULL);
    return 0;
}

pl_error *pl_stack_check(int is_nested) {
    size_t needed = is_nested ? PL_STACK_NESTED : PL_STACK_WHOLE;
    if (!pl_stack_is_short(needed)) {
        return NULL;
    }
    uintptr_t here = (uintptr_t)__builtin_frame_address(0), low = 0, high = 0;
    if (pl_stack_end == UNREAD && have_signal_stack() != 0) {
        return pl_wasmtime.error_new("there is no memory to enter a guest on this thread");
    }
    int is_known = bounds(&low, &high) == 0 && low <= here && here < high;
    pl_stack_end = is_known ? low : 0;
    if (!pl_stack_is_short(needed)) {
        return NULL;
    }
    char message[256];
    snprintf(message, sizeof message,
             "%s: %zu KiB of it are left, a guest may need %zu; give threads more before they "
             "start (threading.stack_size, ulimit -s)",
             refusal, (size_t)(here - low) >> 10, needed >> 10);
    return pl_wasmtime.error_new(message);
}
