#include "call.h"

#include "api_table.h"

_Static_assert(sizeof(pl_value) == 16, "wasmtime_val_raw_t has 16 bytes");
_Static_assert(sizeof(pl_func) == 16, "wasmtime_func_t has 16 bytes");

int pl_call(pl_group *group, pl_context *context, const pl_func *func, pl_value *values, size_t count, pl_failure *failure) {
    pl_safepoint *safepoint = pl_group_safepoint(group);
    int before = pl_safepoint_run(safepoint);
    failure->trap = NULL;
    failure->error = NULL;
    if (pl_group_safepoint_poll(group) != PL_ACQUIRED) {
        pl_safepoint_restore(safepoint, before);
        return PL_ABORTED;
    }
    failure->error = pl_wasmtime.func_call_unchecked(context, func, values, count, &failure->trap);
    pl_safepoint_restore(safepoint, before);
    return failure->error ? PL_ERROR : failure->trap ? PL_TRAP : PL_OK;
}
