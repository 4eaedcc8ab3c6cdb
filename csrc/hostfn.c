/* Discipline: a pl_hostfn belongs to one store and is accessed only by the thread that runs this
 * store. */
#include "hostfn.h"

#include "api_table.h"
#include "rendezvous.h"

#include <string.h>

pl_trap *pl_trap_of(const char *text) { return pl_wasmtime.trap_new(text, strlen(text)); }

static pl_trap *follow(pl_group *group) {
    return pl_group_safepoint_poll(group) == PL_ACQUIRED ? NULL
                                                         : pl_trap_of("the guest was stopped");
}

static pl_trap *deliver(pl_group *group) {
    int before = pl_safepoint_park(pl_group_safepoint(group));
    int stop = pl_group_deliver(group);
    pl_safepoint_restore(pl_group_safepoint(group), before);
    return stop ? pl_trap_of("interrupted") : follow(group);
}

pl_trap *pl_host_poll(pl_group *group) {
    pl_trap *ended = follow(group);
    return ended == NULL && pl_group_is_nudged(group) ? deliver(group) : ended;
}

pl_trap *pl_host_return(pl_group *group, int before, pl_trap *trap) {
    pl_safepoint_restore(pl_group_safepoint(group), before);
    pl_trap *ended = before == PL_RUNNING && trap == NULL ? pl_host_poll(group) : NULL;
    return trap != NULL ? trap : ended;
}

pl_trap *pl_host_enter(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller;
    pl_hostfn *function = environment;
    function->entries++;
    char message[PL_MESSAGE_CAPACITY];
    message[0] = '\0';
    pl_group *group = function->group;
    int before = group != NULL ? pl_safepoint_park(pl_group_safepoint(group)) : PL_PARKED;
    int failed = function->callback(function->handle, values, count, message, sizeof message);
    pl_trap *trap = NULL;
    if (failed) {
        message[sizeof message - 1] = '\0';
        trap = pl_trap_of(message);
    }
    return group != NULL ? pl_host_return(group, before, trap) : trap;
}

void pl_hostfn_new(pl_context *context, const pl_type *type, pl_hostfn *function, pl_func *result) {
    pl_wasmtime.func_new_unchecked(context, type, pl_host_enter, function, NULL, result);
}
