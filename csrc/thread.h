/* thread: an OS thread that runs one guest function in a group of its own.
 *
 * The thread is made here and not by Python, so that a thread the guest starts needs neither
 * Python nor the GIL: the group is ready (clone.h) and the function is called. A host function
 * of Python's that the guest calls there finds the group through pl_group_of_thread.
 *
 * If the function returns, the group is dead, `done` becomes 1, who waits for that is woken, and
 * the record is left for whoever changes the topology next (pl_shared_add_exited), in this
 * order. If that has no room, or the function did not return, or the thread has destructors to
 * run, `on_exit` is told, on the thread itself.
 *
 * Life: a pl_thread stays where it is until pl_shared_take_exited has answered it, or `on_exit` has
 * returned; nothing here touches it afterwards. The thread is detached: who wants to wait for it
 * waits for one of the two.
 *
 * Blocking: pl_thread_start never. */
#ifndef PL_THREAD_H
#define PL_THREAD_H

#include "instances.h"

enum { PL_THREAD_VALUES = 4 };

typedef struct pl_thread {
    pl_instances *instances;
    pl_func func;                      /* pl_thread_start sets it */
    pl_value values[PL_THREAD_VALUES]; /* its arguments, then its results */
    size_t count;
    pl_check on_exit; /* gets `handle`; what it answers means nothing */
    pl_exited exited; /* its handle is the thread's */
    uint32_t *done;   /* atomic; stays as long as this does */
    uint64_t key;     /* what is woken then */
    /* there is a thread, or will be at once: who is interrupted in pl_thread_start looks here */
    int started;
    int status;         /* enum pl_status, for `on_exit` */
    pl_failure failure; /* its receiver owns it */
} pl_thread;

enum { PL_THREAD_NONE = -1, PL_THREAD_LOST = -2 };

/* Calls export `index` of a library. Answers 0, PL_THREAD_NONE if there can be no more threads,
 * or PL_THREAD_LOST if the library has no such function in the thread's group. */
int pl_thread_start(pl_thread *thread, const pl_library *library, uint32_t index);

/* Whether there is address space (RLIMIT_AS) for a thread with a stack of `stack` bytes (0: the
 * C library's default), and for what it takes when it runs: the C library and wasmtime end the
 * process if they find none then. Returns 1 or 0. Others may take it meanwhile. */
int pl_thread_has_room(size_t stack);

/* The calling thread is the thread of this group from now on; NULL: of none. */
void pl_group_enter_thread(pl_group *group);
/* Whose thread the calling thread is, or NULL. */
pl_group *pl_group_of_thread(void);
/* The handle of that group, or 0. */
uintptr_t pl_handle_of_thread(void);

#endif
