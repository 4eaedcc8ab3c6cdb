/* Discipline: a bucket's mutex protects its queue and the waiters in it, with their condition
 * variables. A waiter is on the stack of its thread: a waker signals it under the mutex, and once
 * it is removed from the queue only its own thread accesses it. */
#if !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L /* condition variables on the monotonic clock */
#endif

#include "futex.h"

#include "condition.h"

#include <stdatomic.h>
#include <string.h>

enum { BUCKET_BITS = 6, BUCKETS = PL_FUTEX_BUCKETS };
_Static_assert(BUCKETS == 1 << BUCKET_BITS, "bucket_of() takes as many bits of the hash");

struct pl_futex_waiter {
    struct pl_futex_waiter *before, *after; /* while it is queued */
    uint64_t key;
    const pl_flag *nudge;
    int is_woken; /* and no longer queued */
    pthread_cond_t changed;
};

static void wake_to_look(void *argument) {
    pl_futex *futex = argument;
    for (size_t i = 0; i < BUCKETS; i++) {
        struct pl_futex_bucket *bucket = &futex->buckets[i];
        pthread_mutex_lock(&bucket->mutex);
        for (struct pl_futex_waiter *waiter = bucket->first; waiter != NULL;
             waiter = waiter->after) {
            pthread_cond_signal(&waiter->changed);
        }
        pthread_mutex_unlock(&bucket->mutex);
    }
}

void pl_futex_init(pl_futex *futex, pl_cancel *cancel) {
    futex->cancel = cancel;
    for (size_t i = 0; i < BUCKETS; i++) {
        pthread_mutex_init(&futex->buckets[i].mutex, NULL);
        futex->buckets[i].first = futex->buckets[i].last = NULL;
    }
    pl_cancel_on_set(cancel, wake_to_look, futex);
}

void pl_futex_destroy(pl_futex *futex) {
    pl_cancel_on_set(futex->cancel, NULL, futex);
    for (size_t i = 0; i < BUCKETS; i++) {
        pthread_mutex_destroy(&futex->buckets[i].mutex);
    }
}

static struct pl_futex_bucket *bucket_of(pl_futex *futex, uint64_t key) {
    /* The high bits of a product depend on all bits of the key. */
    return &futex->buckets[(key * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - BUCKET_BITS)];
}

static void enter(struct pl_futex_bucket *bucket, struct pl_futex_waiter *waiter) {
    waiter->before = bucket->last;
    *(bucket->last != NULL ? &bucket->last->after : &bucket->first) = waiter;
    bucket->last = waiter;
}

static void leave(struct pl_futex_bucket *bucket, struct pl_futex_waiter *waiter) {
    *(waiter->before != NULL ? &waiter->before->after : &bucket->first) = waiter->after;
    *(waiter->after != NULL ? &waiter->after->before : &bucket->last) = waiter->before;
}

/* With the mutex. */
static uint32_t wake(struct pl_futex_bucket *bucket, uint64_t key, uint32_t count) {
    uint32_t woken = 0;
    struct pl_futex_waiter *after;
    for (struct pl_futex_waiter *waiter = bucket->first; waiter != NULL && woken < count;
         waiter = after) {
        after = waiter->after;
        if (waiter->key == key) {
            leave(bucket, waiter);
            waiter->is_woken = 1;
            pthread_cond_signal(&waiter->changed);
            woken++;
        }
    }
    return woken;
}

/* Calls back, without the mutex. Returns whether that ends the wait; a wake that arrived meanwhile
 * is then passed on. */
static int is_stopped(struct pl_futex_bucket *bucket, struct pl_futex_waiter *self, pl_check call,
                      uintptr_t handle) {
    pthread_mutex_unlock(&bucket->mutex);
    int stop = call(handle);
    pthread_mutex_lock(&bucket->mutex);
    if (stop && self->is_woken) {
        wake(bucket, self->key, 1);
    }
    return stop;
}

/* Sleeps in the queue until the wait ends; returns the enum pl_waited. With the mutex, which is
 * released in the sleep and during callbacks. */
static int stay(pl_futex *futex, struct pl_futex_bucket *bucket, struct pl_futex_waiter *self,
                const pl_wait_options *options, int64_t deadline) {
    int64_t due = options->check != NULL ? pl_now() + PL_SLICE : INT64_MAX;
    for (;;) {
        if (self->is_woken) {
            return PL_WAITED_WOKEN;
        }
        if (pl_cancel_cause(futex->cancel) != 0) {
            return PL_WAITED_CANCELLED;
        }
        if (options->nudge != NULL && pl_flag_load(options->nudge, PL_SEQ_CST)) {
            if (options->deliver == NULL) {
                pl_flag_clear(options->nudge);
                return PL_WAITED_WOKEN;
            }
            if (is_stopped(bucket, self, options->deliver, options->deliver_handle)) {
                return PL_WAITED_INTERRUPTED;
            }
            continue;
        }
        int64_t now = pl_now();
        if (deadline >= 0 && now >= deadline) {
            return PL_WAITED_TIMED_OUT;
        }
        if (now < due) {
            pl_condition_wait(&self->changed, &bucket->mutex, now,
                              deadline >= 0 && deadline < due ? deadline : due);
            continue;
        }
        if (is_stopped(bucket, self, options->check, options->handle)) {
            return PL_WAITED_INTERRUPTED;
        }
        due = pl_now() + PL_SLICE;
    }
}

static uint64_t load(const void *cell, size_t size) {
    if ((uintptr_t)cell % size != 0) {
        uint64_t value = 0;
        memcpy(&value, cell, size); /* little endian, as wasmtime's hosts are */
        return value;
    }
    return size == sizeof(uint32_t) ? atomic_load((const _Atomic uint32_t *)cell)
                                    : atomic_load((const _Atomic uint64_t *)cell);
}

static int wait_on(pl_futex *futex, uint64_t key, const void *cell, size_t size, uint64_t expected,
                   const pl_wait_options *options) {
    int64_t deadline = pl_deadline(options->timeout);
    struct pl_futex_bucket *bucket = bucket_of(futex, key);
    struct pl_futex_waiter self = {.key = key, .nudge = options->nudge};
    int result = PL_WAITED_NOT_EQUAL;
    pl_condition_init(&self.changed);
    pthread_mutex_lock(&bucket->mutex);
    if (load(cell, size) == expected) {
        enter(bucket, &self);
        result = stay(futex, bucket, &self, options, deadline);
        if (!self.is_woken) {
            leave(bucket, &self);
        }
    }
    pthread_mutex_unlock(&bucket->mutex);
    pthread_cond_destroy(&self.changed);
    return result;
}

int pl_futex_wait32(pl_futex *futex, uint64_t key, const void *cell, uint32_t expected,
                    const pl_wait_options *options) {
    return wait_on(futex, key, cell, sizeof expected, expected, options);
}

int pl_futex_wait64(pl_futex *futex, uint64_t key, const void *cell, uint64_t expected,
                    const pl_wait_options *options) {
    return wait_on(futex, key, cell, sizeof expected, expected, options);
}

uint32_t pl_futex_wake(pl_futex *futex, uint64_t key, uint32_t count) {
    struct pl_futex_bucket *bucket = bucket_of(futex, key);
    pthread_mutex_lock(&bucket->mutex);
    uint32_t woken = wake(bucket, key, count);
    pthread_mutex_unlock(&bucket->mutex);
    return woken;
}

void pl_futex_nudge(pl_futex *futex, pl_flag *nudge) {
    pl_flag_set(nudge);
    for (size_t i = 0; i < BUCKETS; i++) {
        struct pl_futex_bucket *bucket = &futex->buckets[i];
        pthread_mutex_lock(&bucket->mutex);
        for (struct pl_futex_waiter *waiter = bucket->first; waiter != NULL;
             waiter = waiter->after) {
            if (waiter->nudge == nudge) {
                pthread_cond_signal(&waiter->changed);
            }
        }
        pthread_mutex_unlock(&bucket->mutex);
    }
}

size_t pl_futex_waiters(pl_futex *futex, uint64_t key) {
    size_t count = 0;
    struct pl_futex_bucket *bucket = bucket_of(futex, key);
    pthread_mutex_lock(&bucket->mutex);
    for (const struct pl_futex_waiter *waiter = bucket->first; waiter != NULL;
         waiter = waiter->after) {
        count += waiter->key == key;
    }
    pthread_mutex_unlock(&bucket->mutex);
    return count;
}
