/* Discipline: the write lock protects the list of groups, `exited_mutex` the list of exited
 * threads; the rest is atomic. */
#include "shared_impl.h"

#include <stdlib.h>

static void wake_all(void *argument) {
    pl_shared *shared = argument;
    pl_event_notify(&shared->barrier_event);
    pl_event_notify(&shared->sleepers);
    pl_event_notify(pl_waiter_event(&shared->waiter));
}

pl_shared *pl_shared_new(void) {
    pl_shared *shared = calloc(1, sizeof *shared);
    if (shared == NULL) {
        return NULL;
    }
    atomic_init(&shared->owners, 1);
    shared->processors = pl_processors();
    pl_event_init(&shared->event);
    pl_event_init(&shared->barrier_event);
    pl_event_init(&shared->sleepers);
    pl_event_init(&shared->exit_event);
    pl_waiter_init(&shared->waiter);
    pl_cancel_init(&shared->cancel, &shared->event);
    pl_rwlock_init(&shared->lock, &shared->event);
    pl_topology_init(&shared->topology, &shared->event);
    pl_bus_init(&shared->barriers);
    pl_bus_init(&shared->operations);
    pl_futex_init(&shared->futex, &shared->cancel);
    pl_log_init(&shared->log, NULL);
    pthread_mutex_init(&shared->exited_mutex, NULL);
    pl_cancel_on_set(&shared->cancel, wake_all, shared);
    return shared;
}

void pl_shared_free(pl_shared *shared) {
    if (shared == NULL || atomic_fetch_sub(&shared->owners, 1) != 1) {
        return;
    }
    pl_trace_free(shared->trace);
    pthread_mutex_destroy(&shared->exited_mutex);
    pl_log_destroy(&shared->log);
    pl_futex_destroy(&shared->futex);
    pl_waiter_destroy(&shared->waiter);
    pl_event_destroy(&shared->exit_event);
    pl_event_destroy(&shared->sleepers);
    pl_event_destroy(&shared->barrier_event);
    pl_event_destroy(&shared->event);
    free(shared);
}

pl_shared *pl_shared_keep(pl_shared *shared) {
    atomic_fetch_add(&shared->owners, 1);
    return shared;
}

int pl_shared_add_exited(pl_shared *shared, pl_exited *exited) {
    pthread_mutex_lock(&shared->exited_mutex);
    int left = !shared->exited_closed && atomic_load(&shared->exited_count) < PL_EXITED_MOST;
    if (left) {
        exited->next = shared->exited;
        shared->exited = exited;
        atomic_fetch_add(&shared->exited_count, 1);
    }
    pthread_mutex_unlock(&shared->exited_mutex);
    if (left) {
        pl_event_notify(&shared->exit_event);
    }
    return left;
}

uintptr_t pl_shared_take_exited(pl_shared *shared) {
    pthread_mutex_lock(&shared->exited_mutex);
    pl_exited *exited = shared->exited;
    uintptr_t handle = 0;
    if (exited != NULL) {
        handle = exited->handle;
        shared->exited = exited->next;
        atomic_fetch_sub(&shared->exited_count, 1);
    }
    pthread_mutex_unlock(&shared->exited_mutex);
    return handle;
}

uint32_t pl_shared_exited_count(const pl_shared *shared) {
    return atomic_load(&shared->exited_count);
}

void pl_shared_close_exited(pl_shared *shared) {
    pthread_mutex_lock(&shared->exited_mutex);
    shared->exited_closed = 1;
    pthread_mutex_unlock(&shared->exited_mutex);
}

void pl_shared_notify_exited(pl_shared *shared) { pl_event_notify(&shared->exit_event); }

void pl_shared_wait_exited(pl_shared *shared, int64_t timeout) {
    uint32_t key = pl_event_prepare(&shared->exit_event);
    if (pl_shared_exited_count(shared) == 0) {
        pl_event_wait(&shared->exit_event, key, pl_deadline(timeout));
    }
}

void pl_shared_set_trace(pl_shared *shared, pl_trace *trace) {
    shared->trace = pl_trace_share(trace);
}

pl_event *pl_shared_event(pl_shared *shared) { return &shared->event; }

pl_event *pl_shared_barrier_event(pl_shared *shared) { return &shared->barrier_event; }

pl_event *pl_shared_sleepers(pl_shared *shared) { return &shared->sleepers; }

pl_waiter *pl_shared_waiter(pl_shared *shared) { return &shared->waiter; }

pl_cancel *pl_shared_cancel(pl_shared *shared) { return &shared->cancel; }

pl_flag *pl_shared_flag(pl_shared *shared) { return &shared->flag; }

pl_rwlock *pl_shared_lock(pl_shared *shared) { return &shared->lock; }

pl_topology *pl_shared_topology(pl_shared *shared) { return &shared->topology; }

pl_bus *pl_shared_barriers(pl_shared *shared) { return &shared->barriers; }

pl_bus *pl_shared_operations(pl_shared *shared) { return &shared->operations; }

void pl_shared_next_generation(pl_shared *shared) { atomic_fetch_add(&shared->generation, 1); }

uint64_t pl_shared_generation(const pl_shared *shared) { return atomic_load(&shared->generation); }

void pl_shared_waits(const pl_shared *shared, pl_waits *waits) {
    waits->led = atomic_load_explicit(&shared->led, memory_order_relaxed);
    waits->followed = atomic_load_explicit(&shared->followed, memory_order_relaxed);
    waits->nanoseconds = atomic_load_explicit(&shared->waited, memory_order_relaxed);
    waits->longest = atomic_load_explicit(&shared->longest, memory_order_relaxed);
    waits->paused = atomic_load_explicit(&shared->paused, memory_order_relaxed);
}

pl_futex *pl_shared_futex(pl_shared *shared) { return &shared->futex; }

pl_log *pl_shared_log(pl_shared *shared) { return &shared->log; }

size_t pl_group_count(const pl_shared *shared) { return shared->count; }

uint64_t pl_shared_applied_by_all(const pl_shared *shared) {
    uint64_t oldest = pl_bus_sent(&shared->operations);
    for (const pl_group *group = shared->first; group != NULL; group = group->next) {
        uint64_t applied = pl_receiver_taken(&group->operations);
        if (pl_safepoint_state(&group->safepoint) != PL_DEAD && applied < oldest) {
            oldest = applied;
        }
    }
    return oldest;
}

size_t pl_shared_applied(const pl_shared *shared, uint64_t *numbers, size_t capacity) {
    size_t count = 0;
    for (const pl_group *group = shared->first; group != NULL && count < capacity;
         group = group->next) {
        if (pl_safepoint_state(&group->safepoint) != PL_DEAD) {
            numbers[count++] = pl_receiver_taken(&group->operations);
        }
    }
    return count;
}

int pl_shared_is_alone(const pl_shared *shared) {
    return pl_bus_receivers(&shared->operations) <= 1 && pl_cancel_cause(&shared->cancel) == 0;
}
