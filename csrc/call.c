/* Discipline: no state. */
#include "call.h"

#include "api_table.h"
#include "rendezvous.h"

_Static_assert(sizeof(pl_value) == 16, "wasmtime_val_raw_t has 16 bytes");
_Static_assert(sizeof(pl_func) == 16, "wasmtime_func_t has 16 bytes");

int pl_call_begin(pl_group *group, int *before) {
    *before = pl_safepoint_run(pl_group_safepoint(group));
    return pl_group_safepoint_poll(group) == PL_ACQUIRED ? PL_OK : PL_ABORTED;
}

int pl_error_is_of_guest(const pl_error *error) {
    pl_frames frames = {0, NULL};
    pl_wasmtime.error_wasm_trace(error, &frames);
    int is_of_guest = frames.size != 0;
    pl_wasmtime.frame_vec_delete(&frames);
    return is_of_guest;
}
