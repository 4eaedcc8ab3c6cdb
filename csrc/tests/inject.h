/* inject: fault injection into the core, which is compiled with `-include inject.h`: a delay, or an
 * action of another thread, before an atomic step or a mutex; a failed allocation; and a count of
 * the yields of the core.
 *
 * Only SeqCst steps are injected, so a test can check whether a step is SeqCst: INJECT_STEPS in
 * check.h.
 *
 * Nothing is injected until a thread requests it. check.h has the bodies. */
#ifndef PL_INJECT_H
#define PL_INJECT_H

#if defined(__linux__)
/* which is all of them; before the first system header, as the core's own files do it */
#define _GNU_SOURCE
#elif !defined(__APPLE__)
/* which is _POSIX_C_SOURCE 200809L and more; before the first system header, as the core's own
 * files do it */
#define _XOPEN_SOURCE 700
#endif

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

void inject_delay(void);
int inject_yield(void);
void *inject_malloc(size_t size);
void *inject_calloc(size_t count, size_t size);
void *inject_realloc(void *memory, size_t size);

#undef atomic_load
#undef atomic_store
#undef atomic_fetch_add
#undef atomic_fetch_sub
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_weak

#define atomic_load(object) (inject_delay(), atomic_load_explicit(object, memory_order_seq_cst))
#define atomic_store(object, value)                                                                \
    (inject_delay(), atomic_store_explicit(object, value, memory_order_seq_cst))
#define atomic_fetch_add(object, value)                                                            \
    (inject_delay(), atomic_fetch_add_explicit(object, value, memory_order_seq_cst))
#define atomic_fetch_sub(object, value)                                                            \
    (inject_delay(), atomic_fetch_sub_explicit(object, value, memory_order_seq_cst))
#define atomic_compare_exchange_strong(object, expected, value)                                    \
    (inject_delay(), atomic_compare_exchange_strong_explicit(                                      \
                         object, expected, value, memory_order_seq_cst, memory_order_seq_cst))
#define atomic_compare_exchange_weak(object, expected, value)                                      \
    (inject_delay(), atomic_compare_exchange_weak_explicit(                                        \
                         object, expected, value, memory_order_seq_cst, memory_order_seq_cst))

#define pthread_mutex_lock(mutex) (inject_delay(), pthread_mutex_lock(mutex))

#define sched_yield() inject_yield()

#define malloc(size) inject_malloc(size)
#define calloc(count, size) inject_calloc(count, size)
#define realloc(memory, size) inject_realloc(memory, size)

#endif
