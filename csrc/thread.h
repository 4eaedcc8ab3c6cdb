/* thread: an OS thread that runs one guest function in its own group.
 *
 * The thread is created here and not by Python, so that a thread that the guest starts needs
 * neither Python nor the GIL: the group is ready (clone.h) and the function is called. A host
 * function in Python that the guest calls there finds the group through pl_group_of_thread.
 *
 * States: when the function returns, the group dies, `done` becomes 1, its waiters are woken, and
 * the record is added to the exited threads (pl_shared_add_exited), in this order. If that list is
 * full, or the function did not return, or the thread has destructors to run, `on_exit` is called
 * on the thread itself.
 *
 * Protects: nothing.
 * Requires: a pl_thread stays valid until pl_shared_take_exited has returned it, or `on_exit` has
 * returned; it is not accessed here afterwards. The thread is detached: a joining thread waits for
 * one of the two.
 * Blocks: pl_thread_start never does.
 * Memory order: `done` is SeqCst.
 * Threads: the creating thread, then the new one. */
#ifndef PL_THREAD_H
#define PL_THREAD_H

#include "instances.h"

enum { PL_THREAD_VALUES = 4 };

typedef struct pl_thread {
    pl_instances *instances;
    pl_func func;                      /* pl_thread_start sets it */
    pl_value values[PL_THREAD_VALUES]; /* the arguments, then the results */
    size_t count;
    pl_check on_exit; /* called with the handle of `exited`; its result is ignored */
    pl_exited exited; /* its handle is that of the thread */
    uint32_t *done;   /* atomic; valid as long as this */
    uint64_t key;     /* the futex key of waiters for the exit */
    /* there is a thread, or will be at once; for a caller that is interrupted in pl_thread_start */
    int started;
    int status;         /* enum pl_status, for `on_exit` */
    pl_failure failure; /* its receiver owns it */
} pl_thread;

enum { PL_THREAD_NONE = -1, PL_THREAD_LOST = -2 };

/* Calls export `index` of a library on a new thread. Returns 0, PL_THREAD_NONE if no thread can be
 * created, or PL_THREAD_LOST if the library has no such function in the group of the thread. */
int pl_thread_start(pl_thread *thread, const pl_library *library, uint32_t index);

/* Returns whether there is address space (RLIMIT_AS) for a thread with a stack of `stack` bytes (0:
 * the default of the C library), and for its allocations: the C library and wasmtime abort the
 * process without them. Other threads may take it meanwhile. */
int pl_thread_has_room(size_t stack);

/* Registers the calling thread as the thread of this group; NULL: of none. */
void pl_group_enter_thread(pl_group *group);
/* Returns the group of the calling thread, or NULL. */
pl_group *pl_group_of_thread(void);
/* Returns the handle of that group, or 0. */
uintptr_t pl_handle_of_thread(void);

#endif
