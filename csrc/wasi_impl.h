/* wasi_impl: the structures of a WASI process, and the functions that its files share. For the
 * files wasi*.c alone, which include it first: cffi does not see it.
 *
 * Protects: `mutex` serializes calls into the store of a process that is not the caller's own; no
 * thread waits under it. `naming` is taken after it. A pl_process is read-only except for its
 * clocks, which are relaxed atomics (independent numbers), and for the places of its streams. A
 * place is written under the mutex and read without it, relaxed: a call that reads an older place
 * is ordered before the concurrent call that changed it. The one order that matters, that wasmtime
 * never reads or writes a descriptor that is a stream, is kept by reading the place again under the
 * mutex. `available` is used with the process entered only (enter_process): an open takes one
 * before wasmtime is called, and returns it on failure.
 * Requires: "With the process" in a comment: between pl_wasi_enter_process and
 * pl_wasi_leave_process.
 * Blocks: pl_wasi_sleep_until, pl_wasi_wait_for, pl_wasi_move_stream and pl_wasi_poll_all.
 * Threads: any. */
#ifndef PL_WASI_IMPL_H
#define PL_WASI_IMPL_H

#if defined(__linux__)
#define _GNU_SOURCE /* ppoll, preadv2, O_PATH */
#elif !defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L
#endif

#include "wasi.h"

#include "api_table.h"
#include "epoch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CLOCKS = 4 };

/* A standard stream of the guest. */
struct stream {
    int descriptor; /* of the host */
    /* opened for this process alone, and not blocking unless it is a file */
    int owned;
    int is_fifo;            /* and it is a FIFO */
    _Atomic uint32_t place; /* the guest's descriptor for it, or NOWHERE */
};

#define NOWHERE UINT32_MAX

/* A granted directory. Used with the process only. */
struct directory {
    int descriptor; /* of the host: the directory that wasmtime has, too */
    uint32_t place; /* the guest's, or NOWHERE */
};

/* The private memory: a path is copied there before it is checked, and wasmtime writes results
 * there. */
enum { PRIVATE_PATH = 0, PRIVATE_PATH_MOST = 4096, PRIVATE_RESULT = 8192, PRIVATE_SIZE = 16384 };

struct pl_process {
    pl_context *context;
    struct stream streams[PL_WASI_STREAMS];
    struct directory *directories;
    size_t directory_count;
    /* the number of descriptors that the guest may still open; a close adds one */
    uint32_t available;
    int32_t fault;   /* an error number, or 0 */
    int64_t started; /* on pl_now's clock: zero of the guest's monotonic clock */
    /* the offset of each clock that the guest has set, modulo 2^64 */
    _Atomic uint64_t ahead[CLOCKS];
    pthread_mutex_t mutex;
    struct {
        const pl_type *type;
        int kind;
        const char *parameters;
        pl_func target;
    } functions[PL_WASI_FUNCTIONS];
    pl_func private_functions[PL_WASI_PRIVATE_FUNCTIONS];
    pl_extern private_memory;
};

/* WASI preview 1: sizes and offsets in guest memory, error numbers
 * (https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md). */
enum {
    SUBSCRIPTION_SIZE = 48,
    SUBSCRIPTION_TAG = 8,
    SUBSCRIPTION_CLOCK = 16,
    SUBSCRIPTION_TIMEOUT = 24,
    SUBSCRIPTION_FLAGS = 40,
    EVENT_SIZE = 32,
    SUBSCRIPTION_DESCRIPTOR = 16,
    EVENT_ERROR = 8,
    EVENT_TAG = 10,
    EVENT_BYTES = 16,
    EVENT_FLAGS = 24,
    TAG_CLOCK = 0,
    TAG_READ = 1,
    TAG_WRITE = 2,
    FLAG_HANGUP = 1,
    FDSTAT_SIZE = 24,
    FILESTAT_SIZE = 64,
    FILESTAT_TYPE = 16,
    TYPE_UNKNOWN = 0,
    TYPE_CHARACTER_DEVICE = 2,
    TYPE_SOCKET_DATAGRAM = 5,
    TYPE_SOCKET_STREAM = 6,
    LOOKUP_FOLLOW = 1,
    OPEN_DIRECTORY = 2,
    OPEN_NEW = 1 | 4, /* create, exclusively */
    CLOCK_REALTIME_ID = 0,
    CLOCK_MONOTONIC_ID = 1,
    CLOCK_PROCESS_ID = 2, /* processor time */
    CLOCK_THREAD_ID = 3,  /* the last of CLOCKS */
    FLAG_ABSOLUTE = 1,
    ERRNO_ACCES = 2,
    ERRNO_AGAIN = 6,
    ERRNO_BADF = 8,
    ERRNO_CONNRESET = 15,
    ERRNO_DQUOT = 19,
    ERRNO_FBIG = 22,
    ERRNO_ILSEQ = 25,
    ERRNO_INVAL = 28,
    ERRNO_IO = 29,
    ERRNO_ISDIR = 31,
    ERRNO_LOOP = 32,
    ERRNO_MFILE = 33,
    ERRNO_NAMETOOLONG = 37,
    ERRNO_NOENT = 44,
    ERRNO_NOMEM = 48,
    ERRNO_NOSPC = 51,
    ERRNO_NOTCONN = 53,
    ERRNO_NOTDIR = 54,
    ERRNO_NXIO = 60,
    ERRNO_PERM = 63,
    ERRNO_PIPE = 64,
    ERRNO_SPIPE = 70,
    ERRNO_TIMEDOUT = 73,
    ERRNO_NOTCAPABLE = 76,
    BUFFER_SIZE = 8,
    BUFFER_LENGTH = 4
};

static inline uint32_t load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t load64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* wasi.c */
/* Returns whether reads and writes of a file of this mode never block. A closed descriptor does not
 * block either. */
int pl_wasi_never_waits(mode_t mode);
/* Reads the guest's clock `id` in nanoseconds. Returns 1, or 0 if there is no such clock. */
int pl_wasi_read_clock(const pl_process *process, uint32_t id, uint64_t *now);

/* wasi_call.c */
pl_trap *pl_wasi_refuse(const pl_process *process, pl_value *values, int32_t number);
/* Checks a pointer as wasmtime does: `size` bytes within a memory of `limit` bytes, with this
 * alignment. Otherwise the call is refused. */
int pl_wasi_is_pointer(const pl_process *process, uint64_t address, uint64_t size,
                       uint64_t alignment, uint64_t limit, pl_value *values, pl_trap **trap);
/* To be called before each call that wasmtime executes in its runtime. Returns 0, or the error
 * number for the guest. With the process. */
int32_t pl_wasi_begin_file_call(void);
/* A call with pointers into the private memory. With the process. */
pl_trap *pl_wasi_call_shim(const pl_process *process, const pl_func *target, pl_value *values,
                           size_t count);
/* A call with the guest's own pointers. With the process. */
pl_trap *pl_wasi_forward_one(const pl_wasi_call *call, pl_value *values, size_t count);
/* The same for a call that wasmtime executes in its runtime. */
pl_trap *pl_wasi_forward_file_call(const pl_wasi_call *call, pl_value *values, size_t count);
void pl_wasi_enter_process(const pl_wasi_call *call);
void pl_wasi_leave_process(const pl_wasi_call *call);
/* The same for a call that uses the private memory or `naming`: no other code may run on this
 * thread meanwhile. So the store's epoch callback is deferred; it runs right afterwards, because it
 * may have been due. */
void pl_wasi_enter_private(const pl_wasi_call *call);
void pl_wasi_leave_private(const pl_wasi_call *call);

/* wasi_streams.c */
/* Returns whether a wait has to end early: the linker is cancelled, or `check` or the delivery of a
 * nudge returned nonzero. Requires that no lock is held: a signal handler of Python or of the guest
 * may run in here, and call the guest. */
int pl_wasi_must_stop(const pl_wasi_call *call);
/* Sleeps until `deadline` on pl_now's clock. Returns 0, or -1 if it must stop before. */
int pl_wasi_sleep_until(const pl_wasi_call *call, int64_t deadline);
/* fd_write(descriptor, buffers, count, written): wasmtime's own writes only the first buffer that
 * is not empty, and the guest has to call again. Here all are written, so that a line of several
 * parts is not torn. With the process. */
pl_trap *pl_wasi_write_all(const pl_wasi_call *call, pl_value *values);
/* Returns the stream that is the guest's descriptor `place` now, or NULL. */
struct stream *pl_wasi_stream_at(pl_process *process, uint32_t place);
int pl_wasi_is_input(const pl_process *process, const struct stream *stream);
/* Returns the directory that is the guest's descriptor `place` now, or NULL. With the process. */
struct directory *pl_wasi_directory_at(pl_process *process, uint32_t place);
/* Update the places after a successful fd_close(descriptor) or fd_renumber(from, to). With the
 * process. */
void pl_wasi_follow_close(pl_process *process, uint32_t descriptor);
void pl_wasi_follow_renumber(pl_process *process, uint32_t from, uint32_t to);
/* Polls the host's descriptors until one is ready, or until `deadline` on pl_now's clock (negative:
 * none). Returns 1, or 0 at the deadline, or -1 if it must stop. */
int pl_wasi_wait_for(const pl_wasi_call *call, struct pollfd *polled, nfds_t count,
                     int64_t deadline);
/* fd_read(descriptor, buffers, count, done) and fd_write of a standard stream. A read returns the
 * available bytes, a write returns when all is written. Without the process, so that a wait here
 * delays no call of another thread. */
pl_trap *pl_wasi_move_stream(const pl_wasi_call *call, const struct stream *stream,
                             pl_value *values);

/* wasi_poll.c */
/* poll_oneoff(subscriptions, events, count, found). All its waits are here. */
pl_trap *pl_wasi_poll_all(const pl_wasi_call *call, pl_value *values);

/* wasi_paths.c */
/* Holds `naming` across fork, so that the only thread of the child, the one that forked, owns
 * it. */
void pl_wasi_keep_naming_over_fork(void);
/* path_open(directory, flags, path, length, how, rights, inherited, descriptor flags, result)
 * and path_filestat_set_times(directory, flags, path, length, ...), which opens the file that it
 * changes. */
pl_trap *pl_wasi_open_path(const pl_wasi_call *call, pl_value *values, size_t count);
/* path_link, path_rename and path_symlink. */
pl_trap *pl_wasi_name_path(const pl_wasi_call *call, pl_value *values, size_t count);

#endif
