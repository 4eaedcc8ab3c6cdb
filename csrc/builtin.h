/* builtin: host functions that the core implements without Python.
 *
 *     safepoint          () -> ()  a safepoint for guest code that makes no other call
 *     dlsym              (handle, name) -> value  from the group's dlsym cache, else Python's
 *     dlsym_wasix        (handle, name, length, error, error_length, result) -> errno  WASIX
 *     dl_invalid_handle  (handle) -> errno  WASIX; from the cache, else Python's
 *     thread_id          (result) -> errno  WASIX: the number of the calling thread
 *     proc_id            (result) -> errno  WASIX: the number of the process and its first thread
 *     unsupported        any type  WASIX: returns ENOTSUP
 *     empty              () -> ()  does nothing, not even a safepoint: the lower bound of the cost
 *                        of a host function, for the benchmarks
 *
 * Each of them but the last is a safepoint, which costs two relaxed loads if nothing is pending.
 * Pointers of the guest are checked against its memory; calls with an invalid pointer are passed to
 * Python, which reports the error.
 *
 * Protects: nothing.
 * Blocks: as pl_group_safepoint_poll.
 * Threads: the group's. */
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

/* Returns the function that wasmtime calls with a pl_import. */
pl_builtin_function pl_builtin(uint32_t index);

#endif
