/* Discipline: a group is inserted into the list, and removed, under the write lock; its handler
 * belongs to its own thread. */
#include "shared_impl.h"

#include <stdlib.h>

pl_group *pl_group_new(pl_shared *shared, uintptr_t handle, pl_replay replay, pl_check check) {
    pl_group *group = calloc(1, sizeof *group);
    if (group == NULL) {
        return NULL;
    }
    pl_safepoint_init(&group->safepoint, &shared->waiter);
    pl_bus_subscribe(&shared->barriers, &group->barriers);
    pl_bus_subscribe(&shared->operations, &group->operations);
    group->handle = handle;
    group->replay = replay;
    group->replay_handle = handle;
    group->check = check;
    group->shared = pl_shared_keep(shared);
    group->next = shared->first;
    shared->first = group;
    shared->count++;
    if (shared->trace != NULL) {
        pl_safepoint_on_trace(&group->safepoint, shared->trace, handle);
    }
    return group;
}

void pl_group_set_replay(pl_group *group, pl_replay replay, uintptr_t handle) {
    group->replay = replay;
    group->replay_handle = handle;
}

void pl_group_free(pl_group *group) {
    pl_shared *shared = group->shared;
    for (pl_group **place = &shared->first; *place != NULL; place = &(*place)->next) {
        if (*place == group) {
            *place = group->next;
            shared->count--;
            break;
        }
    }
    pl_bus_unsubscribe(&shared->barriers, &group->barriers);
    pl_bus_unsubscribe(&shared->operations, &group->operations);
    free(group);
    pl_shared_free(shared);
}

int pl_group_new_at(pl_group **place, pl_shared *shared, uintptr_t handle, pl_replay replay,
                    pl_check check) {
    *place = pl_group_new(shared, handle, replay, check);
    return *place != NULL;
}

void pl_group_free_at(pl_group **place) {
    pl_group *group = *place;
    *place = NULL;
    if (group != NULL) {
        pl_group_free(group);
    }
}

pl_safepoint *pl_group_safepoint(pl_group *group) { return &group->safepoint; }

uint64_t pl_group_arrived(const pl_group *group) { return pl_receiver_taken(&group->barriers); }

uint64_t pl_group_applied(const pl_group *group) { return pl_receiver_taken(&group->operations); }

uintptr_t pl_group_handle(const pl_group *group) { return group->handle; }

pl_shared *pl_group_shared(const pl_group *group) { return group->shared; }

int pl_group_is_replaying(const pl_group *group) { return group->replaying; }

int pl_group_is_following(const pl_group *group) { return group->following; }

pl_flag *pl_group_nudge(pl_group *group) { return &group->nudge; }

void pl_group_on_nudge(pl_group *group, pl_check deliver, uintptr_t handle) {
    group->deliver = deliver;
    group->deliver_handle = handle;
}

int pl_group_has_handler(const pl_group *group) { return group->deliver != NULL; }

int pl_group_is_nudged(const pl_group *group) {
    return group->deliver != NULL && (group->deferred || pl_flag_load(&group->nudge, PL_RELAXED));
}

int pl_group_deliver(pl_group *group) {
    /* before the call: a nudge that arrives meanwhile is delivered now or the next time */
    pl_flag_clear(&group->nudge);
    int result = group->replaying ? PL_DELIVER_LATER : group->deliver(group->deliver_handle);
    group->deferred = result == PL_DELIVER_LATER;
    return result != 0 && result != PL_DELIVER_LATER;
}
