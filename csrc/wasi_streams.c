/* wasi_streams: the standard streams, and waiting for them. Discipline: that of wasi_impl.h. */
#include "wasi_impl.h"

int pl_wasi_must_stop(const pl_wasi_call *call) {
    return pl_cancel_cause(pl_shared_cancel(pl_group_shared(call->group))) != 0 ||
           (call->check != NULL && pl_epoch_on_main_thread() && call->check(call->handle) != 0) ||
           (pl_group_is_nudged(call->group) && pl_group_deliver(call->group) != 0);
}

int pl_wasi_sleep_until(const pl_wasi_call *call, int64_t deadline) {
    pl_event *event = pl_shared_sleepers(pl_group_shared(call->group));
    pl_cancel *cancel = pl_shared_cancel(pl_group_shared(call->group));
    int64_t due = pl_now() + PL_SLICE; /* of the next check, which may take the GIL */
    for (;;) {
        uint32_t key = pl_event_prepare(event);
        if (pl_cancel_cause(cancel) != 0) {
            return -1;
        }
        int64_t now = pl_now();
        if (now >= deadline) {
            return 0;
        }
        if (now >= due) {
            if (pl_wasi_must_stop(call)) {
                return -1;
            }
            due = now + PL_SLICE;
        }
        pl_event_wait(event, key, deadline < due ? deadline : due);
    }
}

pl_trap *pl_wasi_write_all(const pl_wasi_call *call, pl_value *values) {
    const pl_value asked[4] = {values[0], values[1], values[2], values[3]};
    uint64_t buffers = (uint32_t)asked[1].i32, count = (uint32_t)asked[2].i32,
             written = (uint32_t)asked[3].i32;
    uint64_t size = pl_memory_size(call->context, &call->memory);
    if (count < 2 || count > PL_WASI_MOST || buffers + count * BUFFER_SIZE > size ||
        written + 4 > size) {
        return pl_wasi_forward_file_call(call, values, 4);
    }
    uint8_t *memory = pl_memory_data(call->context, &call->memory);
    uint32_t total = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t buffer = buffers + i * BUFFER_SIZE;
        uint32_t wanted = load32(memory + buffer + BUFFER_LENGTH);
        if (wanted == 0 && (total != 0 || i + 1 < count)) {
            continue; /* if all are empty, only the descriptor is checked */
        }
        memcpy(values, asked, sizeof asked);
        values[1].i64 = (int64_t)buffer;
        values[2].i64 = 1;
        pl_trap *trap = pl_wasi_forward_file_call(call, values, 4);
        if (trap != NULL) {
            return trap;
        }
        if (values[0].i32 != 0) {
            if (total == 0) {
                return NULL;
            }
            break; /* reports the bytes written so far */
        }
        uint32_t done = load32(memory + written);
        total += done;
        if (done < wanted) {
            break;
        }
    }
    memcpy(memory + written, &total, sizeof total);
    values[0].i64 = 0;
    return NULL;
}

struct stream *pl_wasi_stream_at(pl_process *process, uint32_t place) {
    for (int i = 0; i < PL_WASI_STREAMS; i++) {
        if (atomic_load_explicit(&process->streams[i].place, memory_order_relaxed) == place) {
            return process->streams + i;
        }
    }
    return NULL;
}

int pl_wasi_is_input(const pl_process *process, const struct stream *stream) {
    return stream == process->streams;
}

struct directory *pl_wasi_directory_at(pl_process *process, uint32_t place) {
    for (size_t i = 0; i < process->directory_count; i++) {
        if (process->directories[i].place == place) {
            return process->directories + i;
        }
    }
    return NULL;
}

static void move_place(pl_process *process, uint32_t from, uint32_t to) {
    struct stream *stream = pl_wasi_stream_at(process, from);
    struct directory *directory = pl_wasi_directory_at(process, from);
    if (stream != NULL) {
        atomic_store_explicit(&stream->place, to, memory_order_relaxed);
    }
    if (directory != NULL) {
        directory->place = to;
    }
}

void pl_wasi_follow_close(pl_process *process, uint32_t descriptor) {
    move_place(process, descriptor, NOWHERE);
}

void pl_wasi_follow_renumber(pl_process *process, uint32_t from, uint32_t to) {
    if (from == to) {
        return;
    }
    pl_wasi_follow_close(process, to);
    move_place(process, from, to);
}

static int32_t number_of_errno(int error) {
    static const struct {
        int host;
        int32_t guest;
    } numbers[] = {
        {EBADF, ERRNO_BADF},   {ECONNRESET, ERRNO_CONNRESET}, {EDQUOT, ERRNO_DQUOT},
        {EFBIG, ERRNO_FBIG},   {EINVAL, ERRNO_INVAL},         {EISDIR, ERRNO_ISDIR},
        {ENOMEM, ERRNO_NOMEM}, {ENOSPC, ERRNO_NOSPC},         {ENOTCONN, ERRNO_NOTCONN},
        {ENXIO, ERRNO_NXIO},   {EPERM, ERRNO_PERM},           {EPIPE, ERRNO_PIPE},
        {ESPIPE, ERRNO_SPIPE}, {ETIMEDOUT, ERRNO_TIMEDOUT},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].host == error) {
            return numbers[i].guest;
        }
    }
    return ERRNO_IO;
}

/* Calls poll with a deadline on pl_now's clock. */
static int poll_until(struct pollfd *polled, nfds_t count, int64_t now, int64_t deadline) {
    int64_t left = deadline > now ? deadline - now : 0;
#if defined(__linux__)
    struct timespec time = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    return ppoll(polled, count, &time, NULL);
#else
    return poll(polled, count, (int)((left + 999999) / 1000000)); /* a slice at most */
#endif
}

int pl_wasi_wait_for(const pl_wasi_call *call, struct pollfd *polled, nfds_t count,
                     int64_t deadline) {
    pl_cancel *cancel = pl_shared_cancel(pl_group_shared(call->group));
    int64_t due = pl_now() + PL_SLICE;
    for (;;) {
        if (pl_cancel_cause(cancel) != 0) {
            return -1;
        }
        int64_t until = deadline >= 0 && deadline < due ? deadline : due;
        int ready = poll_until(polled, count, pl_now(), until);
        if (ready > 0) {
            return 1;
        }
        /* the host is out of memory: poll again later */
        if (ready < 0 && errno != EINTR && pl_wasi_sleep_until(call, until) != 0) {
            return -1;
        }
        int64_t now = pl_now();
        /* EINTR: a signal of this thread, perhaps with a handler in Python */
        if (ready < 0 || now >= due) {
            if (pl_wasi_must_stop(call)) {
                return -1;
            }
            now = pl_now();
            due = now + PL_SLICE;
        }
        if (deadline >= 0 && now >= deadline) {
            return 0;
        }
    }
}

static ssize_t move_bytes(int descriptor, int writing, const struct iovec *parts, int count) {
    return writing ? writev(descriptor, parts, count) : readv(descriptor, parts, count);
}

/* The same for a stream of this process alone: -1 and EAGAIN if it would block. A FIFO that no
 * writer has opened yet reads as end of file; poll tells the difference. */
static ssize_t move_own_bytes(const struct stream *stream, int writing, const struct iovec *parts,
                              int count) {
    for (;;) {
        ssize_t moved = move_bytes(stream->descriptor, writing, parts, count);
        if (moved != 0 || writing || !stream->is_fifo) {
            return moved;
        }
        struct pollfd polled = {.fd = stream->descriptor, .events = POLLIN, .revents = 0};
        if (poll(&polled, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
        if (!(polled.revents & POLLIN)) {
            return 0;
        } /* otherwise a writer has opened it, and written */
    }
}

/* Reads or writes without blocking: -1 and EAGAIN if that is not possible. The open file
 * description is shared with other processes, so this function must not set O_NONBLOCK, and a poll
 * before it is not reliable: another process may be faster. */
static ssize_t move_without_waiting(int descriptor, int writing, const struct iovec *parts,
                                    int count) {
    struct stat status;
    if (fstat(descriptor, &status) != 0 || pl_wasi_never_waits(status.st_mode)) {
        return move_bytes(descriptor, writing, parts, count);
    }
    if (S_ISSOCK(status.st_mode)) {
        struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (unsigned)count};
#if defined(MSG_NOSIGNAL)
        return writing ? sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
                       : recvmsg(descriptor, &message, MSG_DONTWAIT);
#else
        return writing ? sendmsg(descriptor, &message, MSG_DONTWAIT)
                       : recvmsg(descriptor, &message, MSG_DONTWAIT);
#endif
    }
#if defined(RWF_NOWAIT)
    ssize_t moved = writing ? pwritev2(descriptor, parts, count, -1, RWF_NOWAIT)
                            : preadv2(descriptor, parts, count, -1, RWF_NOWAIT);
    if (moved >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)) {
        return moved;
    }
#endif
#if defined(__linux__)
    /* A terminal, or a pipe of an older kernel: reopened, it is not shared. */
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    int again = open(path, (writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (again >= 0) {
        ssize_t done = move_bytes(again, writing, parts, count);
        int error = errno;
        close(again);
        errno = error;
        return done;
    }
#endif
    /* Otherwise poll first. A writable pipe accepts PIPE_BUF bytes, any other device at least
     * one. */
    struct pollfd polled = {.fd = descriptor, .events = writing ? POLLOUT : POLLIN, .revents = 0};
    if (poll(&polled, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    size_t most = S_ISFIFO(status.st_mode) ? PIPE_BUF : 1;
    struct iovec part = {.iov_base = parts[0].iov_base,
                         .iov_len = parts[0].iov_len < most ? parts[0].iov_len : most};
    return writing ? move_bytes(descriptor, 1, &part, 1) : move_bytes(descriptor, 0, parts, count);
}

enum {
    PARTS = 128, /* buffers of the guest in one system call */
    /* in one system call: the end of the program is detected between two of them */
    BYTES_MOST = 1 << 20
};

/* The buffers of fd_read and fd_write, and the progress. */
struct buffers {
    uint64_t at, count; /* in the guest's memory: a list of addresses and lengths */
    uint64_t index, offset;
    uint32_t total;
};

/* Collects the next buffers that are not empty. Returns how many, or -1 if one is out of bounds.
 * The guest may change them meanwhile. */
static int next_parts(const struct buffers *buffers, uint8_t *memory, uint64_t size,
                      struct iovec *parts) {
    uint64_t offset = buffers->offset, bytes = 0;
    int count = 0;
    for (uint64_t i = buffers->index; i < buffers->count && count < PARTS && bytes < BYTES_MOST;
         i++) {
        uint64_t address = load32(memory + buffers->at + i * BUFFER_SIZE);
        uint64_t length = load32(memory + buffers->at + i * BUFFER_SIZE + BUFFER_LENGTH);
        if (address + length > size) {
            return -1;
        }
        if (length > offset) {
            uint64_t part =
                length - offset < BYTES_MOST - bytes ? length - offset : BYTES_MOST - bytes;
            parts[count++] = (struct iovec){.iov_base = memory + address + offset, .iov_len = part};
            bytes += part;
        }
        offset = 0;
    }
    return count;
}

/* Advances by `bytes`. */
static void advance(struct buffers *buffers, const uint8_t *memory, uint64_t bytes) {
    buffers->total += (uint32_t)bytes;
    for (; buffers->index < buffers->count; buffers->index++, buffers->offset = 0) {
        uint64_t length =
            load32(memory + buffers->at + buffers->index * BUFFER_SIZE + BUFFER_LENGTH);
        uint64_t left = length > buffers->offset ? length - buffers->offset : 0;
        if (bytes < left) {
            buffers->offset += bytes;
            return;
        }
        bytes -= left;
    }
}

pl_trap *pl_wasi_move_stream(const pl_wasi_call *call, const struct stream *stream,
                             pl_value *values) {
    pl_process *process = call->process;
    int writing = call->kind == PL_WASI_WRITE;
    struct buffers buffers = {.at = (uint32_t)values[1].i32, .count = (uint32_t)values[2].i32};
    uint64_t result = (uint32_t)values[3].i32, size = pl_memory_size(call->context, &call->memory);
    pl_trap *trap = NULL;
    if (writing == pl_wasi_is_input(process, stream)) {
        values[0].i64 = ERRNO_BADF;
        return NULL;
    }
    if (buffers.count > PL_WASI_MOST) {
        values[0].i64 = ERRNO_INVAL;
        return NULL;
    }
    if (!pl_wasi_is_pointer(process, buffers.at, buffers.count * BUFFER_SIZE, 4, size, values,
                            &trap) ||
        !pl_wasi_is_pointer(process, result, 4, 4, size, values, &trap)) {
        return trap;
    }
    for (;;) {
        /* A thread or a signal handler may have grown the memory meanwhile. */
        struct iovec parts[PARTS];
        uint8_t *memory = pl_memory_data(call->context, &call->memory);
        int count =
            next_parts(&buffers, memory, pl_memory_size(call->context, &call->memory), parts);
        if (count < 0 && buffers.total == 0) {
            return pl_wasi_refuse(process, values, process->fault);
        }
        if (count <= 0 || buffers.total > INT32_MAX - BYTES_MOST) {
            break;
        }
        ssize_t moved = stream->owned
                            ? move_own_bytes(stream, writing, parts, count)
                            : move_without_waiting(stream->descriptor, writing, parts, count);
        if (moved >= 0) {
            advance(&buffers, memory, (uint64_t)moved);
            if (!writing || moved == 0) {
                break;
            }
            if (pl_cancel_cause(pl_shared_cancel(pl_group_shared(call->group))) != 0) {
                return pl_trap_of("interrupted");
            }
            continue;
        }
        int error = errno, stop = 0;
        if (error == EAGAIN || error == EWOULDBLOCK) {
            struct pollfd polled = {
                .fd = stream->descriptor, .events = writing ? POLLOUT : POLLIN, .revents = 0};
            stop = pl_wasi_wait_for(call, &polled, 1, -1) < 0;
        } else if (error == EINTR) {
            stop = pl_wasi_must_stop(call);
        } else if (buffers.total == 0) {
            values[0].i64 = number_of_errno(error);
            return NULL;
        } else {
            break; /* reports the bytes written so far */
        }
        if (stop) {
            return pl_trap_of("interrupted");
        }
    }
    memcpy(pl_memory_data(call->context, &call->memory) + result, &buffers.total,
           sizeof buffers.total);
    values[0].i64 = 0;
    return NULL;
}
