/* Discipline: the list of groups is under the write lock, the list of ended threads under
 * `ended_mutex`, the rest is atomic. */
#include "shared_impl.h"

#include <stdlib.h>

static void wake_all(void *argument) {
    pl_shared *shared = argument;
    pl_event_notify(&shared->news);
    pl_event_notify(&shared->rest);
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
    pl_event_init(&shared->news);
    pl_event_init(&shared->rest);
    pl_event_init(&shared->endings);
    pl_waiter_init(&shared->waiter);
    pl_cancel_init(&shared->cancel, &shared->event);
    pl_rwlock_init(&shared->lock, &shared->event);
    pl_topology_init(&shared->topology, &shared->event);
    pl_bus_init(&shared->barriers);
    pl_bus_init(&shared->operations);
    pl_futex_init(&shared->futex, &shared->cancel);
    pl_log_init(&shared->log, NULL);
    pthread_mutex_init(&shared->ended_mutex, NULL);
    pl_cancel_on_set(&shared->cancel, wake_all, shared);
    return shared;
}

void pl_shared_free(pl_shared *shared) {
    if (shared == NULL || atomic_fetch_sub(&shared->owners, 1) != 1) {
        return;
    }
    pl_trace_free(shared->trace);
    pthread_mutex_destroy(&shared->ended_mutex);
    pl_log_destroy(&shared->log);
    pl_futex_destroy(&shared->futex);
    pl_waiter_destroy(&shared->waiter);
    pl_event_destroy(&shared->endings);
    pl_event_destroy(&shared->rest);
    pl_event_destroy(&shared->news);
    pl_event_destroy(&shared->event);
    free(shared);
}

pl_shared *pl_shared_keep(pl_shared *shared) {
    atomic_fetch_add(&shared->owners, 1);
    return shared;
}

int pl_shared_leave_ended(pl_shared *shared, pl_ended *ended) {
    pthread_mutex_lock(&shared->ended_mutex);
    int left = !shared->ended_closed && atomic_load(&shared->ended_count) < PL_ENDED_MOST;
    if (left) {
        ended->next = shared->ended;
        shared->ended = ended;
        atomic_fetch_add(&shared->ended_count, 1);
    }
    pthread_mutex_unlock(&shared->ended_mutex);
    if (left) {
        pl_event_notify(&shared->endings);
    }
    return left;
}

uintptr_t pl_shared_next_ended(pl_shared *shared) {
    pthread_mutex_lock(&shared->ended_mutex);
    pl_ended *ended = shared->ended;
    uintptr_t handle = 0;
    if (ended != NULL) {
        handle = ended->handle;
        shared->ended = ended->next;
        atomic_fetch_sub(&shared->ended_count, 1);
    }
    pthread_mutex_unlock(&shared->ended_mutex);
    return handle;
}

uint32_t pl_shared_ended(const pl_shared *shared) { return atomic_load(&shared->ended_count); }

void pl_shared_close_ended(pl_shared *shared) {
    pthread_mutex_lock(&shared->ended_mutex);
    shared->ended_closed = 1;
    pthread_mutex_unlock(&shared->ended_mutex);
}

void pl_shared_tell_ended(pl_shared *shared) { pl_event_notify(&shared->endings); }

void pl_shared_await_ended(pl_shared *shared, int64_t timeout) {
    uint32_t key = pl_event_prepare(&shared->endings);
    if (pl_shared_ended(shared) == 0) {
        pl_event_wait(&shared->endings, key, pl_deadline(timeout));
    }
}

void pl_shared_set_trace(pl_shared *shared, pl_trace *trace) {
    shared->trace = pl_trace_share(trace);
}

pl_event *pl_shared_event(pl_shared *shared) { return &shared->event; }

pl_event *pl_shared_news(pl_shared *shared) { return &shared->news; }

pl_event *pl_shared_rest(pl_shared *shared) { return &shared->rest; }

pl_waiter *pl_shared_waiter(pl_shared *shared) { return &shared->waiter; }

pl_cancel *pl_shared_cancel(pl_shared *shared) { return &shared->cancel; }

pl_flag *pl_shared_flag(pl_shared *shared) { return &shared->flag; }

pl_rwlock *pl_shared_lock(pl_shared *shared) { return &shared->lock; }

pl_topology *pl_shared_topology(pl_shared *shared) { return &shared->topology; }

pl_bus *pl_shared_barriers(pl_shared *shared) { return &shared->barriers; }

pl_bus *pl_shared_operations(pl_shared *shared) { return &shared->operations; }

void pl_shared_changed(pl_shared *shared) { atomic_fetch_add(&shared->changes, 1); }

uint64_t pl_shared_changes(const pl_shared *shared) { return atomic_load(&shared->changes); }

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
