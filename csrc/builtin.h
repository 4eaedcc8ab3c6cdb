/* builtin: host functions that the core answers itself.
 *
 * safepoint     () -> ()                            a place where an operation may be carried
 * out, for guest code that makes no other call dlsym         (handle, name) -> value
 * from what the group has looked up before, else Python's dlsym_wasix   (handle, name, length,
 * error, error_length, result) -> errno      the same, as WASIX has it dl_invalid_handle
 * (handle) -> errno              WASIX, from what was answered before, else Python's thread_id
 * (result) -> errno                   WASIX: the number of the calling thread proc_id
 * (result) -> errno                   WASIX: that of the process, and of its first thread
 * unsupported   of any type                         WASIX: answers that there is no such
 * function empty         () -> ()                            nothing, not even a safepoint: the
 * least that a host function can cost, for the benchmarks
 *
 * Each of them but the last is a safepoint: with nothing pending that costs two relaxed loads.
 * Pointers of the guest are checked against its memory; what does not fit goes to Python, which
 * has the right error for it.
 *
 * Blocking: as pl_group_safepoint_poll. Threads: the group's. */
#ifndef PL_BUILTIN_H
#define PL_BUILTIN_H

#include "instances.h"

enum { PL_ERRNO_NOTSUP = 58, PL_ERRNO_MEMVIOLATION = 78 }; /* of WASIX */
enum { PL_PROCESS = 1 };                                   /* there is one */

enum pl_builtin_index {
    PL_BUILTIN_SAFEPOINT = 0,
    PL_BUILTIN_DLSYM = 1,
    PL_BUILTIN_DLSYM_WASIX = 2,
    PL_BUILTIN_THREAD_ID = 3,
    PL_BUILTIN_EMPTY = 4,
    PL_BUILTIN_PROC_ID = 5,
    PL_BUILTIN_UNSUPPORTED = 6,
    PL_BUILTIN_CALL_DYNAMIC = 7, /* call_dynamic.h */
    PL_BUILTIN_REFLECT_SIGNATURE = 8,
    PL_BUILTIN_DL_INVALID_HANDLE = 9
};

typedef pl_trap *(*pl_builtin_function)(void *environment, pl_caller *caller, pl_value *values,
                                        size_t count);

/* The function that wasmtime calls with a pl_import. */
pl_builtin_function pl_builtin(uint32_t index);

#endif
