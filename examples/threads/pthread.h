/* The part of <pthread.h> that main.c uses. What is not here does not link, and is not silently wrong. */
#ifndef PTHREAD_H
#define PTHREAD_H

typedef struct pthread *pthread_t;
typedef int pthread_attr_t; /* none: give a null pointer */

typedef struct {
    int state; /* 0 free, 1 taken, 2 taken, with waiters perhaps */
} pthread_mutex_t;
#define PTHREAD_MUTEX_INITIALIZER {0}

typedef struct {
    int sequence; /* moved by each signal */
} pthread_cond_t;
#define PTHREAD_COND_INITIALIZER {0}

/* 0, or 11 (EAGAIN) when there is no place or no thread to be had. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument);
int pthread_join(pthread_t thread, void **result);
int pthread_mutex_lock(pthread_mutex_t *mutex);
int pthread_mutex_unlock(pthread_mutex_t *mutex);
int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int pthread_cond_signal(pthread_cond_t *condition);
int pthread_cond_broadcast(pthread_cond_t *condition);

#endif
