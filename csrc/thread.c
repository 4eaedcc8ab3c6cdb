/* Discipline: a pl_thread belongs to its thread from pl_thread_start until `on_exit` has
 * returned. */
#if !defined(__APPLE__)
#define _XOPEN_SOURCE 700 /* sigaltstack */
#endif
#include "thread.h"

#include "stack.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROOM = 4 << 20 }; /* bytes: thread-local data of libraries, the store, Python's frames */

static _Thread_local pl_group *own_group;

void pl_group_enter_thread(pl_group *group) { own_group = group; }

pl_group *pl_group_of_thread(void) { return own_group; }

uintptr_t pl_handle_of_thread(void) {
    const pl_group *group = pl_group_of_thread();
    return group == NULL ? 0 : pl_group_handle(group);
}

/* Adds the thread to the exited threads, whose reaper then owns the record. Returns 0 if the
 * thread has to remove its group itself. */
static int leave(pl_thread *thread, pl_group *group) {
    /* the program may end as soon as the thread is done */
    pl_shared *shared = pl_shared_keep(pl_group_shared(group));
    own_group = NULL;
    pl_safepoint_die(pl_group_safepoint(group));
    atomic_store((_Atomic uint32_t *)thread->done, 1);
    pl_futex_wake(pl_shared_futex(shared), thread->key, UINT32_MAX);
    int left = pl_shared_add_exited(shared, &thread->exited);
    pl_shared_free(shared);
    return left;
}

static void *run(void *argument) {
    pl_thread *thread = argument;
    /* saves the three system calls of a mapped one; no page of it is touched unless there is a
     * trap */
    char signal_stack[PL_STACK_SIGNAL];
    stack_t own = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&own, NULL);
    pl_group *group = pl_instances_group(thread->instances);
    own_group = group;
    thread->status = pl_instances_call(thread->instances, &thread->func, thread->values,
                                       thread->count, &thread->failure);
    if (thread->status != PL_OK || pl_instances_exits(thread->instances) || !leave(thread, group)) {
        thread->on_exit(thread->exited.handle);
    }
    own.ss_flags = SS_DISABLE;
    sigaltstack(&own, NULL);
    return NULL;
}

#if defined(__linux__)
/* Returns the bytes of address space that RLIMIT_AS leaves. It allocates nothing itself: another
 * thread may need the space at this moment. */
static uint64_t room(void) {
    struct rlimit limit;
    char text[64];
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return UINT64_MAX;
    }
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) {
        close(file);
    }
    if (length <= 0) {
        return UINT64_MAX;
    }
    text[length] = '\0';
    uint64_t size = strtoull(text, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
    return size < limit.rlim_cur ? limit.rlim_cur - size : 0;
}
#else
static uint64_t room(void) { return UINT64_MAX; /* the limit is not enforced */ }
#endif

int pl_thread_has_room(size_t stack) {
    pthread_attr_t attributes;
    if (stack == 0 && pthread_attr_init(&attributes) == 0) {
        pthread_attr_getstacksize(&attributes, &stack);
        pthread_attr_destroy(&attributes);
    }
    return room() >= (uint64_t)stack + ROOM;
}

/* Creates a detached thread whose stack size does not depend on RLIMIT_STACK. */
static int create(pl_thread *thread) {
    pthread_attr_t attributes;
    pthread_t made;
    if (pthread_attr_init(&attributes) != 0) {
        return -1;
    }
    int failed = pthread_attr_setstacksize(&attributes, PL_STACK_THREAD) ||
                 pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) ||
                 pthread_create(&made, &attributes, run, thread);
    pthread_attr_destroy(&attributes);
    return failed ? -1 : 0;
}

int pl_thread_start(pl_thread *thread, const pl_library *library, uint32_t index) {
    pl_extern function;
    if (pl_instances_export(thread->instances, library, index, &function) != 0 ||
        function.kind != PL_EXTERN_FUNC) {
        return PL_THREAD_LOST;
    }
    thread->func = function.of.func;
    thread->started = 1;
    if (create(thread) != 0) {
        thread->started = 0;
        return PL_THREAD_NONE;
    }
    return 0;
}
