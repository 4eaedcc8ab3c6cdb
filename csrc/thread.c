/* Discipline: a pl_thread belongs to its thread from pl_thread_start until `ended` has returned. */
#define _GNU_SOURCE
#include "thread.h"

#include <pthread.h>
#include <signal.h>

static _Thread_local pl_group *own_group;

void pl_group_enter_thread(pl_group *group) {
    own_group = group;
}

pl_group *pl_group_of_thread(void) {
    return own_group;
}

uintptr_t pl_handle_of_thread(void) {
    const pl_group *group = pl_group_of_thread();
    return group == NULL ? 0 : pl_group_handle(group);
}

/* Where wasmtime handles traps. It makes one for each thread that has none of this size or more, which takes longer than the rest of a thread's
 * start: three system calls, the last of which interrupts the other processors. */
enum { SIGNAL_STACK = 256 << 10 };

static void *run(void *argument) {
    pl_thread *thread = argument;
    char signal_stack[SIGNAL_STACK]; /* no page of it is touched unless there is a trap */
    stack_t own = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&own, NULL); /* if that fails wasmtime makes one, as ever */
    own_group = pl_instances_group(thread->instances);
    thread->status = pl_instances_call(thread->instances, &thread->func, thread->values, thread->count, &thread->failure);
    thread->ended(thread->handle);
    own.ss_flags = SS_DISABLE;
    sigaltstack(&own, NULL);
    return NULL;
}

int pl_thread_start(pl_thread *thread, const pl_library *library, uint32_t index) {
    pthread_t made;
    pl_extern function;
    if (pl_instances_export(thread->instances, library, index, &function) != 0 || function.kind != PL_EXTERN_FUNC) {
        return PL_THREAD_LOST;
    }
    thread->func = function.of.func;
    thread->started = 1;
    if (pthread_create(&made, NULL, run, thread) != 0) {
        thread->started = 0;
        return PL_THREAD_NONE;
    }
    pthread_detach(made);
    return 0;
}
