/* Discipline: a pl_hostfn belongs to one store and is touched only by the thread that runs this store. */
#include "hostfn.h"

#include "api_table.h"

#include <string.h>

static pl_trap *enter(void *environment, pl_caller *caller, pl_value *values, size_t count) {
    (void)caller;
    pl_hostfn *function = environment;
    function->entries++;
    char message[PL_MESSAGE_CAPACITY];
    message[0] = '\0';
    if (function->callback(function->handle, values, count, message, sizeof message) == 0) {
        return NULL;
    }
    message[sizeof message - 1] = '\0';
    return pl_wasmtime.trap_new(message, strlen(message));
}

void pl_hostfn_new(pl_context *context, const pl_type *type, pl_hostfn *function, pl_func *result) {
    pl_wasmtime.func_new_unchecked(context, type, enter, function, NULL, result);
}
